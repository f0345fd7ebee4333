"""Uploads whose parts somebody else sends: a browser, to addresses that are signed for it.

Until an upload is complete, nothing is under its key. The store alone knows which parts it has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import uuid4

from botocore.exceptions import ClientError

from tasks.errors import expected_found_fix, safe_repr
from tasks.storage.object_store import ObjectStore, content_type
from tasks.storage.s3_client import (
    SHORT_OUTAGE,
    StorageError,
    address_signer,
    is_missing,
    retry_while_unavailable,
    status_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ADDRESS_SECONDS = 3600
WRITER = "writer"  # the mark, among the metadata of an object
_PART_BYTES = 64 << 20
Answer = TypeVar("Answer")


class UploadOverError(StorageError):
    """There is no such upload: it was aborted, or it has become an object."""


class Part(NamedTuple):
    """What the store has of a part: its bytes, and the tag of its content."""

    size: int
    etag: str


@dataclass(frozen=True, kw_only=True)
class MultipartUpload:
    """An upload in several parts: to which key, its id in the store, and a mark that its object will bear.

    Every method raises UploadOverError if there is no such upload, and StorageError if the store refuses or does not
    answer.
    """

    bucket: str
    key: str
    upload_id: str
    writer: str

    def parts(self) -> dict[int, Part]:
        """Return the parts that the store has, by their numbers from 1; of a part that was sent twice, one of both."""

        def read(s3: "S3Client") -> dict[int, Part]:
            pages = s3.get_paginator("list_parts").paginate(**self._arguments)
            listed = [part for page in pages for part in page.get("Parts", [])]
            return {part["PartNumber"]: Part(part["Size"], part["ETag"]) for part in listed}

        return self._try("listing the parts of", read)

    def part_address(self, number: int) -> str:
        """Return an address that takes part `number` by PUT, for an hour."""
        values = self._arguments | {"PartNumber": number}
        return address_signer().generate_presigned_url("upload_part", Params=values, ExpiresIn=ADDRESS_SECONDS)

    def send(self, path: Path) -> None:
        """Send all parts of a file of at most 625 GiB, one after another."""

        def put(number: int, piece: bytes) -> None:
            values = self._arguments | {"PartNumber": number}
            self._try("sending a part of", lambda s3: s3.upload_part(**values, Body=piece))

        with path.open("rb") as file:
            for number, piece in enumerate(iter(lambda: file.read(_PART_BYTES), b""), 1):
                put(number, piece)

    def complete(self, parts: Mapping[int, Part], *, replace: bool) -> bool:
        """Make the object of the parts, whole or not at all.

        Returns:
            False if, without `replace`, another object has the key: the upload is then as it was.
        """
        chosen: Any = {"Parts": [{"PartNumber": number, "ETag": parts[number].etag} for number in sorted(parts)]}
        condition: dict[str, Any] = {} if replace else {"IfNoneMatch": "*"}

        def complete(s3: "S3Client") -> bool:
            try:
                s3.complete_multipart_upload(**self._arguments, **condition, MultipartUpload=chosen)
            except ClientError as error:
                if status_of(error) != 412:
                    raise
                return self.is_complete()  # an earlier attempt may have succeeded, and its answer been lost
            return True

        return self._try("completing", complete)

    def is_complete(self) -> bool:
        """Return whether the object under the key is what this upload has become."""
        metadata = ObjectStore(self.bucket, SHORT_OUTAGE).metadata(self.key) or {}
        return metadata.get(WRITER) == self.writer

    def abort(self) -> None:
        """Remove the parts."""
        ObjectStore(self.bucket, SHORT_OUTAGE).abort_upload(self.key, self.upload_id)

    @property
    def _arguments(self) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": self.upload_id}

    def _try(self, doing: str, call: Callable[["S3Client"], Answer]) -> Answer:
        def once(s3: "S3Client") -> Answer:
            try:
                return call(s3)
            except ClientError as error:
                if not is_missing(error):
                    raise
                found = f"none of id {safe_repr(self.upload_id)}"
                fix = "It was aborted, or it is complete. Start it again."
                raise UploadOverError(expected_found_fix(f"an upload of {safe_repr(self.key)}", found, fix)) from error

        return retry_while_unavailable(f"{doing} an upload of s3://{self.bucket}/{self.key}", once, SHORT_OUTAGE)


def upload_if_absent(bucket: str, key: str, path: Path, writer: str) -> bool:
    """Write a file as an object that bears the mark `writer`, whole or not at all, if there is none under the key.

    Returns:
        False if another writer's object has the key; true as well if this writer was here before.

    Raises:
        StorageError: The store refuses, or does not answer.
    """
    upload = start_upload(bucket, key, writer)
    try:
        upload.send(path)
        return upload.complete(upload.parts(), replace=False)
    finally:
        upload.abort()  # of an upload that is complete nothing is left


def start_upload(bucket: str, key: str, writer: str = "") -> MultipartUpload:
    """Start an upload, under a mark of its own or that of `writer`; whoever ends it needs all that this returns.

    Raises:
        StorageError: The store refuses, or does not answer.
    """
    writer = writer or uuid4().hex

    def start(s3: "S3Client") -> str:
        answer = s3.create_multipart_upload(
            Bucket=bucket, Key=key, ContentType=content_type(Path(key)), Metadata={WRITER: writer}
        )
        return answer["UploadId"]

    upload_id = retry_while_unavailable(f"starting an upload of s3://{bucket}/{key}", start, SHORT_OUTAGE)
    return MultipartUpload(bucket=bucket, key=key, upload_id=upload_id, writer=writer)
