"""What a run about a model would do to those who use it, in sentences."""

from collections.abc import Mapping
from typing import Any

from tasks.catalogue.entries import ModelEntry
from tasks.catalogue.models import find_model


def of_deployment(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which version clients would get instead of which.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    model = _model(parameters)
    if model is None:
        return ()
    version = parameters.get("version") or model.challenger or model.champion
    if version is None:
        return (f"{model.name} has no challenger: choose a version.",)
    if version == model.champion:
        return (f"Clients of {model.name} get version {version} already.",)
    now = f"version {model.champion}" if model.champion else "nothing"
    return (f"Clients of {model.name}, which get {now} now, get version {version}, if it passes its gates.",)


def of_inference(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say that there is no version which could answer.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    model = _model(parameters)
    if model is None or model.champion is not None:
        return ()
    return (f"{model.name} has no champion, so nobody answers and the run will fail: deploy a version first.",)


def of_rollback(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which version clients would get again, or why there is none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    model = _model(parameters)
    if model is None:
        return ()
    if model.champion is None:
        return (f"{model.name} has no champion, so there is nothing to roll back from and the run will fail.",)
    version = parameters.get("version") or model.former_champion
    if version is None:
        return (f"{model.name} had no other champion, so there is nothing to go back to and the run will fail.",)
    if version not in model.champions:
        return (f"Version {version} of {model.name} never was champion, so the run will fail: deploy it instead.",)
    return (f"Clients of {model.name} get version {version} instead of version {model.champion}.",)


def of_undeployment(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say who gets no answers any more.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    model = _model(parameters)
    if model is None or model.champion is None:
        return ()
    return (f"Clients of {model.name}, which get version {model.champion} now, get no answers any more.",)


def of_version_deletion(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what forbids to delete a version, and what goes with it.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    model = _model(parameters)
    number = parameters.get("version")
    version = next((each for each in model.versions if each.number == number), None) if model else None
    if version is None:
        return ()
    uses = [*(f"is {alias}" for alias in version.aliases), *(["is served"] if version.served else [])]
    refusal = (f"{version.name} {' and '.join(uses)}, so the run may refuse this.",) if uses else ()
    return (*refusal, f"The weights and the graph of {version.name} go. Its run in MLflow and its lineage stay.")


def _model(parameters: Mapping[str, Any]) -> ModelEntry | None:
    """The model that is named; None if none is yet, or there is no such model: the run says so."""
    name = parameters.get("model_name")
    return find_model(name) if isinstance(name, str) and name else None
