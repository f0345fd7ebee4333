"""The way to the object store, and what its errors say."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tasks.core.errors import StudioError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TRANSFERS = 8


class StorageError(StudioError):
    """An object is missing, or the object store does not answer."""


def client() -> "S3Client":
    """An S3 client that retries and gives up in bounded time."""
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        max_pool_connections=TRANSFERS * 2,
        signature_version="s3v4",
    )
    # A session of its own: the default one would remember keys that the environment no longer has.
    return boto3.session.Session().client("s3", config=config)


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn boto3's errors into a StorageError that says what was being done and what to do now."""
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
        advice = "Check AWS_ENDPOINT_URL and the keys; `make status` shows the local object store."
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchBucket":
            advice = "Expected that bucket to be there: make it, or name another."
        failed = StorageError(f"The object store failed while {doing}: {error} {advice}")
        failed.passing = not isinstance(error, ClientError) or _status(error) >= 500
        raise failed from error


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
