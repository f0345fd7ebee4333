"""What was found in one image or one video frame, for every task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import Outputs, postprocess
from tasks.serving.served_model import ServedModel
from tasks.vision.geometry import Floats, Letterbox, xywhr_to_corners
from tasks.vision.predictions import Found

VISIBLE = 0.5  # the least visibility of a keypoint that is shown, as Ultralytics has it


@dataclass(frozen=True)
class VideoPosition:
    """A place in a video: `frame` counts from 0, `timestamp_ms` from the first frame; both None for a still image."""

    frame: int | None
    timestamp_ms: float | None


@dataclass(frozen=True, eq=False)
class Detections:
    """The n detections of one picture, best first; what its task does not give is None.

    `source` is the input as the user knows it. `frame` counts from 0 and `timestamp_ms` from the first frame; both are
    None for an image. `width` x `height` are the sides of the original in pixels, `boxes` [n, 4] are x1, y1, x2, y2 in
    those pixels, `confidence` [n] is 0 to 1 and `class_id` [n] counts from 0. A class that classify gives is a
    detection whose box is the whole picture.

    In the same pixels: `polygons` are n outlines [k, 2] (segment: of the largest part, k may be 0; obb: the 4 corners),
    `keypoints` [n, K, 3] are x, y and visibility, `rotated` [n, 5] centre x, y, width, height and the angle in radians.
    `track_id` [n] counts from 1 within a video, 0 is an object that is not followed yet. `image` is the path of the
    picture's plain copy in the run's folder, where it has one.
    """

    source: str
    frame: int | None
    timestamp_ms: float | None
    width: int
    height: int
    boxes: Floats
    confidence: Floats
    class_id: NDArray[np.int32]
    polygons: tuple[Floats, ...] | None = None
    keypoints: Floats | None = None
    rotated: Floats | None = None
    track_id: NDArray[np.int64] | None = None
    image: str | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self.boxes)

    @classmethod
    def from_served(
        cls,
        outputs: Outputs,
        model: ServedModel,
        letterbox: Letterbox,
        params: InferenceParams,
        source: str,
        moment: VideoPosition | None = None,
    ) -> Self:
        """Read what the served graph answered for one picture (its arrays without their first dimension).

        What is below the threshold of its class goes, so do rows with a number that is none and boxes that lie in the
        padding. `params.iou` takes effect where it is stricter than the NMS in the graph. `moment` is None for an
        image. Raises ValueError where an output is missing or has another shape.
        """
        thresholds = class_thresholds(model.class_names, params)
        found = postprocess(outputs, model.task, letterbox, float(thresholds.min()), params.iou)
        moment = moment or VideoPosition(None, None)
        if found.scores is not None:
            return cls.classified(found.scores, thresholds, source, moment, (found.width, found.height))
        # A broken graph may say any class, also one below 0.
        known = np.clip(found.class_id, 0, len(thresholds) - 1)
        found = found.kept(found.confidence >= thresholds[known])
        place = source, moment.frame, moment.timestamp_ms, found.width, found.height
        return cls(
            *place,
            found.boxes,
            found.confidence,
            found.class_id,
            polygons=_polygons(found, letterbox),
            keypoints=found.keypoints,
            rotated=found.rotated,
        )

    @classmethod
    def classified(
        cls, scores: Floats, thresholds: Floats, source: str, moment: VideoPosition, size: tuple[int, int]
    ) -> Self:
        """Return the classes, of `scores` [C] for a picture of `size` (width, height), that reach their threshold."""
        ids = np.argsort(-scores, kind="stable")
        ids = ids[np.isfinite(scores[ids])]
        ids = ids[scores[ids] >= thresholds[np.minimum(ids, len(thresholds) - 1)]]
        boxes = np.tile(np.array([0, 0, *size], np.float32), (len(ids), 1))
        return cls(source, moment.frame, moment.timestamp_ms, *size, boxes, scores[ids], ids.astype(np.int32))

    @property
    def is_of_whole_picture(self) -> bool:
        """Whether these are classes of the picture as a whole."""
        if not len(self) or any(own is not None for own in (self.polygons, self.keypoints, self.rotated)):
            return False
        return bool(np.abs(self.boxes - np.array([0, 0, self.width, self.height])).max() <= 0.5)

    def scaled(self, width: int, height: int) -> Self:
        """Return the same detections on a copy of the picture that is resized to `width` x `height` pixels."""
        gain = np.array([width / self.width, height / self.height], np.float32)
        points = self.keypoints
        return replace(
            self,
            width=width,
            height=height,
            boxes=self.boxes * np.tile(gain, 2),
            polygons=None if self.polygons is None else tuple(ring * gain for ring in self.polygons),
            keypoints=None if points is None else np.concatenate([points[..., :2] * gain, points[..., 2:]], axis=-1),
            # The angle stays: a copy has the sides of its original, up to a rounded pixel.
            rotated=None if self.rotated is None else self.rotated * np.array([*gain, *gain, 1], np.float32),
        )

    def kept(self, rows: NDArray[Any]) -> Self:
        """Return the detections that `rows` (bool [n], or row numbers in the order wanted) says."""
        rows = np.arange(len(self))[rows]
        return replace(
            self,
            boxes=self.boxes[rows],
            confidence=self.confidence[rows],
            class_id=self.class_id[rows],
            polygons=None if self.polygons is None else tuple(self.polygons[row] for row in rows),
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            rotated=None if self.rotated is None else self.rotated[rows],
            track_id=None if self.track_id is None else self.track_id[rows],
        )


def class_thresholds(names: Sequence[str], params: InferenceParams) -> Floats:
    """Return the lowest confidence [C] of each class, one where the model has no names.

    Raises ValueError where `params` names a class that the model does not have.
    """
    unknown = sorted(set(params.class_confidence) - set(names))
    if unknown:
        raise ValueError(
            f"expected classes of the model in class_confidence ({', '.join(names)}), found {unknown[0]!r}; correct it"
        )
    wanted = [params.class_confidence.get(name, params.confidence) for name in names]
    return np.asarray(wanted or [params.confidence], np.float32)


def mask_to_polygon(mask: NDArray[np.bool_]) -> Floats:
    """Return the outline [k, 2] of the largest part of a mask, in its pixels; [0, 2] where it is empty."""
    # OpenCV goes through the middles of the outermost pixels: in a mask twice as large, nearer to their edges.
    fine = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    rings = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not rings:
        return np.empty((0, 2), np.float32)
    largest = max(rings, key=cv2.contourArea)
    ring = cv2.approxPolyDP(largest, 1.0, closed=True)
    ring = ring if len(ring) >= 3 else largest
    return np.asarray((ring.reshape(-1, 2) + 0.5) / 2, np.float32)


def _polygons(found: Found, letterbox: Letterbox) -> tuple[Floats, ...] | None:
    if found.rotated is not None:
        return tuple(xywhr_to_corners(found.rotated))
    if found.masks is None:
        return None
    masks = (found.mask(index) for index in range(len(found)))
    rings = (np.empty((0, 2), np.float32) if mask is None else mask_to_polygon(mask) for mask in masks)
    return tuple(letterbox.points_to_image(ring[None])[0] for ring in rings)


def class_name(names: Sequence[str], class_id: int) -> str:
    """Return the name of a class, or a made-up one where the model says a class that its config does not list."""
    return names[class_id] if 0 <= class_id < len(names) else f"class {class_id}"
