"""The graph of a version in the model repository."""

from pathlib import Path

from tasks.export.steps import export_onnx
from tasks.orchestration.current_run import log_step
from tasks.serving.model_repository import PublishedVersion, publish_version, read_published_digest
from tasks.tracking.registry import ModelVersion


def ensure_published(registered: ModelVersion, weights: Path, folder: Path) -> PublishedVersion:
    """Return the published version, exported to `folder` and written if it is not in the repository yet."""
    digest = read_published_digest(registered.name, registered.version)
    is_new = digest is None
    if digest is None:
        log_step("exporting %s version %d to ONNX", registered.name, registered.version)
        graph = export_onnx(weights, folder, registered.image_size)
        digest = publish_version(registered.name, registered.version, graph)
    return PublishedVersion(model_name=registered.name, version=registered.version, digest=digest, is_new=is_new)
