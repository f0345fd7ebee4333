"""Files of a run, as the object store has them: reports and galleries inside the page, tables and films to download.

Anybody may have written a stored page, with names and a script of any kind. So a browser gets it in a sandbox, with a
policy that lets no script run but those of our own galleries, and loads nothing from elsewhere. No address holds a
secret that such a page could tell.
"""

import mimetypes

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tasks.storage.http_reads import FOUND, MISSING, PART, answer_request
from tasks.storage.object_names import Bucket, S3Uri

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
    answer = answer_request(S3Uri(bucket, f"{run}/{path}"), request.method, request.headers)
    if answer.status == MISSING:
        raise HTTPException(404, "Expected a file of this run, found none. It may have been deleted.")
    if answer.status not in {FOUND, PART}:
        return Response(status_code=answer.status)
    headers = {**_headers(bucket, path), **answer.headers}
    return StreamingResponse(answer.pieces, answer.status, headers, _content_type(path))


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


ROUTES = [
    Route("/files/{bucket}/{run:uuid}/{path:path}", show_file),
]
