"""The registered models by name, each with its versions, the newest first."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tasks.catalogue.cursors import CatalogueError, ListRequest
from tasks.catalogue.entries import ModelEntry, Page, VersionEntry
from tasks.catalogue.run_pages import version_pages
from tasks.errors import expected_found_fix, safe_repr
from tasks.serving.http_client import ServingError
from tasks.serving.model_control import list_ready_versions
from tasks.tracking import registered_versions
from tasks.tracking.champion_history import parse_history
from tasks.tracking.champions import HISTORY_TAG
from tasks.tracking.lineage import archives_of, is_imported
from tasks.tracking.registered_models import CHALLENGER, CHAMPION
from tasks.tracking.registered_versions import RegisteredModel, RegisteredVersion

VERSION_NAME = re.compile(r"(?P<model>.+)/(?P<number>[1-9]\d{0,8})")


def list_models(*, cursor: str = "", limit: int = 50, search: str = "") -> Page[ModelEntry]:
    """Return a page of the models whose name holds `search`, in any case, by name.

    A model that is there from the first page to the last is in exactly one page, whatever is registered meanwhile.

    Raises:
        CatalogueError: The cursor is of another list, or the limit cannot be.
        TrackingError: MLflow cannot be reached.
    """
    request = ListRequest(listing="models", filters={"search": search}, cursor=cursor, limit=limit)
    after = "".join(request.position)
    found = [model for model in registered_versions.list_models(search) if model.name > after]
    shown = found[:limit]
    ready = _ready_versions() if shown else None
    entries = tuple(_entry(model, ready) for model in shown)
    return Page(entries=entries, next_cursor=request.cursor_behind(shown[-1].name) if len(found) > limit else None)


def read_model(name: str) -> ModelEntry:
    """Return a model by its name.

    Raises:
        CatalogueError: There is no such model.
        TrackingError: MLflow cannot be reached.
    """
    model = find_model(name)
    if model is None:
        raise CatalogueError(_absence(f"a model {safe_repr(name)}", "none of this name"))
    return model


def find_model(name: str) -> ModelEntry | None:
    """Return a model by its name; None if there is none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    model = registered_versions.find_model(name)
    return None if model is None else _entry(model, _ready_versions())


def read_version(name: str) -> VersionEntry:
    """Return a version by model and number, such as `shapes/3`.

    Raises:
        CatalogueError: There is no such version.
        TrackingError: MLflow cannot be reached.
    """
    parts = VERSION_NAME.fullmatch(name)
    if parts is None:
        raise CatalogueError(_absence("a version such as shapes/3", safe_repr(name)))
    versions = read_model(parts["model"]).versions
    version = next((version for version in versions if version.number == int(parts["number"])), None)
    if version is None:
        known = ", ".join(str(each.number) for each in versions[:10]) or "none"
        raise CatalogueError(
            _absence(f"version {parts['number']} of {safe_repr(parts['model'])}", f"the versions {known}")
        )
    return version


def _absence(expected: str, found: str) -> str:
    return expected_found_fix(expected, found, "Look for it with `studio models`.")


def _ready_versions() -> Mapping[str, set[int]] | None:
    """The versions that Triton serves, by model; None if it is away."""
    try:
        return list_ready_versions()
    except ServingError:
        return None


def _entry(model: RegisteredModel, ready: Mapping[str, set[int]] | None) -> ModelEntry:
    served = None if ready is None else ready.get(model.name, set())
    versions = registered_versions.list_versions(model.name)
    return ModelEntry(
        name=model.name,
        champion=model.aliases.get(CHAMPION),
        challenger=model.aliases.get(CHALLENGER),
        champions=_champions(model),
        served=None if served is None else bool(served),
        versions=tuple(_version(version, model.aliases, served) for version in versions),
    )


def _champions(model: RegisteredModel) -> tuple[int, ...]:
    try:
        return tuple(parse_history(model.tags.get(HISTORY_TAG), model.aliases.get(CHAMPION)))
    except (ValueError, TypeError):  # a tag of somebody else
        return ()


def _version(version: RegisteredVersion, aliases: Mapping[str, int], served: set[int] | None) -> VersionEntry:
    tags = version.tags
    archives = archives_of(tags)
    return VersionEntry(
        model=version.model,
        number=version.number,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version.number)),
        created=version.created,
        task=tags.get("task"),
        classes=tuple(map(str, _json(tags, "class_names", list))),
        imported_from=tags.get("base_model") if is_imported(tags) else None,
        archives=tuple(archives),
        digests=tuple(archives.values()),
        scores={name: value for name, value in _json(tags, "metrics", dict).items() if isinstance(value, float | int)},
        promotion=tags.get("promotion_reason", ""),
        refused=tags.get("promotion") == "refused",
        training_run=tags.get("flow_run_id"),
        mlflow_run=version.run_id,
        parity=tags.get("parity"),
        approved_by=tags.get("approval.by") if tags.get("approval") == "approved" else None,
        served=None if served is None else version.number in served,
        pages=version_pages(version),
    )


def _json(tags: Mapping[str, str], name: str, kind: type) -> Any:  # noqa: ANN401
    """The value of a tag; an empty one if the tag is missing, or somebody else's."""
    try:
        value = json.loads(tags.get(name, ""))
    except ValueError:
        return kind()
    return value if isinstance(value, kind) else kind()
