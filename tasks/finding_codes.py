"""The vocabulary of the dataset check: every code that a finding may have. It is public, so codes never change."""

from enum import StrEnum
from typing import Literal


class Code(StrEnum):
    """What can be wrong with an archive; `MEANINGS` says it in words."""

    ARCHIVE_UNREADABLE = "archive-unreadable"
    ARCHIVE_UNSAFE_PATH = "archive-unsafe-path"
    ARCHIVE_TOO_LARGE = "archive-too-large"
    ARCHIVE_DUPLICATE_ENTRY = "archive-duplicate-entry"
    ARCHIVE_NESTED_ROOT = "archive-nested-root"
    ARCHIVE_JUNK = "archive-junk"
    ARCHIVE_NAMES = "archive-names"
    YAML_MISSING = "yaml-missing"
    YAML_SEVERAL = "yaml-several"
    YAML_INVALID = "yaml-invalid"
    YAML_EXECUTABLE = "yaml-executable"
    YAML_NAMES = "yaml-names"
    YAML_PATH = "yaml-path"
    YAML_CHANNELS = "yaml-channels"
    SPLIT_MISSING = "split-missing"
    SPLIT_EMPTY = "split-empty"
    SPLIT_LEAK = "split-leak"
    IMAGE_UNREADABLE = "image-unreadable"
    IMAGE_FORMAT = "image-format"
    IMAGE_TOO_SMALL = "image-too-small"
    IMAGE_EXIF_ROTATED = "image-exif-rotated"
    IMAGE_DUPLICATE = "image-duplicate"
    IMAGE_NEAR_DUPLICATE = "image-near-duplicate"
    IMAGE_QUALITY = "image-quality"
    IMAGE_UNLABELLED = "image-unlabelled"
    IMAGE_NO_SPLIT = "image-no-split"
    LABEL_ORPHAN = "label-orphan"
    LABEL_AMBIGUOUS = "label-ambiguous"
    LABEL_ENCODING = "label-encoding"
    LABEL_COLUMNS = "label-columns"
    LABEL_NUMBER = "label-number"
    LABEL_CLASS = "label-class"
    LABEL_RANGE = "label-range"
    LABEL_OUTSIDE = "label-outside"
    LABEL_DEGENERATE = "label-degenerate"
    LABEL_DUPLICATE = "label-duplicate"
    LABEL_OVERLAP = "label-overlap"
    LABEL_TINY = "label-tiny"
    LABEL_HUGE = "label-huge"
    LABEL_KEYPOINT = "label-keypoint"
    LABEL_OUTLINE = "label-outline"
    CLASS_UNUSED = "class-unused"
    CLASS_FEW = "class-few"
    CLASS_IMBALANCE = "class-imbalance"
    CLASS_SPLIT = "class-split"
    CLASS_ORDER = "class-order"
    OUTLIER_BOX = "outlier-box"


# Codes that can be warnings or notes: those a policy may raise to errors, or ignore.
AdviceCode = Literal[
    Code.ARCHIVE_NESTED_ROOT,
    Code.ARCHIVE_JUNK,
    Code.ARCHIVE_NAMES,
    Code.YAML_PATH,
    Code.YAML_CHANNELS,
    Code.SPLIT_LEAK,
    Code.IMAGE_FORMAT,
    Code.IMAGE_EXIF_ROTATED,
    Code.IMAGE_DUPLICATE,
    Code.IMAGE_NEAR_DUPLICATE,
    Code.IMAGE_QUALITY,
    Code.IMAGE_UNLABELLED,
    Code.IMAGE_NO_SPLIT,
    Code.LABEL_ORPHAN,
    Code.LABEL_OUTSIDE,
    Code.LABEL_DEGENERATE,
    Code.LABEL_DUPLICATE,
    Code.LABEL_OVERLAP,
    Code.LABEL_TINY,
    Code.LABEL_HUGE,
    Code.LABEL_KEYPOINT,
    Code.LABEL_OUTLINE,
    Code.CLASS_UNUSED,
    Code.CLASS_FEW,
    Code.CLASS_IMBALANCE,
    Code.CLASS_SPLIT,
    Code.CLASS_ORDER,
    Code.OUTLIER_BOX,
]

