"""A round of review: its images, what a model suggested in each, and where that is kept.

`<flow run id>/review/round.json` in bucket `runs` is written when all images lie in `<flow run id>/review-images/`, and
never changes.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, count
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from tasks.dataset.zip_names import is_junk, normalize_unicode
from tasks.importing.annotations import Box, Floats, Outline, Pose, RotatedBox, Shape, Tag
from tasks.inference.work_plan import MediaSource
from tasks.media.formats import IMAGE_ENDINGS
from tasks.vision.detections import VISIBLE

ROUND = "round.json"
ANSWERS = "answers.json"  # beside round.json: what people have submitted, once it is an archive; of CVAT it is XML
CLOSED = "closed"  # beside round.json while an archive is being made
PAGE = "page.txt"  # beside round.json: where people answer
NOTHING_REVIEWED = "Nothing reviewed"  # the state of a run whose round has ended without an archive
_UNSAFE = re.compile(r"[^\w. ()-]")
_MAX_ENTRY = 200


class ToolName(StrEnum):
    """Where people answer."""

    LABEL_STUDIO = "label-studio"
    CVAT = "cvat"
    FRONT_PAGE = "front-page"


@dataclass(frozen=True, kw_only=True)
class RoundImage:
    """An image of a round, and the rows of predictions.parquet of what is suggested in it.

    `entry` is its name in the tool and in what comes back, `source` the one in the predictions; the sides are those of
    the image as it is shown, in pixels. `checksum` is the CRC-32 and the size of its file, `media` where that was read;
    a round of an earlier release has neither. `reason` says why it is asked about, if a run has listed it.
    """

    entry: str
    source: str
    width: int
    height: int
    rows: tuple[dict[str, Any], ...] = ()
    checksum: tuple[int, int] | None = None
    media: MediaSource | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Round:
    """The images that a person is asked about, and where.

    `left_out` counts the inputs that are none of them, by reason. `limits` say in sentences what of the model's
    detections cannot be suggested, as the run of inference has not kept it. `parameters` are those of `ReviewParams`
    that differ from the defaults, but for the tool; a round of an earlier release has not kept any.
    """

    model_name: str
    model_version: int
    task: str
    class_names: tuple[str, ...]
    keypoints: int
    predictions_run: str
    images: tuple[RoundImage, ...]
    tool: ToolName = ToolName.LABEL_STUDIO
    left_out: Mapping[str, int] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def media_of(self, entries: Collection[str]) -> list[MediaSource]:
        """Return where these images were read, in the order of the round, without those of which that is not known."""
        wanted = set(entries)
        return [image.media for image in self.images if image.entry in wanted and image.media]


_ROUND = TypeAdapter(Round)


def round_key(run: str, name: str) -> str:
    """Return where a file of the round of a flow run lies in bucket `runs`."""
    return f"{run}/review/{name}"


def image_key(run: str, entry: str) -> str:
    """Return where an image of a round lies in bucket `runs` until clean-up removes it."""
    return f"{run}/review-images/{entry}"


def pack_round(review: Round) -> bytes:
    """Return the bytes of `round.json`."""
    return _ROUND.dump_json(review)


def unpack_round(data: bytes) -> Round:
    """Return the round of the bytes of `round.json`."""
    return _ROUND.validate_json(data)


def name_entries(sources: Sequence[str]) -> list[str]:
    """Return an entry of a zip for each address of an image, without the ending, which is that of the true format.

    It is safe, and of no other image, also in other letters. Readers of zips compose letters, trim names and skip
    hidden files and the folders of other programs, so there is nothing to compose, to trim or to skip.
    """
    taken: set[str] = set()
    entries = []
    for source in sources:
        named = normalize_unicode(source.partition("://")[2] or source)[-_MAX_ENTRY:]
        *folders, file = [_UNSAFE.sub("_", part).lstrip(". ") or "_" for part in named.split("/") if part]
        folder = "".join(f"_{part}/" if is_junk(f"{part}/image") else f"{part}/" for part in folders)
        stem, dot, ending = file.rpartition(".")
        file = stem if f"{dot}{ending}".lower() in IMAGE_ENDINGS else file
        numbered = (f"{folder}{number}-{file}" for number in count(2))
        entry = next(each for each in chain([folder + file], numbered) if each.lower() not in taken)
        taken.add(entry.lower())
        entries.append(entry)
    return entries


def count_keypoints(images: Iterable[Iterable[Mapping[str, Any]]]) -> int:
    """Return how many keypoints the objects in these rows of images have; 0 if they have none."""
    points = (row.get("keypoints") or () for rows in images for row in rows)
    return max((len(each) // 3 for each in points), default=0)


def to_shapes(task: str, image: RoundImage) -> list[tuple[Shape, float]]:
    """Return the shape of each row of an image that can be shown, with its confidence, best first.

    They lie within the image, but for rotated boxes. Of a class of the whole image there is one.
    """
    if task == "classify":
        return [(Tag(class_name=str(row["class_name"])), float(row["confidence"])) for row in image.rows[:1]]
    sides = np.array([image.width, image.height], np.float64)
    return [(shape, float(row["confidence"])) for row in image.rows if (shape := _to_shape(task, row, sides))]


def _to_shape(task: str, row: Mapping[str, Any], sides: Floats) -> Shape | None:
    name = str(row["class_name"])
    if task in {"segment", "obb"}:
        ring = np.array(row["polygon"] or (), np.float64).reshape(-1, 2)
        if len(ring) < 3 or not np.isfinite(ring).all():  # a mask without an outline
            return None
        if task == "obb":
            return RotatedBox(class_name=name, corners=ring)
        return Outline(class_name=name, rings=(np.clip(ring, 0, sides),))
    box = np.clip(np.array([[row["x1"], row["y1"]], [row["x2"], row["y2"]]], np.float64), 0, sides)
    if not (box[0] < box[1]).all():
        return None
    left, top, right, bottom = box.ravel().tolist()
    if task == "detect":
        return Box(class_name=name, corners=(left, top, right, bottom))
    points = np.array(row["keypoints"] or (), np.float64).reshape(-1, 3)
    shown = np.isfinite(points).all(axis=1) & (points[:, 2] >= VISIBLE)
    places = np.where(shown[:, None], np.clip(points[:, :2], 0, sides), 0)
    return Pose(class_name=name, corners=(left, top, right, bottom), keypoints=np.column_stack([places, 2.0 * shown]))
