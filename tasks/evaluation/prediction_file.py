"""Files with what a model makes of some images: what it found, and their embeddings.

The first is a zip with an .npz for each image, in their order; the second an array, a row an image.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.errors import StudioError
from tasks.files import write_atomically
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats


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


def write_embeddings(path: Path, embeddings: Sequence[Floats]) -> None:
    """Write the embeddings [D] of one image after another as float16; the file is there whole or not at all."""
    with write_atomically(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, np.array(embeddings, np.float16))


def read_embeddings(paths: Iterable[Path]) -> Floats:
    """Return the embeddings of all images in these files, [n, D] float32; nothing in the files is ever run.

    Raises:
        StudioError: They are no embeddings of one model.
    """
    try:
        embeddings = np.concatenate([np.load(path, allow_pickle=False) for path in paths]).astype(np.float32)
    except (ValueError, EOFError, TypeError) as error:
        raise StudioError(f"Expected the embeddings of images, found another file: {str(error)[:200]}.") from error
    if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
        raise StudioError(
            f"Expected a finite vector for each image, found an array of shape {embeddings.shape}, or with values that "
            "are no numbers. Train the version again."
        )
    return embeddings
