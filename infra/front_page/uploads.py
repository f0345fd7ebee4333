"""Uploads of archives: a browser sends their parts straight to the object store, to addresses that are signed here.

No byte of an archive passes through, and nothing is remembered: the browser keeps the id of its upload, and the store
says which parts it has. Event `dataset.uploaded` is emitted by the check, which reads the whole archive anyway.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.front_page.pages import render
from tasks.dataset_watch.checks import start_checks
from tasks.dataset_watch.notifications import ObjectChange
from tasks.dataset_watch.rules import EXTENSION, is_archive, refusal
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.settings import Settings
from tasks.storage.multipart_uploads import MultipartUpload, UploadOverError, start_upload
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

MAX_BYTES = 5 << 40  # of an object of S3
MAX_PARTS = 10_000  # of an upload to S3
MAX_NAME_BYTES = 1024  # of a key of S3
SHOWN = 50  # uploads
_MEBIBYTE = 1 << 20
_LEAST_PART = 16 * _MEBIBYTE
_STORE = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)


class NameTakenError(StudioError):
    """An archive of that name is there, and nobody has asked to replace it."""


class _Query(BaseModel):
    """What a request says, in its address: no handler here reads a body."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)


class _NewUpload(_Query):
    size: int = Field(le=MAX_BYTES)
    replace: bool = False


class _KnownUpload(_Query):
    upload: str = Field(min_length=1)
    writer: str = ""

    @property
    def in_store(self) -> MultipartUpload:
        return MultipartUpload(bucket=Bucket.DATASETS, key=self.name, upload_id=self.upload, writer=self.writer)


class _Part(_KnownUpload):
    number: int = Field(ge=1, le=MAX_PARTS)


class _WholeUpload(_KnownUpload):
    size: int = Field(ge=1, le=MAX_BYTES)
    replace: bool = False


Asked = TypeVar("Asked", bound=_Query)


