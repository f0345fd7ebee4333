"""What people have answered in the tool, image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST_S = 3600.0  # for which an image counts as being looked at: people leave pages open


@dataclass(frozen=True, kw_only=True)
class ReviewTask:
    """An image in the tool.

    Attributes:
        entry: Its name in the round.
        submitted: What people have submitted, as the tool exports an image, in JSON or XML; None if nobody has.
        skipped: Whether somebody has skipped it.
        set_aside: Whether somebody has set it aside: an object is missing that cannot be drawn there.
        seconds: For how long people had it open, an hour at most; None if the tool does not tell.
    """

    entry: str
    submitted: str | None = None
    skipped: bool = False
    set_aside: bool = False
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What has come back of a round.

    Attributes:
        submitted: What people have submitted of an image, by its entry, in the order of the round.
        seconds: How long people had such an image open, by its entry, where the tool tells.
        skipped_entries: The images that were skipped.
        set_aside_entries: The images that were set aside, for people who can draw what is missing.
        still_open: How many are open.
    """

    submitted: Mapping[str, str]
    seconds: Mapping[str, float]
    skipped_entries: tuple[str, ...]
    still_open: int
    set_aside_entries: tuple[str, ...] = ()

    @property
    def skipped(self) -> int:
        """How many images were skipped."""
        return len(self.skipped_entries)

    @property
    def set_aside(self) -> int:
        """How many images were set aside."""
        return len(self.set_aside_entries)

    @property
    def keep_nothing(self) -> bool:
        """Whether there is an answer about each image, and none has labels to keep."""
        return not self.submitted and not self.still_open


def sort_answers(entries: Sequence[str], tasks: Mapping[str, ReviewTask]) -> Answers:
    """Return the answers about the images of a round; the tool may lack some, and have others."""
    ours = [tasks[entry] for entry in entries if entry in tasks]
    submitted = {task.entry: task.submitted for task in ours if task.submitted is not None}
    others = [task for task in ours if task.submitted is None]
    set_aside = tuple(task.entry for task in others if task.set_aside)
    skipped = tuple(task.entry for task in others if task.skipped and not task.set_aside)
    return Answers(
        submitted=submitted,
        seconds={task.entry: task.seconds for task in ours if task.entry in submitted and task.seconds is not None},
        skipped_entries=skipped,
        set_aside_entries=set_aside,
        still_open=len(entries) - len(submitted) - len(skipped) - len(set_aside),
    )
