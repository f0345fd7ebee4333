"""Pictures of an archive for a list: those with which the report of its check ends."""

import re
from contextlib import closing
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import SHORT_OUTAGE, is_missing, retry_while_unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PICTURES = 3
_END_BYTES = 96 << 10  # a picture has at most 20 kB in a report; its outlines come on top
_PICTURE = re.compile(rb'<image href="(data:image/jpeg;base64,[A-Za-z0-9+/=]+)"')


def read_sample_pictures(flow_run_id: str) -> list[str]:
    """Return the last pictures of the report of a run, as data URIs; none if it has no report or shows none there.

    Raises:
        StorageError: The object store cannot be reached.
    """
    found: list[bytes] = _PICTURE.findall(_read_end(f"{flow_run_id}/report.html"))
    return [uri.decode() for uri in found[-PICTURES:]]


def _read_end(key: str) -> bytes:
    """The last bytes of an object of bucket `runs`: a report has megabytes, and a list has thousands of them."""

    def read(s3: "S3Client") -> bytes:
        try:
            answer = s3.get_object(Bucket=Bucket.RUNS, Key=key, Range=f"bytes=-{_END_BYTES}")
        except ClientError as error:
            if is_missing(error):
                return b""
            raise
        with closing(answer["Body"]) as body:
            return body.read()

    return retry_while_unavailable(f"reading the end of s3://{Bucket.RUNS}/{key}", read, SHORT_OUTAGE)
