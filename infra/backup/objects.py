"""The objects of all buckets, into a folder of backups and back; what an earlier backup has is not read again."""

import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from infra.backup.content_store import PIECE, Blobs
from infra.backup.manifests import ObjectEntry
from tasks.catalogue.tombstones import FOLDER as TOMBSTONES
from tasks.storage.object_names import CHANGES, FENCE, Bucket
from tasks.storage.s3_client import client, is_missing, retry_while_unavailable, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8
AT_ONCE = 1000  # entries that wait for threads, so that a large bucket needs no more memory
_MIB = 1 << 20
LARGEST_PART = 128 * _MIB  # each thread has one in memory
LARGEST_PUT = 5 << 30  # bytes, of a request that is no part
_PARTS = (8, 5, 16, 10, 15, 32, 50, 64, 100, 128)  # MiB a part, the usual ones first
Known = Mapping[tuple[str, str, str | None], ObjectEntry]


class Listed(NamedTuple):
    """An object or a version as a listing has it; without ETag it is a marker of a deletion."""

    bucket: str
    key: str
    version: str | None
    etag: str
    size: int
    modified: datetime


class Pass(NamedTuple):
    """What one look at all buckets has found: its entries, how many were read, and how many had gone meanwhile."""

    entries: list[ObjectEntry]
    read: int
    read_bytes: int
    gone: int


def known(entries: Iterable[ObjectEntry]) -> dict[tuple[str, str, str | None], ObjectEntry]:
    """Return entries by bucket, key and version."""
    return {(entry.bucket, entry.key, entry.version): entry for entry in entries}


def list_buckets() -> list[str]:
    """Return the names of all buckets that our key may list.

    Raises:
        StorageError: The store does not answer.
    """
    with s3_errors("listing the buckets"):
        return sorted(bucket["Name"] for bucket in client().list_buckets()["Buckets"])


def keeps_versions(bucket: str) -> bool:
    """Return whether a bucket keeps what was replaced or deleted.

    Raises:
        StorageError: The store does not answer.
    """
    with s3_errors(f"reading whether s3://{bucket} keeps versions"):
        return bool(client().get_bucket_versioning(Bucket=bucket).get("Status"))


def has_objects(bucket: str) -> bool:
    """Return whether a bucket has an object.

    Raises:
        StorageError: The store does not answer.
    """
    return next(_list(bucket), None) is not None


def store_time() -> datetime:
    """Return the time by the store's clock, to the second.

    Raises:
        StorageError: The store does not answer.
    """
    with s3_errors("asking the store for its time"):
        return parsedate_to_datetime(client().list_buckets()["ResponseMetadata"]["HTTPHeaders"]["date"])


def take(blobs: Blobs, buckets: Iterable[str], earlier: Known, until: datetime | None = None) -> Pass:
    """Keep the objects of buckets, of which those that `earlier` has with the same tag and date are not read.

    Args:
        blobs: Where to keep them.
        buckets: Which.
        earlier: What was kept before.
        until: A new object of that second or a later one is left out, because what it refers to may have come behind
            the place at which the listing was.

    Raises:
        StorageError: The store does not answer.
    """
    entries: list[ObjectEntry] = []
    read = read_bytes = gone = 0
    with ThreadPoolExecutor(THREADS) as pool:
        found = (listed for bucket in buckets for listed in _list(bucket) if not _is_of_a_backup(listed))
        while several := list(islice(found, AT_ONCE)):
            new = [each for each in several if until is None or each.modified < until or _had(each, earlier)]
            for listed, entry in zip(new, pool.map(lambda each: _kept(blobs, each, earlier), new), strict=True):
                if entry is None:
                    gone += 1
                    continue
                entries.append(entry)
                if entry is not earlier.get((listed.bucket, listed.key, listed.version)) and not entry.is_marker:
                    read += 1
                    read_bytes += entry.size
    return Pass(entries, read, read_bytes, gone)


def _is_of_a_backup(listed: Listed) -> bool:
    return listed.bucket == Bucket.RUNS and listed.key.startswith((FENCE, CHANGES))


