"""What the newest check of each archive found, read again by key and ETag: of an archive since replaced nothing is.

A record is an object in bucket `runs`, `checks/<verdict>/<SHA-256 of the key>.<ETag>.json`. So one listing tells which
archives have a verdict, and three reads find the record of an archive. `label-sources/<SHA-256 of the model's name>/
<version>/` has an object for each archive in which a check has found labels of that version: it outlives the archive.
"""

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.dataset.findings import LabelSource, Report, Verdict
from tasks.orchestration.step import retried_step
from tasks.storage.object_names import Bucket, parse_s3_uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS

FOLDER = "checks"
LABEL_SOURCES = "label-sources"
WATCHED = "watched"  # the tag of a check that began by itself, because the archive was new
OF_PIPELINE = "of-a-pipeline"  # the tag of such a check of an archive that a pipeline has made, and goes on with

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class LabelledArchive(BaseModel):
    """An archive with labels of a version: a key in bucket `datasets`, and the SHA-256 (hex) of its bytes."""

    model_config = ConfigDict(frozen=True)

    archive: str
    digest: str


class CheckRecord(BaseModel):
    """The outcome of a check: `archive` is a key in bucket `datasets`, `etag` names the bytes that were checked.

    The report is `<flow_run_id>/report.html` and `report.json` in bucket `runs`; `digest` is a SHA-256 in hex.
    `label_sources` are the versions that made labels, `accepted_sources` those whose labels a person has accepted.
    """

    model_config = ConfigDict(frozen=True)

    archive: str
    etag: str
    verdict: Verdict
    task: str | None
    class_names: tuple[str, ...]
    images: int
    label_sources: tuple[LabelSource, ...] = ()
    accepted_sources: tuple[LabelSource, ...] = ()
    digest: str
    flow_run_id: str
    checked: datetime

    @classmethod
    def from_report(cls, report: Report, etag: str, flow_run_id: str) -> Self | None:
        """Return the record of a check of now; None for an archive that is not in bucket `datasets`."""
        name = parse_s3_uri(report.archive, Bucket.DATASETS)
        if name.bucket != Bucket.DATASETS:
            return None
        origins = report.statistics.origins
        return cls(
            archive=name.key,
            etag=etag,
            verdict=report.verdict,
            task=report.statistics.task,
            class_names=tuple(report.statistics.class_names),
            images=report.statistics.totals["images"],
            label_sources=origins.sources if origins else (),
            accepted_sources=origins.accepted_sources if origins else (),
            digest=report.digest,
            flow_run_id=flow_run_id,
            checked=datetime.now(UTC),
        )


@retried_step
def record_check(report: Report, etag: str, flow_run_id: str) -> None:
    """Write the record of a check whose report is stored; `etag` is that of the object that was checked.

    An earlier record of the same bytes under another verdict goes after it: another policy was chosen.
    """
    record = CheckRecord.from_report(report, etag, flow_run_id)
    if record is None:
        return
    check = check_id(record.archive, etag)
    for source in (*record.label_sources, *record.accepted_sources):
        _note_labels(record, source)
    _RUNS.put(_object_key(record.verdict, check), record.model_dump_json().encode(), "application/json")
    for verdict in set(Verdict) - {record.verdict}:
        other = _read(_object_key(verdict, check))
        if other and other.checked <= record.checked:
            _RUNS.delete(_object_key(verdict, check))


def _note_labels(record: CheckRecord, source: LabelSource) -> None:
    """Note an archive with a version that had a part in its labels."""
    if source.model_name and source.model_version:
        key = (
            f"{_labels_folder(source.model_name, source.model_version)}{_text_id(record.archive)}.{record.digest}.json"
        )
        archive = LabelledArchive(archive=record.archive, digest=record.digest)
        _RUNS.put(key, archive.model_dump_json().encode(), "application/json")


def list_labelled_archives(model_name: str, version: int, most: int) -> list[LabelledArchive]:
    """Return the archives in which labels of a version are, also accepted ones, those that were checked last first.

    They may be deleted or replaced. Of more than `most`, the others are left out.

    Raises:
        StorageError: The object store cannot be reached.
    """
    listed = sorted(_RUNS.list(_labels_folder(model_name, version)), key=lambda each: each.modified, reverse=True)
    with ThreadPoolExecutor(TRANSFERS) as pool:
        found = list(pool.map(_read_labelled, [each.key for each in listed[:most]]))
    return [each for each in found if each]


def _read_labelled(key: str) -> LabelledArchive | None:
    """What is noted; None if somebody else wrote it."""
    body = _RUNS.get(key)
    try:
        return LabelledArchive.model_validate_json(body) if body else None
    except ValidationError:
        return None


def check_id(archive: str, etag: str) -> str:
    """Return the name that the checks of an object of bucket `datasets` have: one for its key and its ETag."""
    return f"{_text_id(archive)}.{re.sub(r'[^A-Za-z0-9-]', '', etag)}"


def read_checks(objects: Iterable[tuple[str, str]]) -> list[CheckRecord | None]:
    """Return the newest check of each (key, ETag) of bucket `datasets`, in their order; None without one.

    Raises:
        StorageError: The object store cannot be reached.
    """
    keys = [_object_key(verdict, check_id(*each)) for each in objects for verdict in Verdict]
    with ThreadPoolExecutor(TRANSFERS) as pool:
        records = list(pool.map(_read, keys))
    groups = zip(*(records[first :: len(Verdict)] for first in range(len(Verdict))), strict=True)
    return [max(filter(None, group), key=lambda record: record.checked, default=None) for group in groups]


def list_checks(verdict: Verdict | None = None) -> set[str]:
    """Return the `check_id` of every check with this verdict, or with any; a thousand take one request.

    A check may be listed under two verdicts for a moment; `read_checks` knows which it is.

    Raises:
        StorageError: The object store cannot be reached.
    """
    folders = [f"{FOLDER}/{each}/" for each in Verdict if verdict in {None, each}]
    return {key.rpartition("/")[2].removesuffix(".json") for folder in folders for key in _RUNS.keys(folder)}


def delete_checks(archive: str) -> None:
    """Remove every record of an archive, a key in bucket `datasets`; the reports stay.

    Raises:
        StorageError: The object store cannot be reached.
    """
    for verdict in Verdict:
        _RUNS.delete(*_RUNS.keys(f"{FOLDER}/{verdict}/{_text_id(archive)}."))


def _text_id(text: str) -> str:
    """A name of one length without signs: a key has up to 1,024 bytes, a name in some stores 255."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _labels_folder(model_name: str, version: int) -> str:
    return f"{LABEL_SOURCES}/{_text_id(model_name)}/{version}/"


def _object_key(verdict: Verdict, check: str) -> str:
    return f"{FOLDER}/{verdict}/{check}.json"


def _read(key: str) -> CheckRecord | None:
    """The record; None if there is none, or if somebody else wrote it."""
    body = _RUNS.get(key)
    try:
        return CheckRecord.model_validate_json(body) if body else None
    except ValidationError:
        return None
