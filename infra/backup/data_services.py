"""PostgreSQL and the object store alone, for who fills them or changes what is in them while nothing else runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra import postgres, preflight, stack, supervisord
from infra.environment import apply_environment, inherited_environment, worker_environment
from infra.services import prepare_object_store, services
from infra.stack_settings import StackSettings
from infra.temporary import make_temporary_folder

NAMES = ("postgres", "object-store")


@contextmanager
def data_services(settings: StackSettings) -> Iterator[None]:
    """Run those of them that are not elsewhere in the block; the environment is that of a flow run then.

    Raises:
        StackError: A port is taken, or one does not start.
    """
    stack.keep_private(settings.state_dir)
    apply_environment(worker_environment(settings), local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    wanted = [service for service in services(settings) if service.name in NAMES]
    preflight.require_free_ports(wanted, settings)
    if any(service.name == "postgres" for service in wanted):
        postgres.prepare(settings)
    prepare_object_store(settings)
    make_temporary_folder(settings)
    try:
        supervisord.start(settings, supervisord.write_configuration(settings, wanted), inherited_environment(settings))
        settings.remember()  # so that who comes after a kill finds what was started
        for service in wanted:
            supervisord.start_service(settings, service.name)
        stack.wait_until_healthy(wanted, settings, lambda _: None)
        yield
    finally:
        stack.down(settings)
