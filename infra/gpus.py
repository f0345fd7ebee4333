"""Which GPUs of this machine a worker may use."""

import fcntl
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import pynvml

from infra.command_errors import StackError

AUTOMATIC = "auto"
NOWHERE = "none"


def gpu_groups(wanted: str) -> list[tuple[str, ...]]:
    """Return the GPUs of each training worker; an empty group is a worker that takes what it finds, or the CPU.

    `auto` is one worker for each GPU, `none` no worker at all; `0,1` is a worker for each of the two, `0+1` one for
    both.

    Raises:
        StackError: It is no such text, or names a GPU twice.
    """
    if wanted == NOWHERE:
        return []
    if wanted == AUTOMATIC:
        found = list_gpus()
        return [(gpu,) for gpu in found] or [()]
    return _parse(wanted)


def hold(gpus: Iterable[str], folder: Path) -> ExitStack:
    """Take GPUs until what comes back is closed, or the process ends.

    Raises:
        StackError: Another worker of this stack has one.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        for gpu in gpus:
            file = held.enter_context((folder / f"{gpu}.lock").open("ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(
                    f"Expected GPU {gpu} to be free; found another worker of this stack that has it, and trainings do "
                    "not share one. Name another GPU, or leave this one out of STUDIO_TRAINING_GPUS and start the "
                    "stack again."
                ) from None
        return held.pop_all()


def _parse(wanted: str) -> list[tuple[str, ...]]:
    groups = [tuple(group.split("+")) for group in wanted.split(",")]
    named = [gpu for group in groups for gpu in group]
    if not all(gpu.isascii() and gpu.replace("-", "").isalnum() for gpu in named) or len({*named}) < len(named):
        raise StackError(
            f"Expected STUDIO_TRAINING_GPUS as `auto`, `none`, or GPUs by number, each once: `0,1` for a training on "
            f"each, `0+1` for trainings on both together; found {wanted!r}."
        )
    return groups


def list_gpus() -> list[str]:
    """Return the numbers of the GPUs that the driver shows, in the order of their slots; none without a driver."""
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
    return []
