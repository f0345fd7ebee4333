"""Become one service of the stack in a container: `python -m infra.container SERVICE`.

The services are those of the local stack, with the same commands and environments. Where the others are, and the keys
that this one has, its container says: addresses in variables, secrets as files in the folder STUDIO_SECRETS_DIR.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from infra import front_door, layout, services, stack
from infra.command_errors import StackError
from infra.environment import inherited_environment, scratch, worker_environment
from infra.identities import Role, secret_names
from infra.initialization import OPTIONAL
from infra.metrics import prometheus_services
from infra.stack_settings import USER, StackSettings, read_secrets, with_user
from infra.supervisord import Service, bin_path
from infra.temporary import fresh_folder, make_temporary_folder

DRAIN_S = "20"  # with what ending takes it is less than the 60 s that compose gives
_CLIENT = ("prefect", "mlflow", "triton_key")  # what opens the other services
_PAGE = ("front_door", "accounts_postgres", "metrics", "metrics_postgres", "prometheus")
_WORKER = (*_CLIENT, "label_studio_token")
BACKUPS = "/mnt/backups"  # as a container has them
# What a profile of the compose file adds, by the setting that each service has to know it by.
_PARTS = {"public": "STUDIO_PUBLIC", "metrics": "STUDIO_METRICS"}


@dataclass(frozen=True)
class Program:
    """A service, its role in S3, the secrets without which nobody could use it, and those that it may have besides.

    `parts` are secrets of what profiles of the compose file add, a front door and metrics: a cluster has its own.
    `prepare` makes what the service expects to find.
    """

    make: Callable[[StackSettings], Service]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    role: Role | None = None
    parts: tuple[str, ...] = ()
    prepare: Callable[[StackSettings], object] = lambda _: None
    takes_arguments: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that its container is given, without those of `parts`."""
        links = secret_names(Role.LINKS) if self.role is Role.WORKER else ()
        role = secret_names(self.role) if self.role else ()
        return (*self.needs, *self.takes, *role, *links)


def _prefect_server(settings: StackSettings) -> Service:
    """Prefect's server, which copies its pages beside their source, where nothing can be written here."""
    service = services.prefect_server(settings)
    pages = {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.state_dir / "prefect-pages")}
    return replace(service, environment=service.environment | pages)


def _flow_run(settings: StackSettings) -> Service:
    """One flow run, whose id Prefect's Kubernetes worker has put into the environment."""
    return replace(services.worker(settings), name="flow-run", command=[bin_path("prefect"), "flow-run", "execute"])


def _command(*words: str) -> Callable[[StackSettings], Service]:
    """A command of `studio` that ends by itself."""

    def make(settings: StackSettings) -> Service:
        secrets = {name: os.environ[name] for name in ("STUDIO_POSTGRES_URL", "STUDIO_NOTIFY") if name in os.environ}
        return Service(
            name="-".join(words),
            address="",
            command=[sys.executable, "-m", "studio", *words],
            ports={},
            check=lambda: None,
            environment=inherited_environment(settings) | worker_environment(settings) | secrets,
        )

    return make


def _worker(settings: StackSettings) -> Service:
    return _draining(services.worker(settings))


def _training_worker(settings: StackSettings) -> Service:
    """The worker for trainings on the GPUs of this container, one at a time."""
    found = services.training_workers(settings)
    if len(found) != 1:
        raise StackError(
            f"expected GPUs for one training at a time, found {len(found)}: give each container its own, and name them "
            "in STUDIO_TRAINING_GPUS (`0`, or `0+1` for a training on both)"
        )
    return _draining(found[0])


def _draining(worker: Service) -> Service:
    """A container that goes leaves the others there: its runs go on elsewhere."""
    return replace(worker, command=[*worker.command, "--drain", DRAIN_S])


def _prepare_scratch(settings: StackSettings) -> None:
    fresh_folder(scratch(settings))  # of runs that were killed


def _prepare_front_door(settings: StackSettings) -> None:
    if not settings.public:
        raise StackError("expected `public` in COMPOSE_PROFILES of infra/.env, by which all services know of it")
    front_door.require_front_door(settings)
    front_door.prepare_front_door(settings)


def _prepare_backup(settings: StackSettings) -> None:
    layout.write(settings, layout.present())  # the images that run are those of a release


