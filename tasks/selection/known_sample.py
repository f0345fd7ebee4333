"""What a version makes of a sample of the images that it has learnt, kept from one selection to the next.

It is `learnt-samples/<model>/<version>/<digest>.npz` in bucket `runs`, and goes with the version. The digest is of the
weights and of each image, by the ETag of its archive and its place there: of what has changed, there is none.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.inference.work_plan import MediaSource
from tasks.orchestration.step import retried_step
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.vision.geometry import Doubles, Floats

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownSample:
    """The embeddings [m, D] of the images of a sample that could be read, and the objects expected in them, [C]."""

    embeddings: Floats
    class_counts: Doubles

    def pack(self) -> bytes:
        """Return it as a file; embeddings are float16, as the weights process gives them."""
        file = io.BytesIO()
        np.savez_compressed(file, embeddings=self.embeddings.astype(np.float16), class_counts=self.class_counts)
        return file.getvalue()


def folder_of(model_name: str, version: int) -> str:
    """Return where the samples of a version are in bucket `runs`."""
    return f"learnt-samples/{model_name}/{version}/"


def sample_key(model_name: str, version: int, weights: str, sample: Sequence[MediaSource]) -> str:
    """Return the key of what a version, whose weights have this SHA-256 (hex), makes of these images."""
    digest = hashlib.sha256(weights.encode())
    for source in sample:
        digest.update(repr((source.bucket, source.key, source.etag, source.entry)).encode("utf-8", "surrogatepass"))
    return f"{folder_of(model_name, version)}{digest.hexdigest()}.npz"


@retried_step
def find_sample(key: str, classes: int) -> KnownSample | None:
    """Return what is kept under a key; None if nothing is, or a damaged file. Nothing in it is ever run.

    Raises:
        StorageError: The object store does not answer.
    """
    data = _RUNS.get(key)
    return _unpack(data, classes) if data else None


@retried_step
def keep_sample(key: str, sample: KnownSample) -> None:
    """Keep what a version makes of a sample.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    _RUNS.put(key, sample.pack())


def _unpack(data: bytes, classes: int) -> KnownSample | None:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            embeddings, counts = file["embeddings"].astype(np.float32), file["class_counts"].astype(np.float64)
    except Exception:  # noqa: BLE001 - whatever NumPy and zipfile raise over a damaged file
        return None
    fits = embeddings.ndim == 2 and len(embeddings) and counts.shape == (classes,)
    if not fits or not (np.isfinite(embeddings).all() and np.isfinite(counts).all()):
        return None
    return KnownSample(embeddings=embeddings, class_counts=counts)
