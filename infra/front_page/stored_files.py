"""Files of a run, as the object store has them: reports and galleries inside the page, tables and films to download.

Anybody may have written a stored page, with names and a script of any kind. So it is shown in a sandbox: it has neither
our origin nor the password, and loads nothing but the files of its own run, by the ticket in its address.
"""

import mimetypes
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from infra.front_page.pages import path_of
from infra.front_page.tickets import OPENED, is_valid, issue_ticket
from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import SHORT_OUTAGE, is_missing, retry_while_unavailable, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PIECE = 1 << 18  # bytes of a file in memory
_UNCHANGED, _NO_SUCH_RANGE = 304, 416
_POLICY = (
    "sandbox {scripts}allow-downloads allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_SHOWN = ("text/html", "text/plain", "image/", "video/")  # a browser saves the others


def show_file(request: Request) -> Response:
    """Answer with a file of a run; a page is opened at an address with a ticket.

    Raises:
        HTTPException: There is no such file.
        StorageError: The object store cannot be reached.
    """
    folder, path = _place(request)
    if _content_type(path) != "text/html":
        return _send(request, folder, path)
    ticket = issue_ticket(request.app.state.password, folder)
    return RedirectResponse(f"{OPENED}{ticket}/{path_of(f'{folder}/{path}')}", 307, {"Cache-Control": "no-store"})


def show_opened_file(request: Request) -> Response:
    """Answer with a file of the run that a ticket is for.

    Raises:
        HTTPException: There is no such file, or the ticket is not for it.
        StorageError: The object store cannot be reached.
    """
    folder, path = _place(request)
    if not is_valid(request.path_params["ticket"], request.app.state.password, folder, time.time()):
        raise HTTPException(403, "Expected a link that has not expired, found another. Open the page of the run again.")
    return _send(request, folder, path)


def _place(request: Request) -> tuple[str, str]:
    """The folder of the run, and the path in it."""
    bucket, run, path = (request.path_params[name] for name in ("bucket", "run", "path"))
    if bucket not in {Bucket.RUNS, Bucket.PREDICTIONS} or {"", ".", ".."} & set(path.split("/")):
        raise HTTPException(404, "Expected the address of a file of a run, found another. Follow a link of this page.")
    return f"{bucket}/{run}", path


def _send(request: Request, folder: str, path: str) -> Response:
    bucket, _, run = folder.partition("/")
    wanted: dict[str, Any] = {"Bucket": bucket, "Key": f"{run}/{path}"}
    for header, name in {"range": "Range", "if-none-match": "IfNoneMatch"}.items():
        if header in request.headers:
            wanted[name] = request.headers[header]

    def get(s3: "S3Client") -> Any:  # noqa: ANN401 - the answer, or the status of none
        try:
            return (s3.head_object if request.method == "HEAD" else s3.get_object)(**wanted)
        except ClientError as error:
            status = 404 if is_missing(error) else status_of(error)
            if status in {404, _UNCHANGED, _NO_SUCH_RANGE}:
                return status
            raise

    answer = retry_while_unavailable(f"reading s3://{folder}/{path}", get, SHORT_OUTAGE)
    match answer:
        case 404:
            raise HTTPException(404, "Expected a file of this run, found none. It may have been deleted.")
        case int():
            return Response(status_code=answer)
    headers = _headers(bucket, path) | {"Content-Length": str(answer["ContentLength"]), "ETag": answer["ETag"]}
    if "ContentRange" in answer:
        headers["Content-Range"] = answer["ContentRange"]
    body = _pieces(answer["Body"]) if "Body" in answer else iter(())
    return StreamingResponse(body, 206 if "ContentRange" in answer else 200, headers, _content_type(path))


def _headers(bucket: str, path: str) -> dict[str, str]:
    scripts = "allow-scripts " if bucket == Bucket.PREDICTIONS else ""  # galleries alone have one
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # asked again each time, by its tag
        "Content-Security-Policy": _POLICY.format(scripts=scripts),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if not _content_type(path).startswith(_SHOWN):
        headers["Content-Disposition"] = "attachment"
    return headers


def _content_type(path: str) -> str:
    """The type by the name: whoever has written the file may have said another."""
    kind, encoding = mimetypes.guess_type(path.rpartition("/")[2])
    return kind if kind and not encoding else "application/octet-stream"


def _pieces(body: StreamingBody) -> Iterator[bytes]:
    with closing(body):
        yield from body.iter_chunks(_PIECE)


ROUTES = [
    Route("/files/{bucket}/{run:uuid}/{path:path}", show_file),
    Route(OPENED + "{ticket}/{bucket}/{run:uuid}/{path:path}", show_opened_file),
]
