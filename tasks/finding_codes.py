"""The vocabulary of the dataset check: every code that a finding may have. It is public, so codes never change."""

from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self


class Code(StrEnum):
    """What can be wrong with an archive; `meaning` says it in words.

    A policy may raise the findings of a code that `is_advice` to errors, or ignore them, unless they are errors.
    """

    meaning: str
    is_advice: bool

    def __new__(cls, value: str, meaning: str, is_advice: bool = False) -> Self:
        """Return the member for a row of this table."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.is_advice = is_advice
        return member

    ARCHIVE_UNREADABLE = "archive-unreadable", "not a zip, cut short, a bad checksum, or encrypted entries"
    ARCHIVE_UNSAFE_PATH = (
        "archive-unsafe-path",
        "absolute paths, '..', drive letters, links, device files, control characters",
    )
    ARCHIVE_TOO_LARGE = "archive-too-large", "more bytes or entries, or packed better, than the policy allows"
    ARCHIVE_DUPLICATE_ENTRY = (
        "archive-duplicate-entry",
        "a name twice, or names that differ by case or Unicode form only",
    )
    ARCHIVE_NESTED_ROOT = "archive-nested-root", "everything lies under one folder; it is read from there", True
    ARCHIVE_JUNK = (
        "archive-junk",
        "files that are no part of a dataset; they are ignored. A warning if images are hidden",
        True,
    )
    ARCHIVE_NAMES = (
        "archive-names",
        "names whose charset had to be guessed; an error if classes are named so and it is not sure",
        True,
    )
    YAML_MISSING = "yaml-missing", "no data.yaml"
    YAML_SEVERAL = "yaml-several", "more than one data.yaml"
    YAML_INVALID = "yaml-invalid", "a data.yaml that cannot be read"
    YAML_EXECUTABLE = "yaml-executable", "a download: key, which training tools would run"
    YAML_NAMES = "yaml-names", "class names that are missing, doubled or no text, or not as many as nc says"
    YAML_PATH = "yaml-path", "a path in data.yaml or in a list that leads nowhere or out of the archive", True
    YAML_CHANNELS = "yaml-channels", "channels other than 3: models are trained and served on RGB", True
    SPLIT_MISSING = "split-missing", "no train or no val"
    SPLIT_EMPTY = "split-empty", "a split without images, or without a single label"
    SPLIT_LEAK = "split-leak", "the same image, or nearly the same, in two splits", True
    IMAGE_UNREADABLE = (
        "image-unreadable",
        "an image that cannot be decoded in full or is too costly to decode, or whose ending is of another format",
    )
    IMAGE_FORMAT = "image-format", "an image of a format that training does not read", True
    IMAGE_TOO_SMALL = "image-too-small", "a side below 10 pixels"
    IMAGE_EXIF_ROTATED = (
        "image-exif-rotated",
        "an EXIF orientation that turns or mirrors: boxes may be drawn without it",
        True,
    )
    IMAGE_DUPLICATE = "image-duplicate", "the same bytes or the same pixels as another image", True
    IMAGE_NEAR_DUPLICATE = "image-near-duplicate", "nearly the same picture as another image", True
    IMAGE_QUALITY = (
        "image-quality",
        "very dark, bright or blurred, of little information, of an odd size or shape",
        True,
    )
    IMAGE_UNLABELLED = "image-unlabelled", "more images without a label file than the policy allows", True
    IMAGE_NO_SPLIT = "image-no-split", "labelled images that no split names", True
    LABEL_ORPHAN = "label-orphan", "a label file without its image", True
    LABEL_AMBIGUOUS = "label-ambiguous", "one label file for several images"
    LABEL_ENCODING = "label-encoding", "a label file that is not UTF-8"
    LABEL_COLUMNS = (
        "label-columns",
        "a line with another number of columns than the task has, or boxes and polygons mixed",
    )
    LABEL_NUMBER = "label-number", "something that is no finite decimal number, or a class that is no whole number"
    LABEL_CLASS = "label-class", "a class that is not in names"
    LABEL_RANGE = "label-range", "numbers outside 0 to 1, such as pixels; a visibility other than 0, 1 or 2"
    LABEL_OUTSIDE = "label-outside", "a box that leaves the image by more than 1 %", True
    LABEL_DEGENERATE = (
        "label-degenerate",
        "no width, height or area; as a warning: an outline that crosses itself",
        True,
    )
    LABEL_DUPLICATE = "label-duplicate", "the same row twice", True
    LABEL_OVERLAP = "label-overlap", "two boxes of one class that all but coincide", True
    LABEL_TINY = "label-tiny", "less than 2 pixels a side at the training size", True
    LABEL_HUGE = "label-huge", "more than 98 % of the image", True
    LABEL_KEYPOINT = (
        "label-keypoint",
        "a keypoint at 0 0 and no visibility in kpt_shape: it is trained as seen in the corner",
        True,
    )
    LABEL_OUTLINE = "label-outline", "an outline although data.yaml says task: detect: the box around it is taken", True
    CLASS_UNUSED = "class-unused", "a class without a label", True
    CLASS_FEW = "class-few", "a class with fewer labels in train than the policy requires", True
    CLASS_IMBALANCE = "class-imbalance", "a class that is labelled far more often than another", True
    CLASS_SPLIT = "class-split", "a class that train has and val never shows, or the reverse", True
    CLASS_ORDER = "class-order", "classes.txt or notes.json gives a class another number than data.yaml", True
    OUTLIER_BOX = "outlier-box", "a box whose size or shape is far from all others of its class", True


if TYPE_CHECKING:
    AdviceCode = Code
else:
    AdviceCode = Literal[tuple(code for code in Code if code.is_advice)]
