"""Small objects, read and written as a whole by those who would rather wait for a store that is away than fail."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.exceptions import ClientError

from tasks.storage.s3_client import StorageError, is_missing, retry_while_unavailable, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

_WRITER = "writer"
_MOST_KEYS = 1000  # that are listed or removed in one request


def list_pages(bucket: str, prefix: str) -> Iterator["ListObjectsV2OutputTypeDef"]:
    """Yield the answers, of at most 1,000 objects each, that list what begins with `prefix`, in order."""
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": _MOST_KEYS}

    def ask(s3: "S3Client") -> "ListObjectsV2OutputTypeDef":
        return s3.list_objects_v2(**asked)

    while True:
        page = retry_while_unavailable(f"listing s3://{bucket}/{prefix}", ask)
        yield page
        if not page["IsTruncated"]:
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def server_time(page: "ListObjectsV2OutputTypeDef") -> datetime:
    """When the store gave an answer, by its own clock, to the second; by this machine's where it does not say."""
    said = page["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(said) if said else datetime.now(UTC)


def get(bucket: str, key: str) -> bytes | None:
    """Return an object's bytes; None where there is none."""

    def ask(s3: "S3Client") -> bytes | None:
        try:
            return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    return retry_while_unavailable(f"reading s3://{bucket}/{key}", ask)


def exists(bucket: str, key: str) -> bool:
    """Whether there is such an object."""

    def ask(s3: "S3Client") -> bool:
        try:
            s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        return True

    return retry_while_unavailable(f"looking for s3://{bucket}/{key}", ask)


def put(bucket: str, key: str, body: bytes) -> None:
    """Write an object, over one that is there."""
    retry_while_unavailable(f"writing s3://{bucket}/{key}", lambda s3: s3.put_object(Bucket=bucket, Key=key, Body=body))


def put_if_absent(bucket: str, key: str, body: bytes | Path) -> bool:
    """Write an object where there is none, of at most 5 GiB, whole or not at all; False where another was first."""
    writer = uuid4().hex

    def ask(s3: "S3Client") -> bool:
        with ExitStack() as stack:
            content = stack.enter_context(body.open("rb")) if isinstance(body, Path) else body
            try:
                s3.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*", Metadata={_WRITER: writer})
            except ClientError as error:
                if status_of(error) == 412:
                    # An attempt of our own may have been first, whose answer was lost.
                    return _writer_of(s3, bucket, key) == writer
                raise
        return True

    return retry_while_unavailable(f"writing s3://{bucket}/{key}", ask)


def _writer_of(s3: "S3Client", bucket: str, key: str) -> str | None:
    try:
        return s3.head_object(Bucket=bucket, Key=key)["Metadata"].get(_WRITER)
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def remove(bucket: str, keys: Sequence[str]) -> None:
    """Remove objects, of which any may be gone already."""

    def ask(s3: "S3Client") -> None:
        for first in range(0, len(keys), _MOST_KEYS):
            objects = [{"Key": key} for key in keys[first:][:_MOST_KEYS]]
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]
            for error in answer.get("Errors", []):
                raise StorageError(
                    f"Expected s3://{bucket}/{error.get('Key')} to be removed, found {error.get('Message')}. See the "
                    f"object store's log, then start this run again."
                )

    retry_while_unavailable(f"removing objects of s3://{bucket}", ask)
