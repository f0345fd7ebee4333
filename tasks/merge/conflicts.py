"""Disagreements between archives: reported, never settled by a guess."""

from dataclasses import dataclass
from enum import StrEnum

from tasks.errors import expected_found_fix


class MergeCode(StrEnum):
    """What can be wrong with putting archives together."""

    PARTIAL_LABELS = "merge-partial-labels"
    LABELS = "merge-labels"
    SIMILAR_NAMES = "merge-similar-names"
    TASK = "merge-task"
    KEYPOINTS = "merge-keypoints"
    NO_CLASS = "merge-no-class"
    SPLIT_EMPTY = "merge-split-empty"
    GOLD = "merge-gold"
    PSEUDO_LABELS = "merge-pseudo-labels"
    UNKNOWN_CLASS = "merge-unknown-class"


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """One disagreement; `message` says what was expected, what was found and how to settle it.

    `fatal` conflicts stop the merge whatever the policy says: there is no dataset to train on. `settled` ones stop
    nothing: the message says how the training takes them.
    """

    code: MergeCode
    message: str
    fatal: bool = False
    settled: bool = False


def conflict(
    code: MergeCode, expected: str, found: str, fix: str, *, fatal: bool = False, settled: bool = False
) -> Conflict:
    """Return a conflict whose message says what was expected, what was found and how to settle it."""
    return Conflict(code=code, message=expected_found_fix(expected, found, fix), fatal=fatal, settled=settled)
