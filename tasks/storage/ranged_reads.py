"""Bytes of objects that must not change under their reader."""

import io
import shutil
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from tasks.files import MAKE_ROOM, write_atomically
from tasks.storage.object_names import S3Uri
from tasks.storage.s3_client import StorageError, is_missing, obstore_for, retry_while_unavailable, status_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from obstore import GetOptions

MIN_FREE_BYTES = 256 << 20  # bytes that a download leaves free on the disk
_SLICE = 64 << 20
_PIECE = 1 << 20
_KEPT_BLOCKS = 4


class ObjectChangedError(StorageError):
    """An object is not what it was when it was listed, or is gone."""


class ObjectVersion(NamedTuple):
    """An object as it was listed: its name, its size in bytes, and the tag of its content."""

    name: S3Uri
    size: int
    etag: str


def head_object(name: S3Uri, etag: str) -> ObjectVersion:
    """Return an object as it is now, if it has the content of `etag` (empty: any); else ObjectChangedError."""

    def head(s3: "S3Client") -> ObjectVersion:
        try:
            answer = s3.head_object(Bucket=name.bucket, Key=name.key)
        except ClientError as error:
            if is_missing(error):
                raise _gone(name) from error
            raise
        if etag and answer["ETag"] != etag:
            raise _changed(name)
        return ObjectVersion(name, answer["ContentLength"], answer["ETag"])

    return retry_while_unavailable(f"looking for {name}", head)


def read(stored: ObjectVersion, start: int = 0, length: int | None = None) -> bytes:
    """Return the bytes of an object, or `length` of them from `start`; ObjectChangedError if it is another now."""
    end = stored.size if length is None else min(start + length, stored.size)
    if start >= end:
        return b""
    data = _read_once(stored, start, end)
    if data is None:
        data = retry_while_unavailable(f"reading {stored.name}", lambda s3: _body(s3, stored, start, end).read())
    return data


def _read_once(stored: ObjectVersion, start: int, end: int) -> bytes | None:
    """The bytes; None if the fast client fails: boto3 then tries again and says why."""
    options: GetOptions = {"if_match": stored.etag} if stored.etag else {}
    if (start, end) != (0, stored.size):
        options["range"] = start, end
    try:
        data = obstore_for(stored.name.bucket).get(stored.name.key, options=options).bytes().to_bytes()
    except Exception:  # noqa: BLE001 - whatever it is, boto3 tries again
        return None
    return data if len(data) == end - start else None


def download(stored: ObjectVersion, path: Path) -> None:
    """Copy an object into a file, whole or not at all.

    StorageError if the disk has no room for it; `transient` if an empty disk would have.
    """
    total, _, free = shutil.disk_usage(path.parent)
    if stored.size + MIN_FREE_BYTES > free:
        full = StorageError(
            f"Expected {stored.size + MIN_FREE_BYTES:,} bytes free for {stored.name}, found {free:,}. {MAKE_ROOM}"
        )
        full.transient = stored.size + MIN_FREE_BYTES <= total
        raise full
    with write_atomically(path) as unfinished, unfinished.open("wb") as file:
        for start in range(0, stored.size, _SLICE):
            end = min(start + _SLICE, stored.size)
            retry_while_unavailable(
                f"reading {stored.name}", partial(_copy, stored=stored, start=start, end=end, file=file)
            )


def _copy(s3: "S3Client", *, stored: ObjectVersion, start: int, end: int, file: BinaryIO) -> None:
    """Write a part of an object into the file, over the bytes of an earlier attempt."""
    body = _body(s3, stored, start, end)
    file.seek(start)
    file.writelines(body.iter_chunks(_PIECE))


def _body(s3: "S3Client", stored: ObjectVersion, start: int, end: int) -> StreamingBody:
    name = stored.name
    request = {"Bucket": name.bucket, "Key": name.key}
    if stored.etag:
        request["IfMatch"] = stored.etag
    if (start, end) != (0, stored.size):
        request["Range"] = f"bytes={start}-{end - 1}"
    try:
        answer = s3.get_object(**request)  # type: ignore[arg-type]
    except ClientError as error:
        if is_missing(error):
            raise _gone(name) from error
        if status_of(error) in {412, 416}:
            raise _changed(name) from error
        raise
    if answer["ContentLength"] != end - start:
        raise _changed(name)
    return answer["Body"]


def _gone(name: S3Uri) -> ObjectChangedError:
    return ObjectChangedError(f"Expected {name}, which was there when this was planned, found none. Upload it again.")


def _changed(name: S3Uri) -> ObjectChangedError:
    return ObjectChangedError(
        f"Expected {name} as it was when this was planned, found other content. Start a new run, which uses what is "
        f"there now."
    )


class RangedObject(io.RawIOBase):
    """An object as a file to read and seek in; a read ends with its block, so wrap it in io.BufferedReader."""

    def __init__(self, stored: ObjectVersion, block_bytes: int = 1 << 20) -> None:
        self._stored = stored
        self._block_bytes = block_bytes
        self._at = 0
        # Threads that read neighbours go to and fro: the last few blocks are kept.
        self._blocks = OrderedDict[int, bytes]()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Return the new position in bytes.

        Raises:
            ValueError: It would be before the beginning.
        """
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._stored.size}[whence]
        if origin + offset < 0:
            raise ValueError(f"expected a position in the object, found {origin + offset}")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read into a buffer; returns the number of bytes, 0 at the end."""
        view = memoryview(buffer).cast("B")
        number, skipped = divmod(self._at, self._block_bytes)
        data = memoryview(self._block(number))[skipped:][: len(view)]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _block(self, number: int) -> bytes:
        block = self._blocks.pop(number, None)
        if block is None:
            block = read(self._stored, number * self._block_bytes, self._block_bytes)
        self._blocks[number] = block
        if len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return block
