"""Objects followed through a video: ByteTrack, as `yolo track tracker=bytetrack.yaml` runs it."""

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tasks.errors import StudioError
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

FRAME_RATE = 30.0  # frames a second, until time stamps say it
LOST_TRACK_S = 1.0  # an object that is away for longer gets a new id
# Ultralytics' bytetrack.yaml, which it would read from the working folder first. Its buffer is set for each frame.
BYTE_TRACK = {
    "tracker_type": "bytetrack",
    "track_high_thresh": 0.25,
    "track_low_thresh": 0.1,
    "new_track_thresh": 0.25,
    "track_buffer": 30,
    "match_thresh": 0.8,
    "fuse_score": True,
}
_MIN_LOST_FRAMES = 5  # few frames a second are no reason to forget an object at once
_MAX_LOST_FRAMES = 300
# Pixels: the squares of smaller sides, and of larger coordinates, leave the range of the numbers.
_MIN_SIDE = 0.1
_MAX_COORDINATE = 1e6


class ObjectTrackingError(StudioError):
    """Tracking is not available here; the message says what to install."""


class Tracker:
    """Tracks the objects of one video, frame by frame in order; any number of trackers may run in threads.

    An object that is away for a second (5 frames at least) keeps its id.

    Raises:
        ObjectTrackingError: A package is missing.
    """

    def __init__(self) -> None:
        self._first_ms: float | None = None
        self._frames = 0
        self._ids: dict[int, int] = {}
        self._tracker = _byte_track()

    def __call__(self, detections: Detections) -> Detections:
        """Return the detections of the next frame, which may be none, in the same order with `tracker_id` filled.

        Ids count from 1 in the order in which objects are confirmed: at once in the first frame, later when they are
        seen a second time; 0 until then. As in Ultralytics an object may change its class, detections below a
        confidence of 0.1 are not tracked, and those below 0.25 only if they continue a track.
        """
        self._frames += 1
        self._tracker.max_frames_lost = self._max_frames_lost(detections.timestamp_ms)
        ids = np.zeros(len(detections), np.int64)
        for track in self._tracker.update(_to_boxes(detections)):
            # Ultralytics counts objects that are never confirmed, too: ours have no gaps.
            ids[int(track[-1])] = self._ids.setdefault(int(track[-4]), len(self._ids) + 1)
        return replace(detections, tracker_id=ids)

    def _max_frames_lost(self, now_ms: float | None) -> int:
        if self._first_ms is None:
            self._first_ms = now_ms
        rate = FRAME_RATE
        if now_ms is not None and self._first_ms is not None and now_ms > self._first_ms:
            rate = (self._frames - 1) * 1000 / (now_ms - self._first_ms)
        if not math.isfinite(rate):
            return _MAX_LOST_FRAMES
        return int(min(max(rate * LOST_TRACK_S, _MIN_LOST_FRAMES), _MAX_LOST_FRAMES))


def _to_boxes(detections: Detections) -> "_Boxes":
    xyxy = detections.xyxy
    upright = np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    boxes = upright if detections.xywhr is None else detections.xywhr
    usable = np.all(np.abs(boxes) <= _MAX_COORDINATE, axis=1) & np.all(boxes[:, 2:4] >= _MIN_SIDE, axis=1)
    # A detection that cannot be tracked stays, so that row numbers do, and is too weak to be used.
    confidence = np.where(usable, detections.confidence, np.float32(0))
    if detections.xywhr is None:
        return _Boxes(xywh=upright, conf=confidence, cls=detections.class_id)
    return _RotatedBoxes(xywh=upright, conf=confidence, cls=detections.class_id, xywhr=detections.xywhr)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Boxes:
    """Detections as Ultralytics' trackers read them: `xywh` [n, 4] have their centre first."""

    xywh: Floats
    conf: Floats
    cls: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, rows: NDArray[Any]) -> Self:
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True, eq=False, kw_only=True)
class _RotatedBoxes(_Boxes):
    xywhr: Floats


class _ByteTrack(Protocol):
    max_frames_lost: int

    def update(self, results: _Boxes) -> Floats:
        """Return rows that end with an id, a confidence, a class and the number of the detection."""


def _byte_track() -> _ByteTrack:
    # Ultralytics would install it by itself, into an environment that is pinned.
    if find_spec("lap") is None:
        raise ObjectTrackingError(
            "expected the package lap, which tracking needs, found none; install lap>=0.5.12 where flows run, "
            "or leave track out"
        )
    from ultralytics.trackers.byte_tracker import BYTETracker  # takes seconds

    tracker: _ByteTrack = BYTETracker(SimpleNamespace(**BYTE_TRACK))  # type: ignore[no-untyped-call]
    return tracker
