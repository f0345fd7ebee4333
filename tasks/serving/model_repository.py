"""The model repository that Triton reads, bucket `models`: a config.pbtxt per model, and a folder per version.

Beside them lie copies of versions that are served aside (`tasks.serving.triton_names`), without a config.pbtxt.
"""

from dataclasses import dataclass
from pathlib import Path

from tasks.files import sha256_of
from tasks.orchestration.step import retried_step, step
from tasks.serving.triton_names import aside_prefix
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, StorageError

GRAPH = "model.onnx"
INT8_GRAPH = "model.int8.onnx"  # beside it, of a version that was served in int8
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
def publish_int8_graph(model_name: str, version: int, graph: Path) -> str:
    """Write the INT8 graph into the folder of a version, unless there is one; returns its SHA-256 in hex."""
    published = read_int8_digest.fn(model_name, version)
    if published is None:
        published = sha256_of(graph)
        _MODELS.upload(graph, f"{model_name}/{version}/{INT8_GRAPH}", {_DIGEST: published})
    return published


@retried_step
def read_int8_digest(model_name: str, version: int) -> str | None:
    """Return the SHA-256 in hex of a version's INT8 graph; None if it has none."""
    return (_MODELS.metadata(f"{model_name}/{version}/{INT8_GRAPH}") or {}).get(_DIGEST)


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
    if digest is not None and precision == "int8":
        digest = read_int8_digest.fn(model_name, version)
    if digest is None:
        raise StorageError(
            f"Expected s3://{Bucket.MODELS}/{model_name}/{version}/ with {GRAPH} and {MAIN_CODE}, found none: it was "
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
        int8 = [INT8_GRAPH] if read_int8_digest.fn(self._model_name, version) else []
        for name in (*int8, *VERSION_FILES):
            _MODELS.copy(f"{self._model_name}/{version}/{name}", f"{entry}/{version}/{name}")

    def add_int8_graph(self, version: int, entry: str, graph: Path) -> None:
        """Put an INT8 graph into a copy, to try it before it comes into the folder of the version."""
        _MODELS.upload(graph, f"{entry}/{version}/{INT8_GRAPH}", {_DIGEST: sha256_of(graph)})

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
