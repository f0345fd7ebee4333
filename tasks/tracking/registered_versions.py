"""What the registry holds: models and versions, in lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.tracking.mlflow_client import quoted, tracking_errors

_MODELS_PER_REQUEST = 1000  # the most that MLflow gives
_VERSIONS_PER_REQUEST = 2000


@dataclass(frozen=True, kw_only=True)
class RegisteredModel:
    """A model and the versions that its aliases point at."""

    name: str
    aliases: Mapping[str, int]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A version with its tags; `run_id` is its run in MLflow."""

    model: str
    number: int
    run_id: str
    created: datetime
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """Model and number, such as `shapes/3`."""
        return f"{self.model}/{self.number}"


def list_models(search: str = "") -> list[RegisteredModel]:
    """Return every model, or those whose name holds `search`, in any case, by name.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    models: dict[str, RegisteredModel] = {}
    with tracking_errors("listing the models") as mlflow:
        token = None
        while True:
            page = mlflow.search_registered_models(max_results=_MODELS_PER_REQUEST, page_token=token)
            models |= {model.name: _model(model) for model in page if search.lower() in model.name.lower()}
            token = page.token
            if not token:
                return [models[name] for name in sorted(models)]


def find_model(name: str) -> RegisteredModel | None:
    """Return a model; None if there is none of this name.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    return next((model for model in list_models(name) if model.name == name), None)


def read_version(model: str, number: int) -> RegisteredVersion:
    """Return a version of a model.

    Raises:
        TrackingError: There is none of this number, or MLflow cannot be reached.
    """
    with tracking_errors(f"reading version {number} of {model}") as mlflow:
        return _version(mlflow.get_model_version(model, str(number)))


def list_versions(model: str = "") -> list[RegisteredVersion]:
    """Return the versions of a model, or of all, the newest of each first.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    versions: dict[tuple[str, int], RegisteredVersion] = {}
    chosen = f"name = {quoted(model)}" if model else ""
    with tracking_errors(f"listing the versions of {model or 'all models'}") as mlflow:
        token = None
        while True:
            page = mlflow.search_model_versions(chosen, max_results=_VERSIONS_PER_REQUEST, page_token=token)
            versions |= {(entry.name, int(entry.version)): _version(entry) for entry in page}
            token = page.token
            if not token:
                return [versions[key] for key in sorted(versions, key=lambda key: (key[0], -key[1]))]


def _model(entry: Any) -> RegisteredModel:  # noqa: ANN401
    aliases = {alias: int(version) for alias, version in entry.aliases.items()}
    return RegisteredModel(name=entry.name, aliases=aliases, tags=dict(entry.tags))


def _version(entry: Any) -> RegisteredVersion:  # noqa: ANN401
    return RegisteredVersion(
        model=entry.name,
        number=int(entry.version),
        run_id=entry.run_id or "",
        created=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        tags=dict(entry.tags),
    )
