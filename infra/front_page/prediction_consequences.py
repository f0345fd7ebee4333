"""What the deletion of the results of a run of inference would take away, in sentences."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tasks.deletion.predictions import find_obstacles
from tasks.rendering.sizes import format_bytes
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

_STORE = ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE)


def of_deletion(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what goes, what stays, and what forbids it.

    Raises:
        PrefectUnavailableError: Prefect's server does not answer.
        StorageError: The object store cannot be reached.
    """
    try:
        run = str(UUID(parameters.get("run")))
    except (ValueError, TypeError, AttributeError):
        return ()
    sizes = [stored.size for stored in _STORE.list(f"{run}/")]
    if not sizes:
        return ("There are no results of this run: they were deleted, or it has not written any.",)
    goes = f"{len(sizes):,} files of {format_bytes(sum(sizes))} go, and no copy of them is kept."
    return (goes, "Its run in MLflow stays, with its totals.", *(each.reason for each in find_obstacles(run)))
