"""The local stack: started, stopped, and what it consists of."""

import asyncio
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from dotenv import dotenv_values

from infra import front_door, layout, leftovers, postgres, preflight, publish_predict, registration, stores, supervisord
from infra.command_errors import StackError
from infra.environment import apply_environment, inherited_environment, scratch, to_env_file, worker_environment
from infra.metrics.prometheus_services import write_files
from infra.notification_addresses import parse_addresses
from infra.rotation.state import is_under_way
from infra.services import MORE_TRITONS, prepare_object_store, s3_client, services
from infra.stack_settings import ADMIN, VARIABLES, StackSettings, is_address, write_private
from infra.supervisord import Service
from infra.temporary import fresh_folder, make_temporary_folder, remove_temporary
from tasks.errors import StudioError
from tasks.storage.object_names import Bucket

START_SECONDS = 180
WELL = "well"
CUT_SHORT = (
    "a rotation of the keys has not ended, until when the former ones are valid, too: `studio rotate-keys` ends it"
)
Echo = Callable[[str], None]


def up(settings: StackSettings, say: Echo = print) -> None:
    """Start what does not run, wait until all is well, and register buckets, pool and deployments.

    Raises:
        StackError: Nothing was started: the data is of another release, an address of STUDIO_NOTIFY or the file of
            pipelines is wrong, a port is taken, the live log has no place, or a service elsewhere is away. Or a
            service is not well in time.
    """
    began = time.monotonic()
    keep_private(settings.state_dir)
    apply_environment(worker_environment(settings), local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    layout.ensure(settings)
    wanted = services(settings)
    names = {service.name for service in wanted}
    preflight.require_loopback(settings)
    if settings.metrics:
        write_files(settings)  # a running stack reads the addresses of STUDIO_NOTIFY anew with each message
    preflight.require_external_services(settings)
    parse_addresses(settings.notify.get_secret_value())
    if settings.public:
        _check_oidc(settings)
    if _is_whole(settings, wanted):
        for service in wanted:
            say(_line(service))
        say(_passwords(settings))
        say(f"stack is already up; `studio down` stops it ({time.monotonic() - began:.1f} s)")
        return
    if not registration.is_of_these_sources(settings):
        # Imported late: what prefect imports reads PREFECT_API_URL.
        from infra.pipelines import read_pipelines

        read_pipelines()
    if supervisord.process(settings) is None:
        _require_parts(settings, wanted)
        _prepare_parts(settings, names)
        supervisord.start(settings, supervisord.write_configuration(settings, wanted), inherited_environment(settings))
        settings.remember()
    elif changed := sorted(names ^ supervisord.states(settings).keys()):
        raise StackError(
            f"The stack is up, with or without {', '.join(changed)}: `studio down` first, then this again."
        )
    write_private(settings.state_dir / "env", to_env_file(settings.person_environment))
    _start_in_order(settings, wanted, say)
    say(_passwords(settings))
    say(f"stack is up after {time.monotonic() - began:.0f} s")


def _require_parts(settings: StackSettings, wanted: list[Service]) -> None:
    """Check that each part can start, before the first of them does."""
    names = {service.name for service in wanted}
    if "triton" in names:
        preflight.require_triton(settings)
        preflight.require_local_targets(settings)
    if "label-studio" in names:
        preflight.require_label_studio(settings)
    if "prometheus" in names:
        preflight.require_prometheus(settings)
    front_door.require_front_door(settings)
    preflight.require_free_ports(wanted, settings)


def _prepare_parts(settings: StackSettings, names: Collection[str]) -> None:
    """Make the folders and files that parts expect."""
    _make_live_log_folder(settings)
    fresh_folder(scratch(settings))  # of runs that were killed
    if "postgres" in names:
        postgres.prepare(settings)
    prepare_object_store(settings)
    front_door.prepare_front_door(settings)
    make_temporary_folder(settings)


def keep_private(state: Path) -> None:
    """Make the state folder, and shut it to everybody else; root's database user may pass through it."""
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for name in ("logs", "prefect", "scratch", "ultralytics"):
        (state / name).mkdir(mode=0o700, exist_ok=True)
    for path in state.iterdir():
        status = path.lstat()
        if status.st_uid == os.geteuid() and not path.is_symlink():
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)