def _had(listed: Listed, earlier: Known) -> bool:
    return listed.version is not None or (listed.bucket, listed.key, None) in earlier


def _list(bucket: str) -> Iterator[Listed]:
    """Every object of a bucket, and, if it keeps them, the earlier versions of each, the oldest first."""
    with s3_errors(f"listing s3://{bucket}"):
        if keeps_versions(bucket):
            yield from _list_versions(client(), bucket)
            return
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for each in page.get("Contents", []):
                yield Listed(bucket, each["Key"], None, each["ETag"], each["Size"], each["LastModified"])


def _list_versions(s3: "S3Client", bucket: str) -> Iterator[Listed]:
    """A page has versions and markers apart; of one key each is newest first, and a key may go on over a page."""
    found: dict[str, list[tuple[datetime, bool, int, Listed]]] = {}
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        versions = [(each, each["ETag"], each["Size"]) for each in page.get("Versions", [])]
        markers = [(each, "", 0) for each in page.get("DeleteMarkers", [])]
        for each, etag, size in [*versions, *markers]:
            listed = Listed(bucket, each["Key"], each["VersionId"], etag, size, each["LastModified"])
            seen = found.setdefault(each["Key"], [])
            seen.append((each["LastModified"], each["IsLatest"], -len(seen), listed))
    for several in found.values():
        yield from (listed for *_, listed in sorted(several, key=lambda each: each[:3]))


def _kept(blobs: Blobs, listed: Listed, earlier: Known) -> ObjectEntry | None:
    """The entry of an object whose bytes are kept now; None if it has gone."""
    entry = earlier.get((listed.bucket, listed.key, listed.version))
    modified = listed.modified.isoformat()
    if entry and (entry.etag, entry.size, entry.modified) == (listed.etag, listed.size, modified):
        blob = entry.blob
        if blob is None or blobs.has(blob):
            return entry
    if not listed.etag:
        return ObjectEntry(listed.bucket, listed.key, listed.version, "", 0, modified, None, "", {})
    return _read(blobs, listed)


def _read(blobs: Blobs, listed: Listed) -> ObjectEntry | None:
    which: dict[str, Any] = {"VersionId": listed.version} if listed.version else {}

    def read(s3: "S3Client") -> ObjectEntry | None:
        try:
            answer = s3.get_object(Bucket=listed.bucket, Key=listed.key, **which)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        with closing(answer["Body"]) as body:
            blob = blobs.add(body.iter_chunks(PIECE))
        return ObjectEntry(
            bucket=listed.bucket,
            key=listed.key,
            version=listed.version,
            etag=answer["ETag"],
            size=blob.size,
            modified=listed.modified.isoformat(),
            sha256=blob.sha256,
            content_type=answer.get("ContentType", ""),
            metadata=answer["Metadata"],
        )

    return retry_while_unavailable(f"reading s3://{listed.bucket}/{listed.key}", read)


class Written(NamedTuple):
    """An object that was written: the id of its version, and whether its ETag is the one that it had."""

    entry: ObjectEntry
    version: str | None
    same_tag: bool


class Restored:
    """What has been written into the store until now."""

    def __init__(self) -> None:
        self.objects = 0
        self.size = 0  # bytes
        self.retagged: list[str] = []  # objects whose ETag could not be made again
        self.versions: dict[str, str] = {}  # ids that the store has now, by those of the backup

    def add(self, written: Written) -> None:
        """Count an object."""
        self.objects += 1
        self.size += written.entry.size
        if not written.same_tag:
            self.retagged.append(f"s3://{written.entry.bucket}/{written.entry.key}")
        if written.entry.version and written.version:
            self.versions[written.entry.version] = written.version

    def renamed(self, record: bytes) -> bytes:
        """Return a record of a deletion that names versions by the ids that the store has now."""

        def present(found: re.Match[bytes]) -> bytes:
            return found[1] + self.versions.get(found[2].decode(), found[2].decode()).encode()

        return re.sub(rb'(versionId=|"version_id": ?")([\w.+/=-]+)', present, record)


