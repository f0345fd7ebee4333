"""What people have answered in the tool, image by image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_S = 3600.0  # for which an image counts as being looked at: people leave pages open
_KEPT = (  # of an annotation: others say how long ago something was
    *("id", "result", "was_cancelled", "ground_truth", "lead_time"),
    *("completed_by", "created_at", "updated_at"),
)


@dataclass(frozen=True, kw_only=True)
class ReviewTask:
    """An image in the tool: what people have submitted, as its API gives it, and how often somebody has skipped it."""

    entry: str
    annotations: Sequence[Mapping[str, Any]]
    skipped: int

    @property
    def export(self) -> dict[str, Any]:
        """The task as the tool exports it, the same as long as nobody changes it; the image is its entry."""
        kept = [{name: each[name] for name in _KEPT if name in each} for each in self.annotations]
        return {"data": {"image": self.entry}, "annotations": kept}

    @property
    def is_open(self) -> bool:
        """Whether nobody has submitted or skipped it."""
        return not self.annotations and not self.skipped

    @property
    def seconds(self) -> float | None:
        """For how long people had it open, an hour at most; None if the tool does not tell."""
        told = [each.get("lead_time") for each in self.annotations]
        known = [float(each) for each in told if isinstance(each, int | float) and math.isfinite(each) and each >= 0]
        return min(sum(known), LONGEST_S) if known else None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What has come back of a round: the images that somebody has submitted or skipped, and how many are open."""

    submitted: tuple[ReviewTask, ...]
    skipped_entries: tuple[str, ...]
    still_open: int

    @property
    def skipped(self) -> int:
        """How many images were skipped."""
        return len(self.skipped_entries)

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long people had an image open, by its entry, where the tool tells."""
        return {task.entry: task.seconds for task in self.submitted if task.seconds is not None}


def sort_answers(entries: Sequence[str], tasks: Mapping[str, ReviewTask]) -> Answers:
    """Return the answers about the images of a round; the tool may lack some, and have others."""
    ours = [tasks[entry] for entry in entries if entry in tasks]
    submitted = tuple(task for task in ours if task.annotations)
    skipped = tuple(task.entry for task in ours if not task.annotations and not task.is_open)
    still_open = len(entries) - len(submitted) - len(skipped)
    return Answers(submitted=submitted, skipped_entries=skipped, still_open=still_open)
