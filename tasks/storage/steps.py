"""Steps on the object store (any S3; boto3 finds it through `AWS_*`)."""

import hashlib
import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tasks.files import sha256_of
from tasks.orchestration.step import retried_step
from tasks.storage.object_names import OPEN, Bucket, S3Uri, parse_s3_uri
from tasks.storage.object_store import ObjectStore, content_type
from tasks.storage.ranged_reads import head_object
from tasks.storage.s3_client import SHORT_OUTAGE, StorageError


def require_object(name: S3Uri, kind: str, advice: str) -> None:
    """Check that an object exists; the error names others of its bucket if people may list it.

    Raises:
        StorageError: There is no such object.
    """
    store = ObjectStore(name.bucket, SHORT_OUTAGE)
    if store.exists(name.key):
        return
    if name.bucket not in OPEN:
        raise StorageError(f"Expected {kind} at {name}, found none of that name in the bucket. {advice}")
    others = list(islice(store.keys(), 6))
    found = f"it holds {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}" if others else "it is empty"
    raise StorageError(f"Expected {kind} at {name}, found none of that name in the bucket ({found}). {advice}")


def object_name(text: str, default: Bucket) -> S3Uri:
    """Return the object of an address or key (`parse_s3_uri`).

    Raises:
        StorageError: No run may read it, or it is no name.
    """
    try:
        return parse_s3_uri(text, default)
    except ValueError as error:
        raise StorageError(str(error)) from error


class FetchedArchive(NamedTuple):
    """An archive as a file: the SHA-256 of its bytes in hex, and the ETag of the object that they were."""

    path: Path
    digest: str
    etag: str


@retried_step
def fetch_archive(archive: str, folder: Path) -> FetchedArchive:
    """Download a dataset archive; an ObjectChangedError if it was replaced meanwhile."""
    name = object_name(archive, Bucket.DATASETS)
    require_object(name, "a dataset archive", "Upload one with `studio upload x.zip`.")
    path = folder / hashlib.sha256(str(name).encode()).hexdigest()[:16] / file_name(name.key)
    path.parent.mkdir(exist_ok=True)
    etag = head_object(name, "").etag
    ObjectStore(name.bucket, SHORT_OUTAGE).download(name.key, path)
    head_object(name, etag)
    return FetchedArchive(path, sha256_of(path), etag)


def file_name(key: str) -> str:
    """Return the last part of a key as a name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", key.rpartition("/")[2])[-100:].lstrip(".") or "object"


@retried_step
def fetch_base_model(base_model: str, folder: Path) -> Path | None:
    """Download weights from bucket `base-models`, and from no other; None when there are none of that name."""
    name = object_name(base_model, Bucket.BASE_MODELS)
    store = ObjectStore(Bucket.BASE_MODELS, SHORT_OUTAGE)
    if name.bucket != Bucket.BASE_MODELS or not store.exists(name.key):
        return None
    path = folder / file_name(name.key)
    store.download(name.key, path)
    return path


@retried_step
def write_text(text: str, bucket: str, key: str) -> str:
    """Write a small text object; returns its presigned link."""
    store = ObjectStore(bucket, SHORT_OUTAGE)
    store.put(key, text.encode(), f"{content_type(Path(key))}; charset=utf-8")
    return store.presigned_url(key)


@retried_step
def upload_file(file: Path, bucket: str, key: str) -> str:
    """Upload a file; returns its presigned link."""
    store = ObjectStore(bucket, SHORT_OUTAGE)
    store.upload(file, key)
    return store.presigned_url(key)
