"""A rotation of the keys that is under way: what each password and key was, and what it is to be.

While its file is there, the doors of the stack take both. So nothing is refused in between, in whatever order services
learn the new values, and a rotation that was killed goes on with the same ones.
"""

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from infra.command_errors import StackError
from infra.stack_settings import StackSettings, write_private

FILE = "rotation.json"


class Rotation(BaseModel):
    """Values by the names of the secrets; those that are kept are in neither.

    `handed_over` are the flow runs that were at work when the workers were stopped, which was begun at
    `workers_ended_from`. A rotation that `is_ending` takes the former values no longer.
    """

    model_config = ConfigDict(frozen=True)

    former: Mapping[str, str]
    new: Mapping[str, str]
    workers_ended_from: AwareDatetime | None = None
    handed_over: tuple[UUID, ...] = ()
    is_ending: bool = False


def read(state: Path) -> Rotation | None:
    """Return the rotation that is under way in a state folder, if any.

    Raises:
        StackError: Its file is damaged.
    """
    path = state / FILE
    try:
        return Rotation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StackError(
            f"Expected a rotation of the keys in {path}, found what is none: {error}. Remove it, then `studio "
            "rotate-keys` again."
        ) from error


def write(state: Path, rotation: Rotation) -> Rotation:
    """Write it down, and return it."""
    write_private(state / FILE, rotation.model_dump_json())
    return rotation


def remove(state: Path) -> None:
    """Take the file away: the rotation has ended."""
    (state / FILE).unlink(missing_ok=True)


def is_under_way(state: Path) -> bool:
    """Return whether there is one."""
    return (state / FILE).exists()


def stalled_s(state: Path) -> float:
    """Return for how many seconds the rotation that is under way has not gone on; 0 if there is none."""
    try:
        return max(0.0, time.time() - (state / FILE).stat().st_mtime)
    except FileNotFoundError:
        return 0.0


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Have nobody else change the keys of a stack in the block, nor tell them to a machine elsewhere.

    Raises:
        StackError: Somebody does now.
    """
    with (state / "rotation.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                "Expected nobody else who changes these keys or tells them to a machine elsewhere, found a command "
                "that does: let it end, then this again."
            ) from None
        yield


def accepted(settings: StackSettings) -> list[dict[str, str]]:
    """Return the secrets that open the doors now: those of the stack, and both of a rotation until it ends."""
    current, rotation = settings.read_secrets(), read(settings.state_dir)
    if rotation is None or rotation.is_ending:
        return [current]
    return [current, current | dict(rotation.former), current | dict(rotation.new)]
