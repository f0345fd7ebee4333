"""Files of a run, as the object store has them: reports and galleries inside the page, tables and films to download.

Anybody may have written a stored page, with names and a script of any kind. So a browser gets it in a sandbox, with a
policy that lets no script run but those of our own galleries, and loads nothing from elsewhere. No address holds a
secret that such a page could tell.
"""

import mimetypes
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import SHORT_OUTAGE, is_missing, retry_while_unavailable, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PIECE = 1 << 18  # bytes of a file in memory
_UNCHANGED, _NO_SUCH_RANGE = 304, 416
_POLICY = (
    "sandbox allow-downloads allow-popups allow-popups-to-escape-sandbox{further}; default-src 'none'; "
    "img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; script-src {scripts}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
GALLERY = "index.html"
# The script of the gallery, by its SHA-256, as each version of the studio has written it, the newest last.
GALLERY_SCRIPTS = ("'sha256-Ssfw+ZHU/YctVVRmhr1d8SQv/YY76sjhEXTihASkxeM='",)
_SHOWN = ("text/html", "text/plain", "image/", "video/")  # a browser saves the others


def show_file(request: Request) -> Response:
    """Answer with a file of a run.

    Raises:
        HTTPException: There is no such file.
        StorageError: The object store cannot be reached.
    """
    bucket, run, path = (request.path_params[name] for name in ("bucket", "run", "path"))
    if bucket not in {Bucket.RUNS, Bucket.PREDICTIONS} or {"", ".", ".."} & set(path.split("/")):
        raise HTTPException(404, "Expected the address of a file of a run, found another. Follow a link of this page.")
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

    answer = retry_while_unavailable(f"reading s3://{bucket}/{run}/{path}", get, SHORT_OUTAGE)
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
    # A gallery asks for its pictures with the password, which the browser keeps for our origin alone.
    is_gallery = (bucket, path) == (Bucket.PREDICTIONS, GALLERY)
    further, scripts = (" allow-same-origin allow-scripts", GALLERY_SCRIPTS) if is_gallery else ("", ("'none'",))
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # asked again each time, by its tag
        "Content-Security-Policy": _POLICY.format(further=further, scripts=" ".join(scripts)),
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
]
