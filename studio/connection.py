"""Which services the command and the class talk to."""

import functools
from typing import TYPE_CHECKING

from tasks.errors import StudioError

if TYPE_CHECKING:
    from infra.stack_settings import StackSettings


class NotConnectedError(StudioError):
    """The stack is not up, and the environment names no services."""

    transient = True


def load_stack() -> "StackSettings":
    """Return the settings of the stack of this machine, which tell others how to reach it.

    Raises:
        NotConnectedError: There is none.
    """
    from infra import stack

    settings = stack.load_settings()
    if not _has_run(settings):
        raise NotConnectedError(
            f"Expected a stack that is up, found none in {settings.state_dir}. Start it with `studio up`."
        )
    return settings


def _has_run(settings: "StackSettings") -> bool:
    return (settings.state_dir / "env").is_file()


@functools.lru_cache(maxsize=1)
def connect(*, needs_triton: bool = True) -> None:
    """Point this process at the services that the environment names, and for the rest at the local stack.

    It has to come before the first import of prefect, which reads its address once. With `needs_triton` false a Triton
    may be missing among the services that the environment names.

    Raises:
        NotConnectedError: There are none.
    """
    from infra import environment, stack
    from infra.stack_settings import REVIEW_TOOLS, VARIABLES

    settings = stack.load_settings()
    optional = {*REVIEW_TOOLS, *(() if needs_triton else ("TRITON_GRPC_URL",))}
    needed = [name for name in VARIABLES if name not in optional]
    if not _has_run(settings) and not all(map(settings.is_elsewhere, needed)):
        raise NotConnectedError(
            f"Expected a stack that is up, found none in {settings.state_dir}. Start it with `studio up`, or name the "
            f"services in {', '.join(needed)}."
        )
    environment.apply_environment(
        environment.common_environment(settings) | settings.environment | environment.triton_environment(settings),
        local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"),
    )
