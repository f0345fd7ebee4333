"""What archives disagree about: told, never guessed away."""

from dataclasses import dataclass
from enum import StrEnum


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
    UNKNOWN_CLASS = "merge-unknown-class"


@dataclass(frozen=True)
class Conflict:
    """One disagreement; `message` says what was expected, what was found and how to settle it.

    `fatal` conflicts stop the merge whatever the policy says: there is no dataset to train on.
    """

    code: MergeCode
    message: str
    fatal: bool = False
