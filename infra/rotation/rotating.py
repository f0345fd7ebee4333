"""`make rotate-keys`: each password and key of a stack that is up gets a new value, and no request is lost.

1. Write down the new values beside the former ones. From now on the web services take both passwords.
2. Let the object store take both keys of each role, and give the other user of PostgreSQL a password: one user has one.
3. Put the new values in the place of the former ones, in what services read when they start.
4. Start the web services anew, one after the other. Behind the front door a request waits for the one that it is for.
5. Stop the workers, which hand their runs over; start Triton and Label Studio with new keys, and the workers again.
6. Let nobody in any longer by the former values, and try all of them, and all the new ones.

Each step does what is left of it, so a rotation that was killed at any line goes on when it is started again.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from infra import preflight, supervisord
from infra.command_errors import StackError
from infra.environment import apply_environment, worker_environment
from infra.identities import Role, secret_names
from infra.metrics import prometheus_services
from infra.person_keys import refresh_store
from infra.rotation import remote_keys, state
from infra.rotation.doors import Door, doors, store_doors
from infra.rotation.replacement import put_in_place
from infra.rotation.restarts import require_ready, restart_web_services, restart_workers
from infra.rotation.state import Rotation
from infra.stack_settings import (
    METRICS_USER,
    POSTGRES_USERS,
    SECRETS,
    StackSettings,
    new_secret,
)

Echo = Callable[[str], None]
_WHILE_DOWN = ("supervisor", "front_door")
_COMMANDS = "`make down`, `make rotate-keys`, `make up`"
KEPT = {
    "supervisor": f"supervisord, which keeps all services up, reads its password when it starts: {_COMMANDS}",
    "front_door": f"Caddy, where requests wait meanwhile, reads its secret when it starts: {_COMMANDS}",
    "admin_password": "only the first account had it, at first: `studio users reset-password admin`",
}
_OF_SERVICES = {  # what is of no use here if the service is elsewhere
    "PREFECT_API_URL": ("prefect",),
    "MLFLOW_TRACKING_URI": ("mlflow", "mlflow_forms"),
    "AWS_ENDPOINT_URL": tuple(name for role in Role for name in secret_names(role)),
    "TRITON_GRPC_URL": ("triton_key",),
}
_FILES = "`studio worker-env` and `studio triton-env`"
_TOLD = f"machines elsewhere have it, in files of {_FILES}: `studio rotate-keys --elsewhere` changes it, too"
_LATER = "the rotation that was cut short had begun without it: the same command once more changes it"
_GOES_ON = (
    "`studio up`, then `studio rotate-keys` goes on where it was: until it has ended, the former keys open the doors, "
    "too."
)
_WAIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Names of secrets that have new values, why others have not, and the flow runs that were handed over."""

    rotated: list[str]
    kept: Mapping[str, str]
    handed_over: list[str]


def rotate(settings: StackSettings, say: Echo, *, elsewhere: bool = False) -> Outcome:
    """Give every password and key of this stack a new value, but for those that only `make down` can change.

    Of a stack that is down, those get one.

    Args:
        settings: The stack.
        say: Told each step.
        elsewhere: Whether also what machines elsewhere have, from files of `worker-env` and `triton-env`, gets a new
            value: these machines are shut out until they get new files.

    Raises:
        StackError: Something is not as it has to be to begin or to go on, or a door is open or shut that should not be.
            What was done stays; started again, it goes on.
    """
    if settings.secrets_dir:
        raise StackError(
            f"Expected the secrets of a stack that `make up` has started, found those of containers, in "
            f"{settings.secrets_dir}: write new ones there, and start the containers anew."
        )
    if not (settings.state_dir / "secrets.json").exists():
        raise StackError(f"Expected a stack in {settings.state_dir}, found none. `studio up` makes one.")
    with state.alone(settings.state_dir):
        if supervisord.process(settings) is not None:
            with _told_if_stopped(settings):
                return _rotate_while_up(settings, say, elsewhere=elsewhere)
        if state.is_under_way(settings.state_dir):
            raise StackError(
                "Expected no rotation of the keys that has not ended, found one that was cut short, in a stack that is "
                f"down, where nothing ends it; nothing was changed. {_GOES_ON}"
            )
        if elsewhere:
            raise StackError(
                "Expected a stack that is up, of which alone the keys of machines elsewhere change; found one that is "
                "down: `studio up`, then this again."
            )
        return _rotate_while_down(settings, say)