MEANINGS: dict[Code, str] = {
    Code.ARCHIVE_UNREADABLE: "not a zip, cut short, a bad checksum, or encrypted entries",
    Code.ARCHIVE_UNSAFE_PATH: "absolute paths, '..', drive letters, links, device files, control characters",
    Code.ARCHIVE_TOO_LARGE: "size, number of entries or packing ratio over the policy's limits",
    Code.ARCHIVE_DUPLICATE_ENTRY: "a name twice, or names that differ by case or Unicode form only",
    Code.ARCHIVE_NESTED_ROOT: "everything lies under one folder; it is read from there",
    Code.ARCHIVE_JUNK: "files that are no part of a dataset; they are ignored. A warning where images are hidden",
    Code.ARCHIVE_NAMES: "names whose charset had to be guessed; an error where it is unsure and classes are named so",
    Code.YAML_MISSING: "no data.yaml",
    Code.YAML_SEVERAL: "more than one data.yaml",
    Code.YAML_INVALID: "a data.yaml that cannot be read",
    Code.YAML_EXECUTABLE: "a download: key, which training tools would run",
    Code.YAML_NAMES: "class names that are missing, doubled, no text, or not counted as nc says",
    Code.YAML_PATH: "a path in data.yaml or in a list that leads nowhere or out of the archive",
    Code.YAML_CHANNELS: "channels other than 3: models are trained and served on RGB",
    Code.SPLIT_MISSING: "no train or no val",
    Code.SPLIT_EMPTY: "a split without images, or without a single label",
    Code.SPLIT_LEAK: "the same image, or nearly the same, in two splits",
    Code.IMAGE_UNREADABLE: (
        "an image that cannot be decoded in full, is too costly to decode, or is of another format than its ending says"
    ),
    Code.IMAGE_FORMAT: "an image of a format that training does not read",
    Code.IMAGE_TOO_SMALL: "a side below 10 pixels",
    Code.IMAGE_EXIF_ROTATED: "an EXIF orientation that turns or mirrors: boxes may be drawn without it",
    Code.IMAGE_DUPLICATE: "the same bytes or the same pixels as another image",
    Code.IMAGE_NEAR_DUPLICATE: "nearly the same picture as another image",
    Code.IMAGE_QUALITY: "very dark, bright or blurred, of little information, of an odd size or shape",
    Code.IMAGE_UNLABELLED: "more images without a label file than the policy allows",
    Code.IMAGE_NO_SPLIT: "labelled images that no split names",
    Code.LABEL_ORPHAN: "a label file without its image",
    Code.LABEL_AMBIGUOUS: "one label file for several images",
    Code.LABEL_ENCODING: "a label file that is not UTF-8",
    Code.LABEL_COLUMNS: "a line with another number of columns than the task has, or boxes and polygons mixed",
    Code.LABEL_NUMBER: "something that is no finite decimal number, or a class that is no whole one",
    Code.LABEL_CLASS: "a class that names does not have",
    Code.LABEL_RANGE: "numbers outside 0 to 1, such as pixels; a visibility other than 0, 1 or 2",
    Code.LABEL_OUTSIDE: "a box that leaves the image by more than 1 %",
    Code.LABEL_DEGENERATE: "no width, height or area; as a warning: an outline that crosses itself",
    Code.LABEL_DUPLICATE: "the same row twice",
    Code.LABEL_OVERLAP: "two boxes of one class that all but coincide",
    Code.LABEL_TINY: "less than 2 pixels a side at the training size",
    Code.LABEL_HUGE: "more than 98 % of the image",
    Code.LABEL_KEYPOINT: "a keypoint at 0 0 where kpt_shape has no visibility: it is trained as seen in the corner",
    Code.LABEL_OUTLINE: "an outline where data.yaml says task: detect: the box around it is taken",
    Code.CLASS_UNUSED: "a class without a label",
    Code.CLASS_FEW: "a class with fewer labels to learn from than the policy asks for",
    Code.CLASS_IMBALANCE: "a class that is labelled far more often than another",
    Code.CLASS_SPLIT: "a class that train has and val never shows, or the reverse",
    Code.CLASS_ORDER: "classes.txt or notes.json gives a class another number than data.yaml",
    Code.OUTLIER_BOX: "a box whose size or shape is far from all others of its class",
}
