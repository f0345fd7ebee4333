"""What a model finds in one image, whatever its task, and the file that it is kept in."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from tasks.vision.geometry import Floats

MAX_STORED_MASKS = 100  # masks that are kept of an image in a comparison: those of its best detections
_SIDES = ("width", "height")


@dataclass(frozen=True, eq=False)
class Found:
    """The n detections in an image of `width` x `height` pixels, best first; what the task does not give is None.

    `boxes` [n, 4] are x1, y1, x2, y2 in pixels of the image (of obb the hulls), `confidence` [n] is 0 to 1, `class_id`
    [n] counts from 0. `keypoints` [n, K, 3] are x, y and visibility, `rotated` [n, 5] centre x, y, width, height in
    those pixels and the angle in radians. `masks` [m, S, S/8] uint8 holds, a bit a pixel, the masks of the m best in
    the letterboxed square of S x S pixels. `scores` [C] are the probabilities of classify, which has no detections.
    """

    width: int
    height: int
    boxes: Floats
    confidence: Floats
    class_id: NDArray[np.int32]
    keypoints: Floats | None = None
    rotated: Floats | None = None
    masks: NDArray[np.uint8] | None = None
    scores: Floats | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self.boxes)

    @classmethod
    def classified(cls, width: int, height: int, scores: Floats) -> Self:
        """What a classifier says of an image."""
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
        return cls(width, height, *nothing, scores=scores)

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Return the [S, S] mask of a detection; None beyond the m best, and where there are no masks."""
        if self.masks is None or index >= len(self.masks):
            return None
        return np.unpackbits(self.masks[index], axis=1, count=self.masks.shape[1]).astype(np.bool_)

    def kept(self, keep: NDArray[Any]) -> Self:
        """Return the detections that `keep` (bool [n], or rising row numbers) says."""
        rows = np.arange(len(self))[keep]
        return type(self)(
            width=self.width,
            height=self.height,
            boxes=self.boxes[rows],
            confidence=self.confidence[rows],
            class_id=self.class_id[rows],
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            rotated=None if self.rotated is None else self.rotated[rows],
            masks=None if self.masks is None else self.masks[rows[rows < len(self.masks)]],
            scores=self.scores,
        )

    def save(self, path: Path) -> None:
        """Write it to `path`, which ends in .npz."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        np.savez_compressed(path, **{name: value for name, value in values.items() if value is not None})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; nothing in the file is ever run."""
        with np.load(path, allow_pickle=False) as stored:
            values: dict[str, Any] = {name: stored[name] for name in stored.files}
        return cls(**values | {name: int(values[name]) for name in _SIDES})


class PredictionStore(Sequence[Found]):
    """What was found in image after image, in files: one image is in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count = len(list(folder.glob("*.npz")))

    def add(self, found: Found) -> None:
        """Keep what was found in the next image."""
        found.save(self._path(self._count))
        self._count += 1

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> Found: ...
    @overload
    def __getitem__(self, index: slice) -> list[Found]: ...
    def __getitem__(self, index: int | slice) -> Found | list[Found]:
        """Read what was found in an image; raise IndexError where there is none."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        return Found.load(self._path(range(self._count)[index]))

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:04d}.npz"


def pack_masks(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """Turn [m, S, S] truths into bits, as `Found.masks` holds them."""
    return np.packbits(np.asarray(masks, np.bool_), axis=2)
