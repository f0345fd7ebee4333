"""What each imported archive was made from, by the SHA-256 of its bytes: this outlives the archive and its name.

A record is an object in bucket `runs`, `imports/<SHA-256>.json`; `provenance.json` in the archive says more.
"""

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

FOLDER = "imports"

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class ImportRecord(BaseModel):
    """An import: the digests are SHA-256 in hex, of the archive that was made and of its source.

    `source` is a key in bucket `datasets`, or an address elsewhere. `changes` says how often each thing was left out or
    changed.
    """

    model_config = ConfigDict(frozen=True)

    digest: str
    source: str
    source_digest: str
    format: str
    changes: dict[str, int]
    flow_run_id: str


def write_import(record: ImportRecord) -> None:
    """Write the record of an import, unless an earlier one made the same bytes.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    _RUNS.put_if_absent(_object_key(record.digest), record.model_dump_json().encode())


def read_import(digest: str) -> ImportRecord | None:
    """Return the import that made an archive with this SHA-256 (hex); None if none did, or somebody else wrote it.

    Raises:
        StorageError: The object store cannot be reached.
    """
    body = _RUNS.get(_object_key(digest)) if digest else None
    try:
        return ImportRecord.model_validate_json(body) if body else None
    except ValidationError:
        return None


def _object_key(digest: str) -> str:
    return f"{FOLDER}/{digest}.json"
