"""An object as a request of HTTP asks for it: a part of it, or only if it has changed."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from tasks.storage.object_names import S3Uri
from tasks.storage.s3_client import SHORT_OUTAGE, is_missing, retry_while_unavailable, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FOUND, PART, UNCHANGED, MISSING, NO_SUCH_RANGE = 200, 206, 304, 404, 416
_CONDITIONS = {"range": "Range", "if-none-match": "IfNoneMatch"}
_PIECE = 1 << 18  # bytes of an object in memory


@dataclass(frozen=True, kw_only=True)
class ObjectAnswer:
    """What a store answers: a `status` of HTTP, and of an object that is FOUND, or a PART of it, headers and bytes."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


def answer_request(name: S3Uri, method: str, headers: Mapping[str, str]) -> ObjectAnswer:
    """Return the answer to `GET` or `HEAD`; of the headers of the request `range` and `if-none-match` count.

    Raises:
        StorageError: The object store cannot be reached.
    """
    wanted: dict[str, Any] = {"Bucket": name.bucket, "Key": name.key}
    wanted |= {argument: headers[header] for header, argument in _CONDITIONS.items() if header in headers}

    def ask(s3: "S3Client") -> ObjectAnswer:
        try:
            answer: Any = (s3.head_object if method == "HEAD" else s3.get_object)(**wanted)
        except ClientError as error:
            status = MISSING if is_missing(error) else status_of(error)
            if status in {MISSING, UNCHANGED, NO_SUCH_RANGE}:
                return ObjectAnswer(status=status, headers={}, pieces=iter(()))
            raise
        found = {"Content-Length": str(answer["ContentLength"]), "ETag": answer["ETag"]}
        part = {"Content-Range": answer["ContentRange"]} if "ContentRange" in answer else {}
        pieces = _pieces(answer["Body"]) if "Body" in answer else iter(())
        return ObjectAnswer(status=PART if part else FOUND, headers=found | part, pieces=pieces)

    return retry_while_unavailable(f"reading {name}", ask, SHORT_OUTAGE)


def _pieces(body: StreamingBody) -> Iterator[bytes]:
    with closing(body):
        yield from body.iter_chunks(_PIECE)