def part_bytes(size: int) -> int:
    """Return the bytes of each part but the last of an archive of `size` bytes: whole MiB, in at most 10,000 parts."""
    mebibytes = -(-size // (MAX_PARTS * _MEBIBYTE))
    return max(_LEAST_PART, mebibytes * _MEBIBYTE)


def part_sizes(size: int) -> dict[int, int]:
    """Return the bytes of each part of an archive of `size` bytes, by the numbers of the parts from 1."""
    each = part_bytes(size)
    return {number: min(each, size - start) for number, start in enumerate(range(0, size, each), 1)}


def require_archive_name(name: str) -> None:
    """Check that a file of this name can become an archive that flows take.

    Raises:
        StudioError: It cannot.
    """
    fix = "Rename the file."
    if not is_archive(name):
        raise StudioError(expected_found_fix(f"a name that ends in {EXTENSION}", safe_repr(name), fix))
    if "/" in name:
        raise StudioError(expected_found_fix("the name of a file, without a folder", safe_repr(name), fix))
    if (length := len(name.encode())) > MAX_NAME_BYTES:
        raise StudioError(expected_found_fix(f"a name of at most {MAX_NAME_BYTES} bytes", str(length), fix))
    if reason := refusal(name):
        raise StudioError(f"{safe_repr(name)}: {reason}. {fix}")


def start(asked: _NewUpload) -> dict[str, object]:
    """Start an upload, and return what the browser needs to go on with it, now and after a reload."""
    require_archive_name(asked.name)
    if asked.size < 1:
        found = f"{safe_repr(asked.name)}, which is empty"
        raise StudioError(expected_found_fix("a zip archive", found, "Pack it anew."))
    if not asked.replace and _STORE.exists(asked.name):
        raise _taken(asked.name)
    upload = start_upload(Bucket.DATASETS, asked.name)
    return {"upload": upload.upload_id, "writer": upload.writer, "part_bytes": part_bytes(asked.size)}


def list_parts(asked: _KnownUpload) -> dict[str, object]:
    """Return the bytes of each part that the store has, by number, or that the upload is complete."""
    try:
        parts = asked.in_store.parts()
    except UploadOverError:
        if not asked.in_store.is_complete():
            raise
        return {"complete": True, "parts": {}}
    return {"complete": False, "parts": {number: part.size for number, part in parts.items()}}


def sign_part(asked: _Part) -> dict[str, object]:
    """Return the address that takes a part by PUT."""
    return {"address": asked.in_store.part_address(asked.number)}


def complete(asked: _WholeUpload) -> dict[str, object]:
    """Make the archive of its parts and start its check; doing so twice is doing so once."""
    try:
        _put_together(asked)
    except UploadOverError:
        if not asked.in_store.is_complete():
            raise
    return _start_check(asked.name)


def _put_together(asked: _WholeUpload) -> None:
    parts = asked.in_store.parts()
    found, wanted = {number: part.size for number, part in parts.items()}, part_sizes(asked.size)
    if found != wanted:
        wrong = min(number for number, _ in found.items() ^ wanted.items())
        expected = f"{len(wanted)} parts with {asked.size} bytes"
        raise StudioError(expected_found_fix(expected, f"part {wrong} missing or different", "Send it again."))
    if not asked.in_store.complete(parts, replace=asked.replace):
        raise _taken(asked.name)


def abort(asked: _KnownUpload) -> dict[str, object]:
    """Remove the parts of an upload; what is complete stays."""
    asked.in_store.abort()
    return {}


def show_unfinished(request: Request) -> Response:
    """Return the panel of unfinished uploads, whoever started them."""
    found = list(islice(_STORE.list_uploads(), SHOWN + 1))
    return render(request, "unfinished_uploads.html", uploads=found[:SHOWN], has_more=len(found) > SHOWN)


def _taken(name: str) -> NameTakenError:
    return NameTakenError(
        f"Expected a new name, found {safe_repr(name)} in bucket {Bucket.DATASETS} already. Replace it, which keeps "
        f"the former one as an earlier version, or rename your file."
    )


def _start_check(name: str) -> dict[str, object]:
    """What follows from the archive; an error takes nothing back."""
    try:
        (started,) = start_checks((ObjectChange(bucket=Bucket.DATASETS, key=name),))
    except StudioError as error:
        return {"message": f"It is not checked yet: {error} watch-datasets finds it within five minutes.", "check": ""}
    if started.flow_run is None:
        return {"message": f"It is not checked: {started.reason}", "check": ""}
    return {"message": "Its check is started.", "check": Settings().addresses.flow_run(str(started.flow_run))}


def _answer(kind: type[Asked], handle: Callable[[Asked], Mapping[str, object]]) -> Callable[[Request], Response]:
    """A handler for the script of the page: it is asked in the address, and answers in JSON, also with errors."""

    def answer(request: Request) -> Response:
        try:
            return JSONResponse(handle(kind.model_validate(dict(request.query_params))))
        except ValidationError as error:
            first = error.errors()[0]
            message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}. Reload the page."
            return JSONResponse({"error": message}, 400)
        except StudioError as error:
            return JSONResponse({"error": str(error)}, _status(error))

    return answer


def _status(error: StudioError) -> int:
    if isinstance(error, NameTakenError):
        return 409
    if isinstance(error, UploadOverError):
        return 410
    return 502 if error.transient else 400


ROUTES = [
    Route("/uploads", show_unfinished),
    Route("/uploads", _answer(_NewUpload, start), methods=["POST"]),
    Route("/uploads", _answer(_KnownUpload, abort), methods=["DELETE"]),
    Route("/uploads/parts", _answer(_KnownUpload, list_parts)),
    Route("/uploads/parts", _answer(_Part, sign_part), methods=["POST"]),
    Route("/uploads/complete", _answer(_WholeUpload, complete), methods=["POST"]),
]