def _make_live_log_folder(settings: StackSettings) -> None:
    """Make it before the first request does: a folder that is missing is then no log that nobody has written to."""
    if settings.live_log_dir is None:
        return
    try:
        settings.live_log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"Expected a folder that can be made for the live log in STUDIO_LIVE_LOG_DIR; found {error}. Name another, "
            "or `studio up --no-live-log`."
        ) from error


def down(settings: StackSettings) -> bool:
    """Stop everything; nothing is left outside the state folder. False if nothing was running."""
    stopped = supervisord.stop(settings)
    remove_temporary(settings)
    (settings.state_dir / "env").unlink(missing_ok=True)
    return stopped


def _is_whole(settings: StackSettings, wanted: list[Service]) -> bool:
    """Whether nothing is left to start, to mend or to register."""
    states = supervisord.states(settings)
    if states.keys() != {service.name for service in wanted}:  # some were asked for, or are not wanted any more
        return False
    if any(states.get(service.name) != "RUNNING" or health_error(service) for service in wanted):
        return False
    present = {bucket["Name"] for bucket in s3_client(settings).list_buckets()["Buckets"]}
    known = (settings.state_dir / "env").is_file() and present >= {*Bucket}
    return known and registration.is_complete(settings)


def _start_in_order(settings: StackSettings, wanted: list[Service], say: Echo) -> None:
    """Stores first, then all servers side by side, and the worker when Prefect answers."""
    by_name = {service.name: service for service in wanted}

    def start(*names: str) -> None:
        for name in names:
            if name in by_name:
                supervisord.start_service(settings, name)

    def wait(*names: str) -> None:
        wait_until_healthy([by_name[name] for name in names if name in by_name], settings, say)

    start("postgres", "object-store")
    wait("postgres")
    if settings.public or by_name.keys() & {"prefect", "mlflow"}:
        stores.ensure_databases(settings)
    if settings.public:
        _ensure_accounts(settings, say)
    start("prefect", "mlflow")
    wait("object-store")
    stores.ensure_buckets(settings)
    if "triton" in by_name:
        publish_predict.publish(s3_client(settings))
    tritons = [name for name in by_name if name == "triton" or name.startswith(MORE_TRITONS)]
    start(*tritons, "studio", "label-studio", "front-door", "alert-sender", "alertmanager", "prometheus")
    wait("prefect")
    workers = [name for name in by_name if supervisord.WORKER in name]
    _register(settings, say, lambda: start(*workers))
    wait("mlflow", *tritons)
    if "triton" in by_name:
        publish_predict.ensure_served(settings, s3_client(settings))
        _remove_leftovers(settings, say)
    wait("studio", *workers, "label-studio", "front-door", "alert-sender", "alertmanager", "prometheus")


def _register(settings: StackSettings, say: Echo, start_workers: Callable[[], None]) -> None:
    """Make or mend what Prefect has to know, unless it does; workers begin as soon as they have a pool."""
    if registration.is_complete(settings):
        start_workers()
        return
    # Imported late: what prefect imports reads PREFECT_API_URL.
    from infra import bootstrap, notifications, pipelines

    bootstrap.ensure_work_pool()
    asyncio.run(bootstrap.ensure_automations())
    if asyncio.run(notifications.ensure_notifications(settings)):
        say("STUDIO_NOTIFY has no address now: nobody gets messages any more")
    start_workers()
    bootstrap.register_deployments()
    pipelines.register_pipelines(pipelines.read_pipelines())
    registration.remember(settings)


def _check_oidc(settings: StackSettings) -> None:
    """Refuse a provider of sign-ins that the front page could not ask."""
    from infra.accounts.bootstrap import oidc_client

    oidc_client(settings)


def _ensure_accounts(settings: StackSettings, say: Echo) -> None:
    """Make the tables of accounts, and the first admin if there is nobody."""
    # Imported late: without a front door there are no accounts.
    from infra.accounts.bootstrap import ensure_accounts

    if ensure_accounts(settings):
        say(f"  the first account is {ADMIN}; its password is STUDIO_ADMIN_PASSWORD in {settings.state_dir / 'env'}")


