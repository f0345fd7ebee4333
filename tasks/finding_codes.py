"""The vocabulary of the dataset check: every code that a finding may have. It is public, so codes never change."""

from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self


class Code(StrEnum):
    """What can be wrong with an archive: how grave that is, and in words what it means."""

    severity: str
    meaning: str

    def __new__(cls, value: str, severity: str, meaning: str) -> Self:
        """Return the member for a row of this table."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.severity = severity
        member.meaning = meaning
        return member

    @property
    def is_advice(self) -> bool:
        """Whether a policy may raise its findings to errors, or ignore them, unless they are errors."""
        return self.severity != "error"

    ARCHIVE_UNREADABLE = "archive-unreadable", "error", "not a zip, cut short, a bad checksum, or encrypted entries"
    ARCHIVE_UNSAFE_PATH = (
        "archive-unsafe-path",
        "error",
        "absolute paths, '..', drive letters, links, device files, control characters",
    )
    ARCHIVE_TOO_LARGE = (
        "archive-too-large",
        "error",
        "size, number of entries or packing ratio over the policy's limits",
    )
    ARCHIVE_DUPLICATE_ENTRY = (
        "archive-duplicate-entry",
        "error",
        "a name twice, or names that differ by case or Unicode form only",
    )
    ARCHIVE_NESTED_ROOT = "archive-nested-root", "info", "everything lies under one folder; it is read from there"
    ARCHIVE_JUNK = (
        "archive-junk",
        "info; warning for images with a hidden name",
        "files that are not part of a dataset; the check ignores them. A warning if images are hidden",
    )
    ARCHIVE_NAMES = (
        "archive-names",
        "warning; error for unsure class names",
        "names whose charset had to be guessed; an error if the guess is unsure and class names depend on it",
    )
    YAML_MISSING = "yaml-missing", "error", "no data.yaml"
    YAML_SEVERAL = "yaml-several", "error", "more than one data.yaml"
    YAML_INVALID = "yaml-invalid", "error", "a data.yaml that cannot be read"
    YAML_EXECUTABLE = "yaml-executable", "error", "a download: key, which training tools would run"
    YAML_NAMES = "yaml-names", "error", "class names that are missing, duplicated, no text, or not as many as nc"
    YAML_PATH = (
        "yaml-path",
        "error; warning for a missing test folder, info for a path: of another machine",
        "a path in data.yaml or in a list that leads nowhere or out of the archive",
    )
    YAML_CHANNELS = (
        "yaml-channels",
        "error; warning for 1",
        "channels other than 3: models are trained and served on RGB",
    )
    SPLIT_MISSING = "split-missing", "error", "no train or no val"
    SPLIT_EMPTY = "split-empty", "error", "a split without images, or without a single label"
    SPLIT_LEAK = (
        "split-leak",
        "error for the same, warning for nearly the same",
        "the same image, or nearly the same, in two splits",
    )
    IMAGE_UNREADABLE = (
        "image-unreadable",
        "error",
        "an image that cannot be decoded in full, is too costly to decode, or has another format than its extension",
    )
    IMAGE_FORMAT = "image-format", "warning", "an image in a format that training does not read"
    IMAGE_TOO_SMALL = "image-too-small", "error", "a side below 10 pixels"
    IMAGE_EXIF_ROTATED = (
        "image-exif-rotated",
        "warning",
        "an EXIF orientation that rotates or mirrors: the boxes may have been drawn without it",
    )
    IMAGE_DUPLICATE = "image-duplicate", "warning", "the same bytes or the same pixels as another image"
    IMAGE_NEAR_DUPLICATE = "image-near-duplicate", "warning", "nearly the same as another image"
    IMAGE_QUALITY = (
        "image-quality",
        "info",
        "very dark, bright or blurred, of little information, of an odd size or shape",
    )
    IMAGE_UNLABELLED = "image-unlabelled", "warning", "more images without a label file than the policy allows"
    IMAGE_NO_SPLIT = "image-no-split", "warning", "images with labels that are in no split"
    LABEL_ORPHAN = "label-orphan", "warning", "a label file without its image"
    LABEL_AMBIGUOUS = "label-ambiguous", "error", "one label file for several images"
    LABEL_ENCODING = "label-encoding", "error", "a label file that is not UTF-8"
    LABEL_COLUMNS = (
        "label-columns",
        "error",
        "a line with the wrong number of columns for the task, or boxes and polygons mixed",
    )
    LABEL_NUMBER = (
        "label-number",
        "error",
        "a value that is not a finite decimal number, or a class that is not a whole number",
    )
    LABEL_CLASS = "label-class", "error", "a class that is not in names"
    LABEL_RANGE = "label-range", "error", "numbers outside 0 to 1, such as pixels; a visibility other than 0, 1 or 2"
    LABEL_OUTSIDE = "label-outside", "warning", "a box that leaves the image by more than 1 %"
    LABEL_DEGENERATE = (
        "label-degenerate",
        "error; warning for a polygon that crosses itself",
        "no width, height or area; as a warning: a polygon that crosses itself",
    )
    LABEL_DUPLICATE = "label-duplicate", "warning", "the same row twice"
    LABEL_OVERLAP = "label-overlap", "warning", "two boxes of one class that almost coincide"
    LABEL_TINY = "label-tiny", "info", "a side of less than 2 pixels at the training size"
    LABEL_HUGE = "label-huge", "info", "more than 98 % of the image"
    LABEL_KEYPOINT = (
        "label-keypoint",
        "warning",
        "a keypoint at 0 0 if kpt_shape has no visibility: it is trained as visible in the corner",
    )
    LABEL_OUTLINE = "label-outline", "info", "a polygon if data.yaml says task: detect: the box around it is used"
    LABEL_ORIGINS_BROKEN = (
        "label-origins-broken",
        "error",
        "a label-origins.parquet that cannot be read, lies in a folder, or names what is not there, or something twice",
    )
    PSEUDO_LABELS = "pseudo-labels", "info", "labels that a model has made: they are trained on, never measured on"
    PSEUDO_LABELS_OUTSIDE_TRAIN = (
        "pseudo-labels-outside-train",
        "error",
        "images in val or test with labels of a model, their own or those of a copy: a model agrees with a model",
    )
    CLASS_UNUSED = "class-unused", "warning", "a class without a label"
    CLASS_FEW = "class-few", "warning", "a class with fewer labels in train than the policy requires"
    CLASS_IMBALANCE = "class-imbalance", "warning", "a class with far more labels than another"
    CLASS_SPLIT = "class-split", "warning", "a class that is in train and not in val, or the reverse"
    CLASS_ORDER = "class-order", "warning", "classes.txt or notes.json gives a class another number than data.yaml"
    OUTLIER_BOX = "outlier-box", "info", "a box whose size or shape is far from all others of its class"


if TYPE_CHECKING:
    AdviceCode = Code
else:
    AdviceCode = Literal[tuple(code for code in Code if code.is_advice)]
