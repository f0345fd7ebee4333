"""One bucket of the object store: its calls, retried and typed."""

import hashlib
import mimetypes
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import uuid4

from botocore.exceptions import ClientError

from tasks.orchestration.retries import RetryPolicy
from tasks.storage.s3_client import (
    TRANSFERS,
    StorageError,
    is_missing,
    obstore_for,
    retry_while_unavailable,
    signer,
    status_of,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CopySourceTypeDef,
        HeadObjectOutputTypeDef,
        ListMultipartUploadsOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

LINK_SECONDS = 7 * 24 * 3600  # the longest that S3 signs
_WRITER = "writer"
_NO_VERSION = "null"  # what a bucket without versions calls its only one
_KEYS_PER_REQUEST = 1000
_PIECE = 1 << 20  # bytes
_SMALL_BYTES = 8 << 20  # of a file that goes in one request
Answer = TypeVar("Answer")


class ListedObject(NamedTuple):
    """An object of a listing: size in bytes, tag of its content, age by the store's clock, date of its last change."""

    key: str
    size: int
    etag: str
    age_s: float
    modified: datetime


class UnfinishedUpload(NamedTuple):
    """A multipart upload of `size` bytes until now, whose last part came at `changed`."""

    key: str
    upload_id: str
    size: int
    changed: datetime


class ObjectStore:
    """The objects of one bucket; a store that does not answer is tried again as `retries` says.

    Every method raises StorageError: at once if the store refuses, and `transient` if it stays away.
    """

    def __init__(self, bucket: str, retries: RetryPolicy | None = None) -> None:
        self.bucket = bucket
        self._retries = retries

    def get(self, key: str) -> bytes | None:
        """Return an object's bytes; None if there is none."""
        stored = self.get_tagged(key)
        return stored[0] if stored else None

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and the tag of its content; None if there is none."""

        def get(s3: "S3Client") -> tuple[bytes, str] | None:
            try:
                answer = s3.get_object(Bucket=self.bucket, Key=key)
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

        return self._try(f"reading {self.uri(key)}", get)

    def get_start(self, key: str, size: int) -> bytes | None:
        """Return the first `size` bytes of an object, or all if it has fewer; None if there is none."""
        return self._get_part(key, size)

    def get_end(self, key: str, size: int) -> bytes | None:
        """Return the last `size` bytes of an object that is not empty, or all; None if there is none."""
        return self._get_part(key, size, Range=f"bytes=-{size}")

    def _get_part(self, key: str, size: int, **place: Any) -> bytes | None:  # noqa: ANN401 - arguments of boto3
        def get(s3: "S3Client") -> bytes | None:
            try:
                with closing(s3.get_object(Bucket=self.bucket, Key=key, **place)["Body"]) as body:
                    return body.read(size)
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

        return self._try(f"reading {self.uri(key)}", get)

    def read_text(self, key: str) -> str:
        """Return an object as text.

        Raises:
            StorageError: There is none.
        """
        body = self.get(key)
        if body is None:
            raise StorageError(f"Expected {self.uri(key)}, found none. Run what writes it again.")
        return body.decode()

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, over one that is there."""
        self._try(
            f"writing {self.uri(key)}",
            lambda s3: s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type),
        )

    def put_if_absent(self, key: str, body: bytes | Path) -> bool:
        """Write an object of at most 5 GiB, whole or not at all, if there is none; False if another was first."""
        return self.replace(key, body, None)

    def replace(self, key: str, body: bytes | Path, etag: str | None) -> bool:
        """Write an object if it still has the content of `etag`, or is absent (None); False if another was first."""
        writer = uuid4().hex
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}

        def put(s3: "S3Client") -> bool:
            with ExitStack() as stack:
                content = stack.enter_context(body.open("rb")) if isinstance(body, Path) else body
                own = {_WRITER: writer}
                try:
                    s3.put_object(Bucket=self.bucket, Key=key, Body=content, Metadata=own, **condition)
                except ClientError as error:
                    if status_of(error) == 412 or (etag and is_missing(error)):
                        # An earlier attempt may have succeeded, and its answer been lost.
                        return (self._metadata(s3, key) or {}).get(_WRITER) == writer
                    raise
            return True

        return self._try(f"writing {self.uri(key)}", put)

    def metadata(self, key: str) -> dict[str, str] | None:
        """Return what was written beside an object's bytes; None if there is no such object."""
        return self._try(f"looking for {self.uri(key)}", lambda s3: self._metadata(s3, key))

    def _metadata(self, s3: "S3Client", key: str) -> dict[str, str] | None:
        try:
            return s3.head_object(Bucket=self.bucket, Key=key)["Metadata"]
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def exists(self, key: str) -> bool:
        """Return whether there is such an object."""
        return self.metadata(key) is not None

    def version_id(self, key: str, etag: str) -> str | None:
        """Return by which id the store will know the content of `etag` when it is gone.

        None if the object has another content by now or is gone, or if the bucket keeps no earlier versions.
        """

        def head(s3: "S3Client") -> str | None:
            try:
                found = s3.head_object(Bucket=self.bucket, Key=key, IfMatch=etag).get("VersionId")
            except ClientError as error:
                if _has_changed(error):
                    return None
                raise
            return None if found == _NO_VERSION else found

        return self._try(f"looking for {self.uri(key)}", head)

    def sha256(self, key: str, etag: str) -> str | None:
        """Return the SHA-256 (hex) of the content of `etag`, which is read, not kept; None if it is there no more."""

        def read(s3: "S3Client") -> str | None:
            digest = hashlib.sha256()
            try:
                for piece in s3.get_object(Bucket=self.bucket, Key=key, IfMatch=etag)["Body"].iter_chunks(_PIECE):
                    digest.update(piece)
            except ClientError as error:
                if _has_changed(error):
                    return None
                raise
            return digest.hexdigest()

        return self._try(f"reading {self.uri(key)}", read)

    def find(self, key: str) -> ListedObject | None:
        """Return an object as a listing has it; None if there is none."""

        def head(s3: "S3Client") -> ListedObject | None:
            try:
                answer = s3.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
            return _listed(key, answer["ContentLength"], answer["ETag"], answer["LastModified"], _server_time(answer))

        return self._try(f"looking for {self.uri(key)}", head)

    def list(self, prefix: str = "") -> Iterator[ListedObject]:
        """Yield the objects whose key begins with `prefix`, as the store orders them; one request lists a thousand."""
        for answer in self._answers(prefix):
            yield from _objects(answer)

    def list_behind(self, after: str = "", prefix: str = "") -> Iterator[ListedObject]:
        """Yield the objects behind key `after`, in the order in which a later call goes on behind any of them.

        It is the same order each time: an object that is neither written nor removed keeps its place.
        """
        answers = self._answers(prefix, after)
        first = next(answers)
        place = self._place(first)
        for answer in chain([first], answers):
            behind = (entry for entry in _objects(answer) if not after or place(entry.key) > place(after))
            yield from sorted(behind, key=lambda entry: place(entry.key))

    def _answers(self, prefix: str, after: str = "") -> Iterator["ListObjectsV2OutputTypeDef"]:
        arguments: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": _KEYS_PER_REQUEST}
        if after:
            arguments["StartAfter"] = after

        def page(s3: "S3Client") -> "ListObjectsV2OutputTypeDef":
            return s3.list_objects_v2(**arguments)

        while True:
            answer = self._try(f"listing {self.uri(prefix)}", page)
            yield answer
            if not answer["IsTruncated"]:
                return
            arguments["ContinuationToken"] = answer["NextContinuationToken"]

    def _place(self, answer: "ListObjectsV2OutputTypeDef") -> Callable[[str], tuple[bytes, ...]]:
        """Where a key comes in the listing that this is an answer of.

        S3 orders by the bytes of the keys. SeaweedFS goes folder by folder, and through a versioned bucket by names
        that end in `.versions`; the keys of such an answer are in another order than StartAfter goes on in.
        """
        if not answer["ResponseMetadata"]["HTTPHeaders"].get("server", "").startswith("SeaweedFS"):
            return lambda key: (key.encode(),)
        versioned = self._try(
            f"reading whether s3://{self.bucket} keeps versions",
            lambda s3: s3.get_bucket_versioning(Bucket=self.bucket),
        )
        ending = ".versions" if versioned.get("Status") else ""
        return lambda key: tuple(f"{key}{ending}".encode().split(b"/"))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in order, without those of folders."""
        return (entry.key for entry in self.list(prefix) if not entry.key.endswith("/"))

    def delete(self, *keys: str) -> None:
        """Remove objects, of which any may be gone already."""

        def delete(s3: "S3Client") -> None:
            for first in range(0, len(keys), _KEYS_PER_REQUEST):
                objects = [{"Key": key} for key in keys[first:][:_KEYS_PER_REQUEST]]
                answer = s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]
                for error in answer.get("Errors", []):
                    raise StorageError(
                        f"Expected {self.uri(str(error.get('Key')))} to be removed, found {error.get('Message')}. See "
                        f"the object store's log, then start this run again."
                    )

        self._try(f"removing objects of s3://{self.bucket}", delete)

    def delete_content(self, key: str, etag: str) -> bool:
        """Remove an object if it still has the content of `etag`; False if it has another by now, or is gone."""

        def delete(s3: "S3Client") -> bool:
            try:
                s3.delete_object(Bucket=self.bucket, Key=key, IfMatch=etag)
            except ClientError as error:
                if _has_changed(error):
                    return False
                raise
            return True

        return self._try(f"removing {self.uri(key)}", delete)

    def list_uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield the multipart uploads that nobody has finished or aborted."""
        arguments: dict[str, Any] = {"Bucket": self.bucket}

        def page(s3: "S3Client") -> "ListMultipartUploadsOutputTypeDef":
            return s3.list_multipart_uploads(**arguments)

        while True:
            answer = self._try(f"listing the uploads of s3://{self.bucket}", page)
            for entry in answer.get("Uploads", []):
                key, upload = entry["Key"], entry["UploadId"]
                size, changed = self._parts(key, upload)
                yield UnfinishedUpload(key, upload, size, max(filter(None, (changed, entry.get("Initiated")))))
            if not answer.get("IsTruncated"):
                return
            arguments |= {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def _parts(self, key: str, upload: str) -> tuple[int, datetime | None]:
        """The bytes of the first thousand parts, and when the last of them came."""

        def parts(s3: "S3Client") -> list[Any]:
            try:
                return list(s3.list_parts(Bucket=self.bucket, Key=key, UploadId=upload).get("Parts", []))
            except ClientError as error:
                if is_missing(error):
                    return []
                raise

        found = self._try(f"listing the parts of {self.uri(key)}", parts)
        return sum(part["Size"] for part in found), max((part["LastModified"] for part in found), default=None)

    def abort_upload(self, key: str, upload: str) -> None:
        """Remove the parts of a multipart upload, which may be over already."""

        def abort(s3: "S3Client") -> None:
            try:
                s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
            except ClientError as error:
                if not is_missing(error):
                    raise

        self._try(f"aborting an upload of {self.uri(key)}", abort)

    def upload(self, path: Path, key: str, metadata: dict[str, str] | None = None) -> None:
        """Write a file of any size as an object."""
        extra: dict[str, Any] = {"ContentType": content_type(path), "Metadata": metadata or {}}
        self._try(f"writing {self.uri(key)}", lambda s3: s3.upload_file(str(path), self.bucket, key, ExtraArgs=extra))

    def upload_folder(self, folder: Path, prefix: str) -> None:
        """Write every file below `folder`, side by side."""

        def upload(path: Path) -> None:
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            if not self._put_quickly(path, key):
                self.upload(path, key)

        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(upload, files))

    def _put_quickly(self, path: Path, key: str) -> bool:
        """Write a small file; False if it is large or the client fails: boto3 then tries again and says why."""
        if path.stat().st_size > _SMALL_BYTES:
            return False
        try:
            attributes = {"Content-Type": content_type(path)}
            obstore_for(self.bucket).put(key, path.read_bytes(), attributes=attributes, use_multipart=False)
        except Exception:  # noqa: BLE001 - whatever it is, boto3 tries again
            return False
        return True

    def download(self, key: str, path: Path) -> None:
        """Copy an object of any size into a file."""
        self._try(f"reading {self.uri(key)}", lambda s3: s3.download_file(self.bucket, key, str(path)))

    def copy(self, source: str, key: str) -> None:
        """Copy an object of this bucket to another key, inside the store."""
        origin: CopySourceTypeDef = {"Bucket": self.bucket, "Key": source}
        self._try(f"copying {self.uri(source)} to {key}", lambda s3: s3.copy(origin, self.bucket, key))

    def presigned_url(self, key: str) -> str:
        """Return an address that opens the object for seven days."""
        return self.presigned_urls([key])[key]

    def presigned_urls(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the addresses of objects by their keys."""
        s3 = signer()
        return {
            key: s3.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=LINK_SECONDS
            )
            for key in keys
        }

    def uri(self, key: str) -> str:
        """Return `s3://BUCKET/KEY`."""
        return f"s3://{self.bucket}/{key}"

    def _try(self, doing: str, call: Callable[["S3Client"], Answer]) -> Answer:
        return retry_while_unavailable(doing, call, self._retries)


def _has_changed(error: ClientError) -> bool:
    """Whether an object has not the content of an ETag that a request named: it has another, or is gone."""
    return is_missing(error) or status_of(error) == 412


def _objects(answer: "ListObjectsV2OutputTypeDef") -> Iterator[ListedObject]:
    now = _server_time(answer)
    for entry in answer.get("Contents", []):
        yield _listed(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"], now)


def _listed(key: str, size: int, etag: str, modified: datetime, now: datetime) -> ListedObject:
    return ListedObject(key, size, etag, max((now - modified).total_seconds(), 0.0), modified)


def _server_time(answer: "ListObjectsV2OutputTypeDef | HeadObjectOutputTypeDef") -> datetime:
    """When the store answered, by its own clock, to the second; without that clock, by this machine's."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)


def content_type(path: Path) -> str:
    """Return the MIME type of a file, by its name."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
