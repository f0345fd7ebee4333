"""What a version and the versions that it was trained from have learnt."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.merge.training_images import TRAINING_IMAGES, TrainingImages, unpack_training_images
from tasks.orchestration.step import retried_step
from tasks.tracking.lineage import BASE_DIGEST, archives_of
from tasks.tracking.mlflow_client import TrackingError, tracking_errors
from tasks.tracking.registry import ADDRESS, ModelVersion
from tasks.tracking.runs import download_artifact


@dataclass(frozen=True, kw_only=True)
class Ancestry:
    """What a version and the versions that it was trained from have learnt, and the base model of the first.

    `archives` are the SHA-256 in hex of what was trained on, by the names of archives, and `images` their images;
    `tells_images` is False if one of the versions does not say them all. `base_model` is empty if nobody knows it, and
    the address of a version if that was deleted, or leads back to itself; `base_digest` is the SHA-256 in hex of its
    weights, empty if it had none or nobody knows it.
    """

    archives: Mapping[str, frozenset[str]]
    base_model: str
    base_digest: str
    images: TrainingImages
    tells_images: bool


@retried_step
def read_ancestry(version: ModelVersion) -> Ancestry:
    """Return what is known of how a version came about.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    archives: dict[str, frozenset[str]] = {}
    images, tells_images, base_digest = TrainingImages(), True, ""
    base = f"models:/{version.name}/{version.version}"
    visited: set[str] = set()
    while (address := ADDRESS.fullmatch(base)) and address["version"] and base not in visited:
        visited.add(base)
        try:
            with tracking_errors(f"reading what {base} has learnt") as mlflow:
                entry = mlflow.get_model_version(address["name"], address["version"])
        except TrackingError as error:
            if error.transient:
                raise
            tells_images = False
            break
        own = _read_training_images(str(entry.run_id))
        images |= own or TrainingImages()
        tells_images &= own is not None
        for name, digest in archives_of(entry.tags).items():
            archives[name] = archives.get(name, frozenset()) | {digest}
        base, base_digest = entry.tags.get("base_model", ""), entry.tags.get(BASE_DIGEST, "")
    return Ancestry(
        archives=archives, base_model=base, base_digest=base_digest, images=images, tells_images=tells_images
    )


def _read_training_images(run_id: str) -> TrainingImages | None:
    """None if the run has none: it is of an earlier release or of an import, or it was removed."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path: Path | None = download_artifact.fn(run_id, TRAINING_IMAGES, Path(folder))
            return unpack_training_images(path.read_bytes()) if path else None
    except ValueError:  # a file of somebody else
        return None
    except TrackingError as error:
        if error.transient:
            raise
        return None