@contextmanager
def _told_if_stopped(settings: StackSettings) -> Iterator[None]:
    """Whatever fails because the stack goes away is told as that."""
    try:
        yield
    except Exception as error:
        if supervisord.is_up(settings):
            raise
        raise StackError(f"Expected a stack that stays up meanwhile, found one that was stopped. {_GOES_ON}") from error


def _rotate_while_down(settings: StackSettings, say: Echo) -> Outcome:
    settings.write_secrets(settings.read_secrets() | {name: new_secret() for name in _WHILE_DOWN})
    say(f"{' and '.join(_WHILE_DOWN)} have new values from the next `make up` on; all others change while it is up")
    others = "it changes while the stack is up: `make up`, `make rotate-keys`"
    kept = {name: KEPT.get(name, others) for name in SECRETS if name not in _WHILE_DOWN}
    return Outcome(rotated=[*_WHILE_DOWN], kept=kept, handed_over=[])


def _rotate_while_up(settings: StackSettings, say: Echo, *, elsewhere: bool) -> Outcome:
    apply_environment(worker_environment(settings), local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    kept = kept_secrets(settings, elsewhere=elsewhere)
    rotation = state.read(settings.state_dir)
    if rotation is None:
        require_ready(settings)
        rotation = _begin(settings, kept)
        say("1/6 new values are written down")
    else:
        kept = {name: kept.get(name, _LATER) for name in SECRETS if name not in rotation.new}
        say("1/6 goes on with the new values of the rotation that was cut short")
    if not rotation.is_ending:
        rotation = _change_over(settings, rotation, say)
    settings = _now()
    _shut_to_former(settings, rotation)
    refused, opened = _try_all(settings, rotation)
    shut_out = sorted(_told(settings) & rotation.new.keys())
    remote_keys.forget(settings.state_dir, rotation.new)
    state.remove(settings.state_dir)
    if shut_out:
        say(f"  machines elsewhere had {', '.join(shut_out)}: print their files again, by {_FILES}")
    say(f"6/6 {refused} doors refuse the former values, and {opened} open to the new ones; these are kept:")
    for name, reason in kept.items():
        say(f"  {name}: {reason}")
    rotated = [name for name in SECRETS if name in rotation.new]
    return Outcome(rotated=rotated, kept=kept, handed_over=[str(run) for run in rotation.handed_over])


def _change_over(settings: StackSettings, rotation: Rotation, say: Echo) -> Rotation:
    """Have everything use the new values, while the former ones are as good."""
    _open_to_both(settings, rotation)
    say("2/6 object store and PostgreSQL take the former keys and the new ones")
    settings = _switch(settings, rotation)
    say(f"3/6 what services read when they start has the new values, and so has {settings.state_dir / 'env'}")
    restart_web_services(settings, say)
    say("4/6 the web services have new passwords")
    rotation = restart_workers(settings, rotation, say)
    say("5/6 workers, Triton and Label Studio have new keys")
    return state.write(settings.state_dir, rotation.model_copy(update={"is_ending": True}))


def _now() -> StackSettings:
    """The settings, with the secrets as they are now."""
    return StackSettings.load()


def kept_secrets(settings: StackSettings, *, elsewhere: bool) -> dict[str, str]:
    """Return the secrets that stay as they are while this stack is up, and why; `elsewhere` as of `rotate`."""
    kept = dict(KEPT)
    if not elsewhere:
        kept |= dict.fromkeys(sorted(_told(settings)), _TOLD)
    for variable, names in _OF_SERVICES.items():
        if settings.is_elsewhere(variable):
            kept |= dict.fromkeys(names, f"{variable} names a service elsewhere, whose keys are changed there")
    if not settings.runs_postgres:
        kept |= dict.fromkeys(("postgres", "metrics_postgres"), "no PostgreSQL runs here")
    return kept


def _told(settings: StackSettings) -> set[str]:
    """The secrets that machines elsewhere have."""
    of_tritons = {"triton_key"} if preflight.other_targets(settings) else set()
    return remote_keys.read(settings.state_dir) | of_tritons


def _begin(settings: StackSettings, kept: Mapping[str, str]) -> Rotation:
    former = settings.read_secrets()
    names = [name for name in SECRETS if name not in kept]
    rotation = Rotation(former={name: former[name] for name in names}, new={name: new_secret() for name in names})
    if settings.runs_postgres:
        user = settings.postgres_user
        other = next(each for each in POSTGRES_USERS if each != user)
        rotation = Rotation(
            former={**rotation.former, "postgres_user": user}, new={**rotation.new, "postgres_user": other}
        )
    return state.write(settings.state_dir, rotation)


def _open_to_both(settings: StackSettings, rotation: Rotation) -> None:
    if not settings.is_elsewhere("AWS_ENDPOINT_URL"):
        refresh_store(settings)
        _wait(settings, {name: (door, True) for name, door in store_doors(settings, rotation.new).items()})
    if settings.runs_postgres:
        with _database(settings) as cursor:
            _let_in(cursor, rotation.new["postgres_user"], rotation.new["postgres"])


@contextmanager
def _database(settings: StackSettings) -> Iterator[psycopg2.extensions.cursor]:
    with closing(psycopg2.connect(f"{settings.database_url}/postgres", connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def _let_in(cursor: psycopg2.extensions.cursor, user: str, password: str) -> None:
    """Give an owner of the databases a password, and make that user if there is none."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [user])
    verb = sql.SQL("CREATE" if cursor.fetchone() is None else "ALTER")
    statement = sql.SQL("{} ROLE {} LOGIN SUPERUSER PASSWORD {}")
    cursor.execute(statement.format(verb, sql.Identifier(user), sql.Literal(password)))


def _switch(settings: StackSettings, rotation: Rotation) -> StackSettings:
    """Have what starts from now on use the new values."""
    put_in_place(settings, rotation)
    settings = _now()
    if settings.metrics:
        prometheus_services.write_passwords(settings)
        if settings.runs_postgres:
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            password = sql.Literal(settings.secrets["metrics_postgres"])
            with _database(settings) as cursor:
                cursor.execute(statement.format(sql.Identifier(METRICS_USER), password))
    return settings


def _shut_to_former(settings: StackSettings, rotation: Rotation) -> None:
    if not settings.is_elsewhere("AWS_ENDPOINT_URL"):
        refresh_store(settings)
    if settings.runs_postgres:
        user = rotation.former["postgres_user"]
        with _database(settings) as cursor:
            cursor.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(user)))
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [user])


def _try_all(settings: StackSettings, rotation: Rotation) -> tuple[int, int]:
    """Try each door by the former values and by the new ones; returns how many refuse, and how many open."""
    shut, opening = doors(settings, rotation.former), doors(settings, rotation.new)
    former = {f"{name}, by the former value": (door, False) for name, door in shut.items()}
    _wait(settings, former | {f"{name}, by the new value": (door, True) for name, door in opening.items()})
    return len(shut), len(opening)


def _wait(settings: StackSettings, expected: Mapping[str, tuple[Door, bool]]) -> None:
    """Wait until each door opens, or does not, as is expected.

    Raises:
        StackError: One does not in time, or the stack is stopped.
    """
    deadline = time.monotonic() + _WAIT_S
    pending = dict(expected)
    while pending:
        found = {name: _try(door) for name, (door, _) in pending.items()}
        pending = {name: each for name, each in pending.items() if found[name] is not each[1]}
        if pending and not supervisord.is_up(settings):
            raise StackError(f"Expected {', '.join(pending)} to answer, found a stack that was stopped.")
        if pending and time.monotonic() > deadline:
            told = "; ".join(f"{name}: {_words(found[name])}" for name in pending)
            raise StackError(
                f"Expected each door to open to those who are to come in, and to nobody else, found after {_WAIT_S:g} "
                f"s: {told}. `studio status` shows the services; `studio rotate-keys` again goes on from here."
            )
        time.sleep(0.1)


def _try(door: Door) -> bool | str:
    try:
        return door()
    except Exception as error:  # noqa: BLE001 - whatever the client of a service raises that does not answer
        return str(error).splitlines()[0] if str(error) else type(error).__name__


def _words(found: bool | str) -> str:
    if isinstance(found, str):
        return found
    return "open" if found else "shut"
