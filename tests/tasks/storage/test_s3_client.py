"""Errors of the object store say what to do about them."""

import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tasks.storage.s3_client import StorageError, s3_errors


def refusal(code: str, status: int, ahead: timedelta | None = None) -> ClientError:
    """An answer of the store, whose clock is `ahead` of ours, or says nothing."""
    headers = {} if ahead is None else {"date": format_datetime(datetime.now(UTC) + ahead)}
    answer = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    details = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": answer}
    return ClientError(details, "HeadObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "advice", "transient"),
    [
        (partial(refusal, "NoSuchBucket", 404), "make it, or name another", False),
        (partial(refusal, "RequestTimeTooSkewed", 403), "Set the clock of this machine by NTP", False),
        (partial(refusal, "403", 403, timedelta(hours=-1)), "Set the clock of this machine by NTP", False),
        (partial(refusal, "403", 403, timedelta(seconds=20)), "Check AWS_ENDPOINT_URL and the keys", False),
        (partial(refusal, "AccessDenied", 403), "Check AWS_ENDPOINT_URL and the keys", False),
        (partial(refusal, "SlowDown", 503), "`studio status` shows the local object store", True),
        (
            partial(EndpointConnectionError, endpoint_url="http://nobody"),
            "`studio status` shows the local object store",
            True,
        ),
        (partial(OSError, errno.ENOSPC, "No space left on device"), "Make room on this disk", False),
    ],
)
def test_an_error_of_the_store_says_what_to_do_and_whether_it_may_pass(
    error: Callable[[], Exception], advice: str, transient: bool
) -> None:
    with (
        pytest.raises(StorageError, match="failed while reading x") as told,
        s3_errors("reading x"),
    ):
        raise error()
    assert advice in str(told.value)
    assert told.value.transient is transient