def restore(blobs: Blobs, entries: Iterable[ObjectEntry], count: Callable[[Restored], None]) -> Restored:
    """Write the objects of a backup into buckets that are there, with their types, metadata, tags and versions.

    ETags are made again, because checks of archives hold for them; ids of versions are the store's own, so the records
    of deletions, which name them, are changed. `count` is called now and then with what is written.

    Raises:
        StackError: A file of the backup is missing or damaged.
        StorageError: The store does not answer, or refuses an object.
    """
    done = Restored()
    with ThreadPoolExecutor(THREADS) as pool:
        for _, of_bucket in groupby(entries, key=lambda entry: entry.bucket):
            by_key = (list(group) for _, group in groupby(of_bucket, key=lambda entry: entry.key))
            while several := list(islice(by_key, AT_ONCE)):
                for versions in pool.map(functools.partial(_write_versions, blobs, done), several):
                    for written in versions:
                        done.add(written)
                count(done)
    return done


def _write_versions(blobs: Blobs, done: Restored, entries: list[ObjectEntry]) -> list[Written]:
    """Write one object, after its earlier versions."""
    return [written for entry in entries if (written := _write(blobs, done, entry))]


def _write(blobs: Blobs, done: Restored, entry: ObjectEntry) -> Written | None:
    name, blob = f"s3://{entry.bucket}/{entry.key}", entry.blob
    if blob is None:
        retry_while_unavailable(f"removing {name}", lambda s3: s3.delete_object(Bucket=entry.bucket, Key=entry.key))
        return None
    body: Path | bytes = blobs.require(blob)
    if is_record := _tells_versions(entry):
        body = done.renamed(blobs.path(blob).read_bytes())
    answer = retry_while_unavailable(f"writing {name}", lambda s3: _put(s3, entry, body))
    return Written(entry, answer.get("VersionId"), is_record or answer["ETag"] == entry.etag)


def _tells_versions(entry: ObjectEntry) -> bool:
    """Whether an object is a tombstone of an archive, or the journal of a deletion."""
    return entry.bucket == Bucket.RUNS and (
        entry.key.startswith(f"{TOMBSTONES}/") or entry.key.endswith("/deletion.json")
    )


def _put(s3: "S3Client", entry: ObjectEntry, body: Path | bytes) -> dict[str, Any]:
    attributes: dict[str, Any] = {"Bucket": entry.bucket, "Key": entry.key}
    written = attributes | {"Metadata": entry.metadata}
    if entry.content_type:
        written["ContentType"] = entry.content_type
    if isinstance(body, bytes):
        return dict(s3.put_object(**written, Body=body))
    if "-" not in entry.etag and entry.size <= LARGEST_PUT:
        with body.open("rb") as stream:
            return dict(s3.put_object(**written, Body=stream))
    part_size = find_part_size(entry, body)
    upload = s3.create_multipart_upload(**written)["UploadId"]
    attributes["UploadId"] = upload
    parts: list[Any] = []
    with body.open("rb") as stream:
        while (piece := stream.read(part_size)) or not parts:
            number = len(parts) + 1
            tag = s3.upload_part(**attributes, PartNumber=number, Body=piece)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
    return dict(s3.complete_multipart_upload(**attributes, MultipartUpload={"Parts": parts}))


def find_part_size(entry: ObjectEntry, path: Path) -> int:
    """Return the size in bytes of the parts that an object was sent in, as far as its ETag tells; else one that fits.

    The ETag of such an object is the MD5 of the MD5s of its parts, and their number.
    """
    wanted, _, number = entry.etag.strip('"').partition("-")
    parts = int(number) if number.isdecimal() and int(number) else 1
    even = math.ceil(entry.size / parts / _MIB) * _MIB
    for size in dict.fromkeys([*(mib * _MIB for mib in _PARTS), even]):
        fits = 0 < size <= LARGEST_PART and math.ceil(entry.size / size) == parts
        if fits and _md5_of_md5s(path, size) == wanted:
            return size
    return max(8 * _MIB, math.ceil(entry.size / 10_000 / _MIB) * _MIB)


def _md5_of_md5s(path: Path, part_size: int) -> str:
    whole = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(part_size):
            whole.update(hashlib.md5(piece, usedforsecurity=False).digest())
    return whole.hexdigest()
