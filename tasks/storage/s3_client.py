"""Clients of the object store, and the meaning of its errors."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.exceptions
import botocore.session
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.utils import parse_timestamp
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from tasks.errors import StudioError
from tasks.files import MAKE_ROOM, is_full_disk
from tasks.orchestration.retries import RetryPolicy
from tasks.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TRANSFERS = 8
STORE_RESTART = RetryPolicy(first_s=0.1, longest_s=5.0, total_s=120.0)
SHORT_OUTAGE = RetryPolicy(attempts=4)  # botocore's own loop: it pauses for at most 1, 2 and 4 s
_CONNECTIONS = 64
_SKEW_S = 300.0  # stores refuse from 900 on
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
    """Return this process's S3 client, for all its threads; it tries a request `attempts` times."""
    return _client(attempts, _environment(), os.getpid())


def signer() -> "S3Client":
    """Return the client that signs links, with a key that may do little: a link can do what its key can."""
    settings = Settings()
    keys = settings.studio_links_access_key_id, settings.studio_links_secret_access_key.get_secret_value()
    return _client(1, _environment(), os.getpid(), keys if keys[0] else None, settings.studio_s3_url or None)


def address_signer() -> "S3Client":
    """Return the client that signs addresses for browsers, with the key of this process."""
    return _client(1, _environment(), os.getpid(), None, Settings().studio_s3_url or None)


def load_descriptions() -> None:
    """Read what botocore has to know of S3 before its first client, for the processes that are forked from this one."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _descriptions())
    core.create_client("s3", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")  # noqa: S106


@functools.cache
def _descriptions() -> Loader:
    """The files in which botocore describes services: to read them takes 60 of the 70 ms of a new client."""
    return Loader()


def _environment() -> tuple[str | None, ...]:
    return tuple(map(os.environ.get, _NAMES))


# A new one takes 10 ms of processor time. The environment may name another store or other keys in the meantime.
@functools.lru_cache(maxsize=8)
def _client(
    attempts: int, _known: object, _process: int, keys: tuple[str, str] | None = None, endpoint: str | None = None
) -> "S3Client":
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=_CONNECTIONS,
        signature_version="s3v4",
    )
    # The default session would remember keys that the environment no longer has.
    core = botocore.session.get_session()
    core.register_component("data_loader", _descriptions())
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_read_time)
    key, secret = keys or (None, None)
    return boto3.session.Session(botocore_session=core).client(
        "s3", config=config, aws_access_key_id=key, aws_secret_access_key=secret, endpoint_url=endpoint
    )


def _read_time(text: str) -> datetime:
    """A date of an answer: botocore's own reader takes as long for a listing as all the rest of it."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)


def obstore_for(bucket: str) -> S3Store:
    """Return this process's fast client of a bucket, for all its threads; it tries once.

    boto3 holds Python's lock for more than a millisecond of each request; this one releases it.
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
    """Turn boto3's errors into a StorageError that names what failed and what to do now."""
    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error, OSError) as error:
        # A transfer hides the answer of the store.
        hidden = error.__context__ if isinstance(error, Boto3Error) else None
        cause = hidden if isinstance(hidden, ClientError) else error
        failed = StorageError(f"The object store failed while {doing}: {error} {_advice(cause)}")
        failed.transient = _may_pass(cause)
        raise failed from error


def _advice(error: Exception) -> str:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else None
    if code == "NoSuchBucket":
        return "Expected that bucket to be there: make it, or name another."
    if isinstance(error, ClientError) and (code == "RequestTimeTooSkewed" or _is_of_another_time(error)):
        return "Set the clock of this machine by NTP (`timedatectl`), as that of the store is; then retry this run."
    if isinstance(error, OSError) and is_full_disk(error):
        return MAKE_ROOM
    return "Check AWS_ENDPOINT_URL and the keys; `studio status` shows the local object store."


def _is_of_another_time(error: ClientError) -> bool:
    """Whether the store refuses, and its clock is not ours; what it answers to HEAD says no more."""
    try:
        there = parsedate_to_datetime(error.response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return status_of(error) == 403 and abs((datetime.now(UTC) - there).total_seconds()) > _SKEW_S
    except (KeyError, ValueError, TypeError):
        return False


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        return status_of(error) >= 500 or status_of(error) in {408, 409, 429} or code == "RequestTimeout"
    return isinstance(error, _AWAY)


def status_of(error: ClientError) -> int:
    """Return the HTTP status of the answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def is_missing(error: ClientError) -> bool:
    """Return whether the object is missing, rather than its bucket."""
    return status_of(error) == 404 and error.response["Error"]["Code"] != "NoSuchBucket"


def retry_while_unavailable(
    doing: str, call: Callable[["S3Client"], Answer], retries: RetryPolicy | None = None
) -> Answer:
    """Return what `call` returns for a client, called again while the store does not answer (None: STORE_RESTART).

    StorageError at once if the store refuses, and `transient` if it stays away.
    """
    retries = retries or STORE_RESTART

    def once() -> Answer:
        with s3_errors(doing):
            return call(client(retries.attempts or 1))

    return once() if retries.attempts else retries.call(once)