PROGRAMS: Mapping[str, Program] = {
    "prefect": Program(_prefect_server, ("prefect",), ("postgres", "label_studio_token"), parts=("front_door",)),
    "mlflow": Program(
        services.mlflow_server, ("mlflow", "mlflow_forms"), ("postgres",), Role.MLFLOW, parts=("front_door",)
    ),
    "object-store": Program(
        services.object_store,
        tuple(name for role in Role for name in secret_names(role)),
        prepare=services.prepare_object_store,
    ),
    "triton": Program(services.triton, ("triton_key",), (), Role.TRITON),
    "studio": Program(services.front_page, ("front_page",), (*_CLIENT, "s3_events_secret"), Role.PAGE, parts=_PAGE),
    "front-door": Program(front_door.front_door, ("front_door",), prepare=_prepare_front_door),
    "prometheus": Program(
        prometheus_services.prometheus,
        ("prometheus", "metrics"),
        ("alertmanager", "prefect"),
        prepare=prometheus_services.write_files,
    ),
    "alertmanager": Program(
        prometheus_services.alertmanager, ("alertmanager", "alert_sender"), prepare=prometheus_services.write_files
    ),
    "alert-sender": Program(
        prometheus_services.alert_sender, ("alert_sender",), ("notify",), prepare=prometheus_services.write_files
    ),
    "worker": Program(_worker, (), _WORKER, Role.WORKER, prepare=_prepare_scratch),
    "training-worker": Program(_training_worker, (), _WORKER, Role.WORKER, prepare=_prepare_scratch),
    "flow-run": Program(_flow_run, (), _WORKER, Role.WORKER, prepare=_prepare_scratch),
    "label-studio": Program(services.label_studio, ("label_studio_password", "label_studio_token")),
    "init-stores": Program(
        _command("init", "stores"),
        (),
        ("postgres",),
        Role.ADMIN,
        parts=("admin_password", "accounts_postgres", "metrics_postgres"),
    ),
    "init-prefect": Program(_command("init", "prefect"), (), ("prefect", "notify")),
    "users": Program(_command("users"), ("accounts_postgres",), takes_arguments=True),
    "backup": Program(
        _command("backup", BACKUPS),
        ("postgres", "prefect"),
        (),
        Role.ADMIN,
        prepare=_prepare_backup,
        takes_arguments=True,
    ),
    "restore": Program(_command("restore", BACKUPS), ("postgres",), (), Role.ADMIN, takes_arguments=True),
}


def variables(program: Program, secrets: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with the keys of a container, under the names that the tools know.

    Args:
        program: What runs in it.
        secrets: The content of its files, by name.
        environment: Its variables; STUDIO_POSTGRES_URL gets the password of file `postgres` if it has none, and
            COMPOSE_PROFILES says whether there is a front door and whether there are metrics.
    """
    profiles = environment.get("COMPOSE_PROFILES", "").split(",")
    found = {setting: "true" for profile, setting in _PARTS.items() if profile in profiles}
    if "prefect" in secrets:
        found["PREFECT_API_AUTH_STRING"] = f"{USER}:{secrets['prefect']}"
    if "mlflow" in secrets:
        found |= {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": secrets["mlflow"]}
    if "triton_key" in secrets:
        found["STUDIO_TRITON_KEY"] = secrets["triton_key"]
    if "label_studio_token" in secrets:
        found["LABEL_STUDIO_API_KEY"] = secrets["label_studio_token"]
    for prefix, role in (("AWS", program.role), ("STUDIO_LINKS", Role.LINKS)):
        if role and secrets.keys() >= {*secret_names(role)}:
            key, secret = (secrets[name] for name in secret_names(role))
            found |= {f"{prefix}_ACCESS_KEY_ID": key, f"{prefix}_SECRET_ACCESS_KEY": secret}
    found |= {f"STUDIO_{name.upper()}": secrets[name] for name in OPTIONAL if name in secrets}
    if (address := environment.get("STUDIO_POSTGRES_URL")) and "postgres" in secrets:
        found["STUDIO_POSTGRES_URL"] = _with_password(address, secrets["postgres"])
    return found


def _with_password(address: str, password: str) -> str:
    parts = urlsplit(address)
    if parts.password is not None:
        return address
    if not parts.username:
        raise StackError("expected STUDIO_POSTGRES_URL as postgresql://user@host:port, found one without a user")
    return with_user(address, parts.username, password)


def prepare(name: str, arguments: Sequence[str] = ()) -> Service:
    """Return the service, with its folders made and its keys in the environment of this process.

    Raises:
        StackError: There is none of that name, it takes no arguments, or a secret that it needs is missing.
        OSError: A secret cannot be read, or its folder in STUDIO_STATE_DIR not be written.
    """
    program = PROGRAMS.get(name)
    if program is None:
        raise StackError(f"expected one of {', '.join(PROGRAMS)}, found {name!r}")
    if arguments and not program.takes_arguments:
        raise StackError(f"expected no arguments, found {' '.join(arguments)!r}: name the service alone")
    folder = StackSettings.load().secrets_dir
    if folder is None or not folder.is_dir():
        raise StackError(f"expected the folder of the secrets in STUDIO_SECRETS_DIR, found {folder or 'none'}")
    secrets = read_secrets(folder)
    if missing := [secret for secret in program.needs if not secrets.get(secret)]:
        raise StackError(f"expected the secrets {', '.join(missing)} in {folder}: `studio init secrets` makes them")
    os.environ.update(variables(program, secrets, os.environ))
    settings = StackSettings.load()
    stack.keep_private(settings.state_dir)
    make_temporary_folder(settings)
    program.prepare(settings)
    service = program.make(settings)
    return replace(service, command=[*service.command, *arguments])


def main() -> None:
    """Replace this process by the service; exits with a message if that is not possible."""
    os.umask(0o077)
    name, *arguments = sys.argv[1:] or [""]
    try:
        service = prepare(name, arguments)
    except StackError as error:
        sys.exit(f"{name} cannot start: {error}")
    except OSError as error:
        sys.exit(f"{name} cannot start: expected secrets to read, and STUDIO_STATE_DIR to write to; found {error}")
    os.execve(service.command[0], service.command, service.environment)  # noqa: S606


if __name__ == "__main__":
    main()
