"""Pages about versions, by tags of the version: its evaluations, label errors, monitoring, why it was refused."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from tasks.orchestration.step import step
from tasks.tracking.lineage import archives_of
from tasks.tracking.mlflow_client import best_effort
from tasks.tracking.registry import ModelVersion

PREFIX = "page."


@dataclass(frozen=True, kw_only=True)
class VersionPage:
    """File `name` of flow run `run` in bucket `runs`: about a split of archives, by their SHA-256 in hex by name.

    Without archives it is about those that the version was trained on; with neither archives nor a split, as of a
    monitoring, about none.
    """

    name: str
    run: str
    archives: Mapping[str, str]
    split: str


@step
def keep_page(version: ModelVersion, page: VersionPage) -> None:
    """Tag a version with a page, in place of an earlier one of that name about the same images; never raises."""
    images = json.dumps([sorted(page.archives), page.split])
    tag = f"{PREFIX}{page.name}.{hashlib.sha256(images.encode()).hexdigest()[:12]}"
    value = json.dumps({"flow_run_id": page.run, "archives": dict(page.archives), "split": page.split})
    with best_effort("the page of a version") as mlflow:
        mlflow.set_model_version_tag(version.name, str(version.version), tag, value)


def pages_of(tags: Mapping[str, str]) -> list[VersionPage]:
    """Return the pages that a version's tags name, with archives as `archives_of` names them."""
    found = (_page(tag, tags) for tag in sorted(tags) if tag.startswith(PREFIX))
    return [page for page in found if page]


def _page(tag: str, tags: Mapping[str, str]) -> VersionPage | None:
    """The page of a tag; None if it is somebody else's."""
    try:
        value = json.loads(tags[tag])
        own = {"archives": json.dumps(value["archives"])} if value["archives"] or not value["split"] else tags
        return VersionPage(
            name=tag.removeprefix(PREFIX).rpartition(".")[0],
            run=str(UUID(value["flow_run_id"])),
            archives=archives_of(own),
            split=str(value["split"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
