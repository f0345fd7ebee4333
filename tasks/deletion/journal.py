"""What a flow run is deleting, written before the first object goes: `runs/<flow run id>/deletion.json`.

A run that is tried again reads it: what it was to delete may be gone already, and with it all that was known of it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.catalogue import tombstones
from tasks.catalogue.tombstones import Tombstone
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried_step
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class Deletion(BaseModel):
    """What is deleted, what will be left of it, and the event that says so.

    `etag` and `version_id` name the content of an object, so that no other of the same name goes.
    """

    model_config = ConfigDict(frozen=True)

    tombstone: Tombstone
    event: str
    payload: Mapping[str, Any]
    etag: str = ""
    version_id: str | None = None

    @property
    def name(self) -> str:
        """The name of what is deleted."""
        return self.tombstone.name


@retried_step
def begun_deletion() -> Deletion | None:
    """Return what an earlier attempt of this flow run has begun to delete; None if there is nothing."""
    body = _RUNS.get(_key())
    return Deletion.model_validate_json(body) if body else None


@retried_step
def begin(deletion: Deletion) -> None:
    """Write down what this flow run deletes from now on."""
    _RUNS.put(_key(), deletion.model_dump_json().encode(), "application/json")


@retried_step
def finish(deletion: Deletion, resource: events.Resource) -> None:
    """Write the tombstone and emit the event; done twice it is as if done once."""
    tombstones.write(deletion.tombstone)
    events.emit(deletion.event, resource, payload=deletion.payload, key=flow_run_id())


def _key() -> str:
    return f"{flow_run_id()}/deletion.json"
