"""The detections in one image or one video frame, for every task."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.vision.geometry import Floats, Letterbox, xywhr_to_corners
from tasks.vision.masks import mask_to_polygon

VISIBLE = 0.5  # the least visibility of a keypoint that is shown, as in Ultralytics


@dataclass(frozen=True)
class VideoPosition:
    """A place in a video: `frame` counts from 0, `timestamp_ms` from the first frame."""

    frame: int
    timestamp_ms: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """The n detections in an image of `width` x `height` pixels, best first; fields that the task lacks are None.

    Attributes:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        xyxy: [n, 4] float32, x1, y1, x2, y2 in pixels of the image; for obb the boxes around the rotated ones.
        confidence: [n] float32, 0 to 1.
        class_id: [n] int32, from 0.
        mask: [m, S, S/8] uint8, a bit a pixel: masks of the m best in the letterboxed square of S x S pixels.
        polygons: n outlines [k, 2] in pixels of the image (segment: of the largest part, k may be 0; obb: 4 corners).
        keypoints: [n, K, 3] float32, x, y in pixels of the image and visibility, 0 to 1.
        xywhr: [n, 5] float32, center x, y, width, height in pixels of the image, and the angle in radians.
        class_scores: [C] float32, the probabilities of classify, before any is a detection of the whole image.
        tracker_id: [n] int64, from 1 within a video; 0 is an object that is not tracked yet.
        source: The input as the user knows it.
        frame: Number of the video frame, from 0; None for an image.
        timestamp_ms: Milliseconds since the first frame; None for an image.
        image: Path of the plain copy of the image in the run's folder, if it has one.
    """

    width: int
    height: int
    xyxy: Floats
    confidence: Floats
    class_id: NDArray[np.int32]
    mask: NDArray[np.uint8] | None = None
    polygons: tuple[Floats, ...] | None = None
    keypoints: Floats | None = None
    xywhr: Floats | None = None
    class_scores: Floats | None = None
    tracker_id: NDArray[np.int64] | None = None
    source: str = ""
    frame: int | None = None
    timestamp_ms: float | None = None
    image: str | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    @classmethod
    def empty(cls, width: int, height: int, class_scores: Floats | None = None) -> Self:
        """Return no detections in an image of this size; of classify its `class_scores` [C]."""
        return cls(
            width=width,
            height=height,
            xyxy=np.zeros((0, 4), np.float32),
            confidence=np.zeros(0, np.float32),
            class_id=np.zeros(0, np.int32),
            class_scores=class_scores,
        )

    @classmethod
    def from_class_scores(cls, scores: Floats, thresholds: Floats, width: int, height: int) -> Self:
        """Return the classes, of `scores` [C], that reach their threshold, each as a detection of the whole image."""
        ids = np.argsort(-scores, kind="stable")
        ids = ids[np.isfinite(scores[ids])]
        ids = ids[scores[ids] >= thresholds[np.minimum(ids, len(thresholds) - 1)]]
        xyxy = np.tile(np.array([0, 0, width, height], np.float32), (len(ids), 1))
        return cls(width=width, height=height, xyxy=xyxy, confidence=scores[ids], class_id=ids.astype(np.int32))

    @property
    def is_of_whole_picture(self) -> bool:
        """Whether these are classes of the image as a whole."""
        if not len(self) or any(own is not None for own in (self.polygons, self.keypoints, self.xywhr)):
            return False
        return bool(np.abs(self.xyxy - np.array([0, 0, self.width, self.height])).max() <= 0.5)

    def select(self, rows: NDArray[Any]) -> Self:
        """Return the detections of `rows`: bool [n], or row numbers in their new order, which masks do not allow."""
        rows = np.arange(len(self))[rows]
        names = ("xyxy", "confidence", "class_id", "keypoints", "xywhr", "tracker_id")
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in names if getattr(self, name) is not None}
        return replace(
            self,
            **arrays,
            mask=None if self.mask is None else self.mask[rows[rows < len(self.mask)]],
            polygons=None if self.polygons is None else tuple(self.polygons[row] for row in rows),
        )

    def rescale(self, width: int, height: int) -> Self:
        """Return the same detections on a copy of the image that is resized to `width` x `height` pixels."""
        gain = np.array([width / self.width, height / self.height], np.float32)
        return self._move(width, height, gain, np.zeros(2, np.float32))

    def crop(self, left: int, top: int, width: int, height: int) -> Self:
        """Return the same detections, without masks, on a part of the image; they may reach beyond it."""
        moved = self._move(width, height, np.ones(2, np.float32), np.array([left, top], np.float32))
        return replace(moved, mask=None)

    def _move(self, width: int, height: int, gain: Floats, origin: Floats) -> Self:
        points = self.keypoints
        boxes = self.xywhr
        return replace(
            self,
            width=width,
            height=height,
            xyxy=(self.xyxy - np.tile(origin, 2)) * np.tile(gain, 2),
            polygons=None if self.polygons is None else tuple((ring - origin) * gain for ring in self.polygons),
            keypoints=None
            if points is None
            else np.concatenate([(points[..., :2] - origin) * gain, points[..., 2:]], axis=-1),
            # The angle stays: a copy has the sides of its original, up to a rounded pixel.
            xywhr=None
            if boxes is None
            else np.concatenate([(boxes[:, :2] - origin) * gain, boxes[:, 2:4] * gain, boxes[:, 4:]], axis=1),
        )

    def unpack_mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return the [S, S] mask of a detection; None beyond the m best, and if there are no masks."""
        if self.mask is None or index >= len(self.mask):
            return None
        return np.unpackbits(self.mask[index], axis=1, count=self.mask.shape[1]).astype(np.bool_)

    def with_polygons(self) -> Self:
        """Return the same with `polygons`: the corners of rotated boxes, or the outlines of masks, if any."""
        if self.xywhr is not None:
            return replace(self, polygons=tuple(xywhr_to_corners(self.xywhr)))
        if self.mask is None:
            return self
        letterbox = Letterbox.fit(self.width, self.height, self.mask.shape[1])
        masks = (self.unpack_mask(index) for index in range(len(self)))
        rings = (np.empty((0, 2), np.float32) if mask is None else mask_to_polygon(mask) for mask in masks)
        return replace(self, polygons=tuple(letterbox.points_to_image(ring) for ring in rings))

    def to_supervision(self) -> Any:  # noqa: ANN401 - supervision is the user's to install
        """Return them as `supervision.Detections`, which needs the package supervision.

        Outlines become masks [n, height, width]; the corners of rotated boxes are `data["xyxyxyxy"]` [n, 4, 2] and
        keypoints `data["keypoints"]` [n, K, 3].
        """
        import supervision

        data: dict[str, Any] = {}
        if self.xywhr is not None:
            data["xyxyxyxy"] = xywhr_to_corners(self.xywhr)
        if self.keypoints is not None:
            data["keypoints"] = self.keypoints
        return supervision.Detections(
            xyxy=self.xyxy,
            mask=self._image_masks() if self.polygons is not None and self.xywhr is None else None,
            confidence=self.confidence,
            class_id=self.class_id,
            tracker_id=self.tracker_id,
            data=data,
        )

    def _image_masks(self) -> NDArray[np.bool_]:
        """Return [n, height, width]: what the outlines enclose."""
        masks = np.zeros((len(self), self.height, self.width), np.uint8)
        for mask, ring in zip(masks, self.polygons or (), strict=True):
            if len(ring):
                cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], 1)
        return masks.astype(np.bool_)

    def save(self, path: Path | BinaryIO) -> None:
        """Write the values of a comparison to a file, whose name ends in .npz: everything but polygons."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _STORED}
        np.savez_compressed(path, **{name: value for name, value in values.items() if value is not None})

    @classmethod
    def load(cls, path: Path | BinaryIO) -> Self:
        """Read a file of `save`; nothing in the file is ever run."""
        with np.load(path, allow_pickle=False) as stored:
            values: dict[str, Any] = {name: stored[name] for name in stored.files}
        return cls(**values | {name: int(values[name]) for name in ("width", "height")})


_STORED = [
    field.name
    for field in fields(Detections)
    if field.name not in {"polygons", "source", "frame", "timestamp_ms", "image"}
]


def pack_masks(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """Return [m, S, S] masks as bits, as `Detections.mask` holds them."""
    return np.packbits(np.asarray(masks, np.bool_), axis=2)


def class_name(names: Sequence[str], class_id: int) -> str:
    """Return the name of a class, or `class 7` for one that the model's config does not list."""
    return names[class_id] if 0 <= class_id < len(names) else f"class {class_id}"
