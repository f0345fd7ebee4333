"""The deletion of the results of a run of inference."""

import json
from datetime import UTC, datetime
from uuid import UUID

from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.deletion.journal import Deletion
from tasks.deletion.rules import DeletionError, Obstacle, prediction_obstacles, require_deletable
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.deployed_flows import find
from tasks.orchestration.step import retried_step
from tasks.orchestration.unfinished_runs import has_ended
from tasks.storage.fence import announced_change
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

_PREDICTIONS = ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE)
_SUMMARY = "summary.json"  # which makes the results count as published


@retried_step
def find_predictions(run: str) -> Deletion:
    """Return what is to be deleted.

    Raises:
        DeletionError: There are no results of this run.
    """
    stored = list(_PREDICTIONS.list(f"{run}/"))
    if not stored:
        raise DeletionError(
            f"Expected results at s3://{Bucket.PREDICTIONS}/{run}/, found none. They were deleted, or the run has not "
            f"written any."
        )
    model = model_of(_PREDICTIONS.get(f"{run}/{_SUMMARY}"))
    payload = {"run": run, "model": model, "objects": len(stored), "size": sum(each.size for each in stored)}
    tombstone = Tombstone(
        kind=Kind.PREDICTION, name=run, deleted=datetime.now(UTC), flow_run_id=flow_run_id(), tags={"model": model}
    )
    return Deletion(tombstone=tombstone, event=events.PREDICTION_DELETED, payload=payload)


def model_of(summary: bytes | None) -> str:
    """Return the model that a summary names; empty without one, and for one that is damaged."""
    try:
        model = json.loads(summary or b"{}")["model_name"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return model if isinstance(model, str) and model.isprintable() else ""


@retried_step
def require_ended_run(deletion: Deletion, force: bool) -> None:
    """Return if nobody writes these results any more.

    Raises:
        DeletionError: The run has not ended, or nobody knows and `force` is not set.
    """
    require_deletable(f"the results of run {deletion.name}", find_obstacles(deletion.name), force=force)


def find_obstacles(run: str) -> list[Obstacle]:
    """Return what needs the results of a run.

    Raises:
        PrefectUnavailableError: Prefect's server does not answer.
        StorageError: The object store cannot be reached.
    """
    found = find(UUID(run))
    return prediction_obstacles(
        has_ended=None if found is None else has_ended(found), is_published=_PREDICTIONS.exists(f"{run}/{_SUMMARY}")
    )


@retried_step
def remove_predictions(deletion: Deletion) -> None:
    """Remove the folder of the run; first of all what makes it count as published."""
    with announced_change(flow_run_id()):
        _PREDICTIONS.delete(f"{deletion.name}/{_SUMMARY}")
        _PREDICTIONS.delete(*_PREDICTIONS.keys(f"{deletion.name}/"))
