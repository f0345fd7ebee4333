"""The detections in many images, in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from tasks.vision.detections import Detections

MAX_STORED_MASKS = 100  # of an image in a comparison: those of its best detections


class PredictionStore(Sequence[Detections]):
    """The detections of one image after another, in files: one image is in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count = len(list(folder.glob("*.npz")))

    def add(self, detections: Detections) -> None:
        """Append the detections in the next image."""
        detections.save(self._path(self._count))
        self._count += 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Detections: ...
    @overload
    def __getitem__(self, index: slice) -> list[Detections]: ...
    def __getitem__(self, index: int | slice) -> Detections | list[Detections]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        return Detections.load(self._path(range(self._count)[index]))

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:04d}.npz"
