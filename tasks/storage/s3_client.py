"""The way to the object store, and what its errors say."""

import contextlib
import errno
import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.exceptions
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from tasks.errors import StudioError
from tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TRANSFERS = 8
UNAVAILABLE_TIMEOUT_S = 120.0
_MAX_PAUSE_S = 5.0
_CONNECTIONS = 64
_NAMES = tuple(
    f"AWS_{name}"
    for name in (
        *("ENDPOINT_URL", "ENDPOINT_URL_S3", "DEFAULT_REGION", "REGION", "CA_BUNDLE"),
        *("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"),
        *("PROFILE", "DEFAULT_PROFILE", "CONFIG_FILE", "SHARED_CREDENTIALS_FILE"),
    )
)
_AWAY = (
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.IncompleteReadError,
    Boto3Error,
    ConnectionError,
    TimeoutError,
)
Answer = TypeVar("Answer")


class StorageError(StudioError):
    """An object is missing, or the object store does not answer."""


def client(attempts: int = 4) -> "S3Client":
    """Return this process's S3 client, for all its threads; it tries `attempts` times and gives up in bounded time."""
    # Making one takes 0.1 s of processor time. The environment may name another store or other keys meanwhile.
    known = tuple(os.environ.get(name) for name in _NAMES)
    return _client(attempts, known, os.getpid())


def signer() -> "S3Client":
    """Return the client that signs links: a link can do what its key can, so this one's may do little."""
    settings = Settings()
    key, secret = settings.studio_links_access_key_id, settings.studio_links_secret_access_key.get_secret_value()
    if not key:
        return client()
    known = tuple(os.environ.get(name) for name in _NAMES)
    return _client(1, known, os.getpid(), (key, secret))


@functools.lru_cache(maxsize=8)
def _client(attempts: int, _known: object, _process: int, keys: tuple[str, str] | None = None) -> "S3Client":
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=_CONNECTIONS,
        signature_version="s3v4",
    )
    # A session of its own: the default one would remember keys that the environment no longer has.
    key, secret = keys or (None, None)
    return boto3.session.Session().client("s3", config=config, aws_access_key_id=key, aws_secret_access_key=secret)


def obstore_for(bucket: str) -> S3Store:
    """Return this process's quick way to read and write objects of a bucket, for all its threads; it tries once.

    boto3 keeps Python's lock for more than a millisecond a request, whoever else waits for it; this one lets go of it.
    """
    s3 = client(attempts=1)
    return _obstore_for(bucket, str(s3.meta.endpoint_url), s3.meta.region_name, s3)


@functools.lru_cache(maxsize=16)
def _obstore_for(bucket: str, endpoint: str, region: str, _client: "S3Client") -> S3Store:
    return S3Store(
        bucket,
        endpoint=endpoint,
        region=region,
        credential_provider=Boto3CredentialProvider(boto3.session.Session()),
        client_options={"allow_http": True, "connect_timeout": "5s", "timeout": "60s"},
        retry_config={"max_retries": 0},
    )


@contextlib.contextmanager
def s3_errors(doing: str) -> Iterator[None]:
    """Turn boto3's errors into a StorageError that says what was being done and what to do now."""
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
        # A transfer hides what the store said.
        hidden = error.__context__ if isinstance(error, Boto3Error) else None
        said = hidden if isinstance(hidden, ClientError) else error
        failed = StorageError(f"The object store failed while {doing}: {error} {_advice(said)}")
        failed.transient = _may_pass(said)
        raise failed from error


def _advice(error: Exception) -> str:
    if isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchBucket":
        return "Expected that bucket to be there: make it, or name another."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "Make room on this disk, or let STUDIO_SCRATCH_DIR name a folder on a larger one."
    return "Check AWS_ENDPOINT_URL and the keys; `make status` shows the local object store."


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        return status_of(error) >= 500 or status_of(error) in {408, 409, 429} or code == "RequestTimeout"
    return isinstance(error, _AWAY)


def status_of(error: ClientError) -> int:
    """HTTP status of the answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def is_missing(error: ClientError) -> bool:
    """Whether the store says that there is no such object, in a bucket that is there as far as it says."""
    return status_of(error) == 404 and error.response["Error"]["Code"] != "NoSuchBucket"


def retry_while_unavailable(
    doing: str, call: Callable[["S3Client"], Answer], wait_s: float = UNAVAILABLE_TIMEOUT_S
) -> Answer:
    """Call `call` with a client, and again for `wait_s` seconds if the store does not answer; 0: botocore's 4 attempts.

    Raises:
        StorageError: At once if the store refuses; `transient` if it stays away.
    """
    deadline, pause = None, 0.1
    while True:
        try:
            with s3_errors(doing):
                return call(client(attempts=1) if wait_s else client())
        except StorageError as error:
            now = time.monotonic()
            deadline = deadline or now + wait_s
            if not error.transient or now + pause > deadline:
                raise
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - those who wait shall not all come at once
        pause = min(2 * pause, _MAX_PAUSE_S)