def _remove_leftovers(settings: StackSettings, say: Echo) -> None:
    try:
        for model in leftovers.remove_leftovers(s3_client(settings)):
            say(f"  what a rollout of {model} left aside is gone")
    except StudioError as error:
        say(f"  what rollouts left aside stays there: {error}")


def load_settings() -> StackSettings:
    """Return the settings of the stack that runs from this state folder, or of the one to start.

    A running stack goes on with the services elsewhere that it was started with.

    Raises:
        StackError: The environment names other ports, live log or front door than the running stack has.
    """
    settings = StackSettings.load()
    if supervisord.process(settings) is None:
        return settings
    kept = dotenv_values(settings.state_dir / "env")
    for address, names in VARIABLES.items():
        if is_address(os.environ.get(address, ""), kept.get(address) or ""):
            os.environ.update({name: kept[name] or "" for name in names if name in kept and not os.environ.get(name)})
    for name, value in {"STUDIO_LIVE_LOG_DIR": "", **settings.remembered}.items():
        wanted = settings.memory.get(name, value)
        if ("PORT" in name or "LIVE_LOG" in name or name.startswith("STUDIO_PUBLIC_")) and wanted != value:
            raise StackError(
                f"The stack is up with {name}={value}, not {wanted or 'none'}: `studio down` first, without {name}."
            )
    targets, wanted = kept.get("TRITON_TARGETS") or "", os.environ.get("TRITON_TARGETS", "")
    if wanted not in {"", targets}:
        raise StackError(
            f"The stack is up with TRITON_TARGETS={targets or 'none'}, not {wanted}: `studio down` first, without "
            "TRITON_TARGETS."
        )
    return settings


def wait_until_healthy(wanted: Iterable[Service], settings: StackSettings, say: Echo) -> None:
    """Wait until the checks of these services pass.

    Raises:
        StackError: One does not in time, and the message names the log to read; or the stack was stopped meanwhile.
    """
    pending = list(wanted)
    deadline = time.monotonic() + START_SECONDS
    while pending:
        if supervisord.process(settings) is None:
            names = ", ".join(service.name for service in pending)
            raise StackError(f"Expected a stack that starts {names}, found one that was stopped: `studio up`.")
        for service in [*pending]:
            reason = health_error(service)
            if reason is None:
                say(_line(service))
                pending.remove(service)
            elif time.monotonic() > deadline:
                log = supervisord.log_file(settings, service.name)
                raise StackError(f"{service.name} was not well after {START_SECONDS} s ({reason}); its log: {log}")
        time.sleep(0.2)


def _line(service: Service) -> str:
    return f"  {service.name:<17}{service.address}"


def _passwords(settings: StackSettings) -> str:
    lines = [f"the studio, Prefect and MLflow ask for a password each: they are in {settings.state_dir / 'env'}"]
    if settings.public and settings.public_tls == front_door.INTERNAL:
        lines.append(f"who comes by {settings.public_url} has to trust {front_door.root_certificate(settings)}")
    if is_under_way(settings.state_dir):
        lines.append(CUT_SHORT)
    return "\n".join(lines)


def health_error(service: Service) -> str | None:
    """Return why a service is not well, or None."""
    try:
        service.check()
    except Exception as error:  # noqa: BLE001 - whatever a health check raises is the answer
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def describe_services(settings: StackSettings) -> list[dict[str, str]]:
    """Return service, address, state of its process and health (`well`, or why not) of each service."""
    states = supervisord.states(settings)
    apply_environment(worker_environment(settings), local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    local = [
        {
            "service": service.name,
            "address": service.address,
            "process": states.get(service.name, "DOWN"),
            "health": health_error(service) or WELL,
        }
        for service in services(settings)
    ]
    elsewhere = [
        (name, settings.environment[name])
        for name in preflight.EXTERNAL_SERVICE_VARIABLES
        if settings.is_elsewhere(name)
    ]
    elsewhere += [("TRITON_TARGETS", address) for address in preflight.other_targets(settings)]
    return local + [
        {"service": name, "address": address, "process": "elsewhere", "health": ""} for name, address in elsewhere
    ]
