"""A file with what a model found in some images: a zip with an .npz for each image, in their order."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.files import write_atomically
from tasks.vision.detections import Detections


def write_predictions(path: Path, predictions: Iterable[Detections]) -> None:
    """Write the detections in one image after another; the file is there whole or not at all."""
    with write_atomically(path) as unfinished, zipfile.ZipFile(unfinished, "w") as file:
        for number, detections in enumerate(predictions):
            buffer = io.BytesIO()
            detections.save(buffer)
            file.writestr(f"{number:06d}.npz", buffer.getvalue())


def read_predictions(path: Path) -> Iterator[Detections]:
    """Yield the detections in one image after another; nothing in the file is ever run."""
    with zipfile.ZipFile(path) as file:
        for name in sorted(file.namelist()):
            yield Detections.load(io.BytesIO(file.read(name)))
