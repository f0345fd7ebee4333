"""Steps on the object store (any S3; boto3 finds it through `AWS_*`)."""

import hashlib
import mimetypes
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tasks.orchestration.step import retried_step, step
from tasks.storage.object_names import OPEN, Bucket, S3Uri, parse_s3_uri
from tasks.storage.s3_client import (
    TRANSFERS,
    StorageError,
    client,
    obstore_for,
    retry_while_unavailable,
    s3_errors,
    signer,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LINK_SECONDS = 7 * 24 * 3600  # the longest that S3 signs
_SMALL = 8 << 20  # bytes of a file that goes in one request


def object_exists(bucket: str, key: str) -> bool:
    """Whether the object is there."""
    with s3_errors(f"looking for s3://{bucket}/{key}"):
        try:
            client().head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
    return True


def list_keys(bucket: str, prefix: str = "", limit: int | None = None) -> list[str]:
    """Keys that begin with `prefix`, in order."""
    keys: list[str] = []
    with s3_errors(f"listing s3://{bucket}/{prefix}"):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            keys += [entry["Key"] for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
            if limit is not None and len(keys) >= limit:
                return keys[:limit]
    return keys


def require_object(name: S3Uri, kind: str, advice: str) -> None:
    """Raise StorageError when the object is missing, with what the bucket does hold where people may list it."""
    if object_exists(name.bucket, name.key):
        return
    if name.bucket not in OPEN:
        raise StorageError(f"Expected {kind} at {name}, found none of that name in the bucket. {advice}")
    others = list_keys(name.bucket, limit=6)
    found = f"it holds {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}" if others else "it is empty"
    raise StorageError(f"Expected {kind} at {name}, found none of that name in the bucket ({found}). {advice}")


def object_name(text: str, default: Bucket) -> S3Uri:
    """`parse_s3_uri`, as an error that a person can act on."""
    try:
        return parse_s3_uri(text, default)
    except ValueError as error:
        raise StorageError(str(error)) from error


@step
def fetch_archive(archive: str, folder: Path) -> tuple[Path, str]:
    """Download a dataset archive; returns its path and the SHA-256 of its bytes in hex."""
    name = object_name(archive, Bucket.DATASETS)
    require_object(name, "a dataset archive", "Upload one with `make upload ARCHIVE=x.zip`.")
    path = folder / hashlib.sha256(str(name).encode()).hexdigest()[:16] / file_name(name.key)
    path.parent.mkdir(exist_ok=True)
    with s3_errors(f"reading {name}"):
        client().download_file(name.bucket, name.key, str(path))
    return path, sha256_of(path)


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file in hex; None where there is none."""
    return sha256_of(path) if path.is_file() else None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_name(key: str) -> str:
    """The last part of a key as a name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", key.rpartition("/")[2])[-100:].lstrip(".") or "object"


@step
def fetch_base_model(base_model: str, folder: Path) -> Path | None:
    """Download weights from bucket `base-models`, and from no other; None when there are none of that name."""
    name = object_name(base_model, Bucket.BASE_MODELS)
    if name.bucket != Bucket.BASE_MODELS or not object_exists(name.bucket, name.key):
        return None
    path = folder / file_name(name.key)
    with s3_errors(f"reading {name}"):
        client().download_file(name.bucket, name.key, str(path))
    return path


def upload_folder(folder: Path, bucket: str, prefix: str) -> None:
    """Upload every file below `folder`, side by side; a store that is away is asked again for a while."""

    def upload(path: Path) -> None:
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        said = {"ContentType": content_type(path)}
        if not _put_quickly(path, bucket, key):
            retry_while_unavailable(
                f"writing s3://{bucket}/{key}", lambda s3: s3.upload_file(str(path), bucket, key, ExtraArgs=said)
            )

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(TRANSFERS) as pool:
        list(pool.map(upload, files))


def _put_quickly(path: Path, bucket: str, key: str) -> bool:
    """Write a small file; False where it is large, or anything is amiss, for boto3 to try again and to explain."""
    if path.stat().st_size > _SMALL:
        return False
    try:
        said = {"Content-Type": content_type(path)}
        obstore_for(bucket).put(key, path.read_bytes(), attributes=said, use_multipart=False)
    except Exception:  # noqa: BLE001 - it has many; this is a short cut for the many small pictures
        return False
    return True


def content_type(path: Path) -> str:
    """What a browser should take the file for."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def presigned_url(bucket: str, key: str) -> str:
    """A presigned address that opens the object for seven days."""
    return _signed(signer(), bucket, key)


def presigned_urls(bucket: str, prefix: str, paths: Iterable[str]) -> dict[str, str]:
    """The addresses of objects below `prefix`, by their paths."""
    s3 = signer()
    return {path: _signed(s3, bucket, f"{prefix}/{path}") for path in set(paths)}


def _signed(s3: "S3Client", bucket: str, key: str) -> str:
    place = {"Bucket": bucket, "Key": key}
    return s3.generate_presigned_url("get_object", Params=place, ExpiresIn=LINK_SECONDS)


def read_text(bucket: str, key: str) -> str:
    """Read a small text object."""
    with s3_errors(f"reading s3://{bucket}/{key}"):
        return client().get_object(Bucket=bucket, Key=key)["Body"].read().decode()


@step
def write_text(text: str, bucket: str, key: str) -> str:
    """Write a small text object; returns its presigned link."""
    with s3_errors(f"writing s3://{bucket}/{key}"):
        content = f"{content_type(Path(key))}; charset=utf-8"
        client().put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType=content)
    return presigned_url(bucket, key)


@retried_step
def upload_weights(weights: Path, place: str) -> None:
    """Keep trained weights in bucket `runs`, so that hours of training outlive a registry that is down."""
    with s3_errors(f"writing s3://{Bucket.RUNS}/{place}/best.pt"):
        client().upload_file(str(weights), Bucket.RUNS, f"{place}/best.pt")
