"""What is left of a deleted archive, version or prediction: who deleted it, why, and what was kept.

Objects in bucket `runs`: `tombstones/<kind>/<SHA-256 of the name>.<flow run id>.json`, one for each deletion, because a
name may come again and be deleted again.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS

FOLDER = "tombstones"

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class Kind(StrEnum):
    """What was deleted; the comment says what its name looks like."""

    DATASET = "dataset"  # a key in bucket `datasets`
    VERSION = "version"  # shapes/3
    PREDICTION = "prediction"  # the id of a flow run


class Tombstone(BaseModel):
    """A deletion: `digest` is the SHA-256 (hex) of what was deleted, if it was one file.

    `flow_run_id` is the run that deleted it. `kept` says what is still there, as addresses or sentences by a short
    name, such as `report` and `restore`. `tags` are those of a deleted version: they say what it was made from.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    name: str
    digest: str | None = None
    deleted: datetime
    flow_run_id: str
    reason: str = ""
    kept: dict[str, str] = {}
    tags: dict[str, str] = {}


def write(tombstone: Tombstone) -> None:
    """Write a tombstone; the same run writes the same object again.

    Raises:
        StorageError: The object store cannot be reached.
    """
    key = f"{_prefix(tombstone.kind, tombstone.name)}{tombstone.flow_run_id}.json"
    _RUNS.put(key, tombstone.model_dump_json().encode(), "application/json")


def read(kind: Kind | str, name: str) -> Tombstone | None:
    """Return the newest deletion of this name; None if nothing of this name was deleted.

    Raises:
        StorageError: The object store cannot be reached.
        ValueError: `kind` is not one of `Kind`.
    """
    return next(reversed(read_all(kind, name)), None)


def read_all(kind: Kind | str, name: str) -> tuple[Tombstone, ...]:
    """Return every deletion of this name, oldest first.

    Raises:
        StorageError: The object store cannot be reached.
        ValueError: `kind` is not one of `Kind`.
    """
    return _read_below(_prefix(Kind(kind), name))


def list_all(kind: Kind | str) -> tuple[Tombstone, ...]:
    """Return every deletion of this kind, oldest first.

    Raises:
        StorageError: The object store cannot be reached.
        ValueError: `kind` is not one of `Kind`.
    """
    return _read_below(f"{FOLDER}/{Kind(kind)}/")


def _read_below(prefix: str) -> tuple[Tombstone, ...]:
    with ThreadPoolExecutor(TRANSFERS) as pool:
        found = list(pool.map(_parse, pool.map(_RUNS.get, _RUNS.keys(prefix))))
    return tuple(sorted(filter(None, found), key=lambda tombstone: tombstone.deleted))


def _prefix(kind: Kind, name: str) -> str:
    return f"{FOLDER}/{kind}/{hashlib.sha256(name.encode()).hexdigest()}."


def _parse(body: bytes | None) -> Tombstone | None:
    """The tombstone; None if it is gone or if somebody else wrote it."""
    try:
        return Tombstone.model_validate_json(body) if body else None
    except ValidationError:
        return None
