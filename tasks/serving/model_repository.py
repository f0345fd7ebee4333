"""The model repository that Triton reads, bucket `models`: a config.pbtxt per model, and a folder per version.

Beside them lie copies of versions that are served aside (`tasks.serving.triton_names`), without a config.pbtxt.
"""

from dataclasses import dataclass
from pathlib import Path

from tasks.files import sha256_of
from tasks.orchestration.step import retried_step, step
from tasks.serving.served_model import PRECISION_GRAPHS
from tasks.serving.triton_names import aside_prefix
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, StorageError

GRAPH = "model.onnx"
MAIN_CODE = "model.py"
CONFIG = "config.pbtxt"
CODE_FOLDER = Path(__file__).parents[2] / "model_repository" / "graph"
# What makes a version complete comes last.
CODE_FILES = sorted(CODE_FOLDER.glob("*.py"), key=lambda path: path.name == MAIN_CODE)
VERSION_FILES = (GRAPH, *(path.name for path in CODE_FILES))
_DIGEST = "sha256"
_MODELS = ObjectStore(Bucket.MODELS, SHORT_OUTAGE)


@dataclass(frozen=True, kw_only=True)
class PublishedVersion:
    """The folder of a version, with the SHA-256 of its graph in hex; `is_new` if this flow run wrote it."""

    model_name: str
    version: int
    digest: str
    is_new: bool

    def discard_if_new(self) -> None:
        """Remove the folder if this flow run wrote it and nobody serves it."""
        if self.is_new:
            delete_version(self.model_name, self.version)


@retried_step
def publish_version(model_name: str, version: int, graph: Path) -> str:
    """Write the folder of a version: the graph, then the code that runs it; returns the graph's SHA-256 in hex."""
    digest = sha256_of(graph)
    for name, path in zip(VERSION_FILES, (graph, *CODE_FILES), strict=True):
        _MODELS.upload(path, f"{model_name}/{version}/{name}", {_DIGEST: digest})
    return digest


@retried_step
def read_published_digest(model_name: str, version: int) -> str | None:
    """Return the SHA-256 in hex of a version's graph; None if its folder is not complete.

    A folder that is complete is never written again.
    """
    metadata = [_MODELS.metadata(f"{model_name}/{version}/{name}") or {} for name in VERSION_FILES]
    digests = {each.get(_DIGEST) for each in metadata}
    return digests.pop() if len(digests) == 1 else None


@retried_step
def publish_precision(model_name: str, version: int, precision: str, graph: Path) -> None:
    """Write the graph of a precision that has one of its own into the folder of a version; one that is there stays."""
    if read_precision_digest.fn(model_name, version, precision) is None:
        _MODELS.upload(graph, f"{model_name}/{version}/{PRECISION_GRAPHS[precision]}", {_DIGEST: sha256_of(graph)})


@retried_step
def read_precision_digest(model_name: str, version: int, precision: str) -> str | None:
    """Return the SHA-256 in hex of a version's own graph of a precision; None if it has none."""
    return (_MODELS.metadata(f"{model_name}/{version}/{PRECISION_GRAPHS[precision]}") or {}).get(_DIGEST)


@step
def fetch_graph(model_name: str, version: int, path: Path) -> None:
    """Write a version's graph to `path`."""
    _MODELS.download(f"{model_name}/{version}/{GRAPH}", path)


@retried_step
def require_published(model_name: str, version: int, precision: str = "f32") -> str:
    """Return the SHA-256 in hex of the graph by which a version is served in a precision.

    Raises:
        StorageError: The version is not in the repository.
    """
    digest = read_published_digest.fn(model_name, version)
    if digest is not None and precision in PRECISION_GRAPHS:
        digest = read_precision_digest.fn(model_name, version, precision)
    if digest is None:
        raise StorageError(
            f"Expected s3://{Bucket.MODELS}/{model_name}/{version}/ with {PRECISION_GRAPHS.get(precision, GRAPH)} "
            f"and {MAIN_CODE}, found none: it was "
            f"never deployed, or was removed. Run deploy-model/gpu with version {version}, which exports it."
        )
    return digest


@step
def delete_version(model_name: str, version: int) -> None:
    """Remove the folder of a version that nobody serves; the file that makes it complete goes first."""
    for key in sorted(_MODELS.keys(f"{model_name}/{version}/"), key=lambda key: not key.endswith(f"/{MAIN_CODE}")):
        _MODELS.delete(key)


class AsideVersions:
    """Copies of versions of a model under other names, for a Triton that runs: one that starts anew loads none."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name

    def copy(self, version: int, entry: str) -> None:
        """Copy a version to `entry`, inside the store; raises StorageError if it is not complete."""
        require_published.fn(self._model_name, version)
        own = [
            name
            for precision, name in PRECISION_GRAPHS.items()
            if read_precision_digest.fn(self._model_name, version, precision)
        ]
        for name in (*own, *VERSION_FILES):
            _MODELS.copy(f"{self._model_name}/{version}/{name}", f"{entry}/{version}/{name}")

    def add_precision(self, version: int, entry: str, precision: str, graph: Path) -> None:
        """Put the graph of a precision into a copy, to try it before it comes into the folder of the version."""
        _MODELS.upload(graph, f"{entry}/{version}/{PRECISION_GRAPHS[precision]}", {_DIGEST: sha256_of(graph)})

    def names(self) -> list[str]:
        """Return the names under which something was put aside."""
        return sorted({key.partition("/")[0] for key in _MODELS.keys(aside_prefix(self._model_name))})

    def remove(self, entry: str) -> None:
        """Remove a copy that Triton serves no longer."""
        _MODELS.delete(*_MODELS.keys(f"{entry}/"))


def deployed_models() -> list[str]:
    """Return the names of the models that have a config.pbtxt."""
    return sorted(name for name, _, rest in (key.partition("/") for key in _MODELS.keys("")) if rest == CONFIG)


class ConfigFile:
    """config.pbtxt of a model, which says that it is deployed: a Triton that starts anew loads what it names."""

    def __init__(self, model_name: str) -> None:
        self._key = f"{model_name}/{CONFIG}"

    def read(self) -> str | None:
        """Return its text; None if the model is not deployed."""
        body = _MODELS.get(self._key)
        return None if body is None else body.decode()

    def write(self, text: str | None) -> None:
        """Put `text` in its place; None removes it."""
        if text is None:
            _MODELS.delete(self._key)
        else:
            _MODELS.put(self._key, text.encode(), "text/plain")
