"""Objects followed through a video: ByteTrack, as `yolo track tracker=bytetrack.yaml` runs it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tasks.errors import StudioError
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

FRAME_RATE = 30.0  # frames a second, where nothing tells it
LOST_TRACK_S = 1.0  # an object that is away for longer is a new one when it comes back
# Ultralytics' bytetrack.yaml, which it would look for in the working folder first. Its buffer is set for each frame.
BYTE_TRACK = {
    "tracker_type": "bytetrack",
    "track_high_thresh": 0.25,
    "track_low_thresh": 0.1,
    "new_track_thresh": 0.25,
    "track_buffer": 30,
    "match_thresh": 0.8,
    "fuse_score": True,
}
_FRAMES = 5, 300  # the fewest and the most that this may be: few frames a second are no reason to forget at once
_SIDES = 0.1, 1e6  # pixels; what is smaller or farther is not followed, its squares leave the numbers' range


class ObjectTrackingError(StudioError):
    """Tracking cannot be had here; the message says what to install."""


def new_tracker() -> Callable[[Detections], Detections]:
    """Return what follows the objects of one video, frame by frame in order (see `Tracker.follow`)."""
    return Tracker().follow


class Tracker:
    """Follows the objects of one video. Videos have a tracker each, and any number of them may run in threads.

    `frame_rate` is that of the frames that `follow` gets; where it is None, their time stamps tell it. An object that
    is away for a second (5 frames at least) keeps its id. Raises TrackingError where a package is missing.
    """

    def __init__(self, frame_rate: float | None = None) -> None:
        self._rate = frame_rate
        self._first_ms: float | None = None
        self._frames = 0
        self._ids: dict[int, int] = {}
        self._tracker = _byte_track()

    def follow(self, found: Detections) -> Detections:
        """Return what was found in the next frame with `track_id` filled, the same detections in the same order.

        Ids count from 1 in each video, in the order in which objects are confirmed: at once in the first frame, later
        when they are seen a second time; 0 until then. As in Ultralytics an object may change its class, detections
        below a confidence of 0.1 are not followed, and those below 0.25 only where they go on with an object. A frame
        without detections has to be followed, too: objects move on meanwhile.
        """
        self._frames += 1
        self._tracker.max_frames_lost = self._patience(found.timestamp_ms)
        tracks = self._tracker.update(_Boxes.of(found))
        ids = np.zeros(len(found), np.int64)
        for track in tracks:
            # Ultralytics counts objects that are never confirmed, too: ours have no gaps.
            ids[int(track[-1])] = self._ids.setdefault(int(track[-4]), len(self._ids) + 1)
        return replace(found, tracker_id=ids)

    def _patience(self, now_ms: float | None) -> int:
        """Frames that an object may be away."""
        if self._first_ms is None:
            self._first_ms = now_ms
        rate = self._rate or FRAME_RATE
        if self._rate is None and now_ms is not None and self._first_ms is not None and now_ms > self._first_ms:
            rate = (self._frames - 1) * 1000 / (now_ms - self._first_ms)
        fewest, most = _FRAMES
        return int(min(max(rate * LOST_TRACK_S, fewest), most)) if math.isfinite(rate) else most


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Detections as Ultralytics' trackers read them: `xywh` [n, 4] have their centre first."""

    xywh: Floats
    conf: Floats
    cls: NDArray[np.int32]

    @classmethod
    def of(cls, found: Detections) -> "_Boxes":
        centres, sides = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2, found.xyxy[:, 2:] - found.xyxy[:, :2]
        upright = np.concatenate([centres, sides], axis=1)
        boxes = upright if found.xywhr is None else found.xywhr
        low, high = _SIDES
        usable = np.all(np.abs(boxes) <= high, axis=1) & np.all(boxes[:, 2:4] >= low, axis=1)
        # A detection that cannot be followed keeps its place, so that row numbers stay, and is too weak to be used.
        confidence = np.where(usable, found.confidence, np.float32(0))
        if found.xywhr is None:
            return cls(upright, confidence, found.class_id)
        return _RotatedBoxes(upright, confidence, found.class_id, found.xywhr)

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, rows: NDArray[Any]) -> Self:
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True, eq=False)
class _RotatedBoxes(_Boxes):
    """The same of rotated boxes: `xywhr` [n, 5] end with the angle in radians."""

    xywhr: Floats


class _ByteTrack(Protocol):
    """What we use of Ultralytics' trackers."""

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
