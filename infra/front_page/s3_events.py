"""Event notifications of an object store: the check of an archive starts as soon as it is written.

Programs send them, so the answers are JSON. All senders try again after a 503: MinIO, EventBridge and SNS.
"""

import hmac
import logging

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.door import refusal_of
from infra.front_page.access import given_password
from infra.front_page.bodies import read_body
from infra.stack_settings import USER
from tasks.dataset_watch.checks import start_checks
from tasks.dataset_watch.notifications import MAX_BYTES, parse_notification
from tasks.errors import StudioError

SECRET = "STUDIO_S3_EVENTS_SECRET"  # noqa: S105 - the name of a variable
_LOG = logging.getLogger(__name__)


async def receive_notification(request: Request) -> Response:
    """Start the checks of the archives that a notification names: `{"checks": [{key, flow_run, reason}]}`.

    `flow_run` is null where nothing was started, and `reason` says why.
    """
    secret = request.app.state.s3_events_secret
    if not secret:
        message = f"expected {SECRET} to be set where the stack was started, found none: docs/automation.md says how"
        return refusal_of(message, 404)
    if not hmac.compare_digest(_given_secret(request), secret.encode()):
        message = f"expected {SECRET} as a bearer token, or as the password of user {USER}, found another or none"
        # Without being asked, SNS sends no password.
        return refusal_of(message, 401, {"WWW-Authenticate": 'Basic realm="S3 events"'})
    try:
        body = await read_body(request, MAX_BYTES)
    except ClientDisconnect:
        return refusal_of("the sender went away", 400)
    if body is None:
        return refusal_of(f"expected at most {MAX_BYTES} bytes, found more: send fewer records at one time", 413)
    return await run_in_threadpool(_start_checks, body)


def _given_secret(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.encode("latin-1") if scheme.lower() == "bearer" else given_password(request) or b""


def _start_checks(body: bytes) -> Response:
    try:
        started = start_checks(parse_notification(body))
    except StudioError as error:
        # No sender shows an answer to a person, and some of these messages say what a person has to do.
        _LOG.warning("An event notification started nothing: %s", error)
        return refusal_of(str(error), 503 if error.transient else 400)
    checks = [
        # JSON escapes can say what is no Unicode text.
        {
            "key": each.key.encode("utf-8", "replace").decode(),
            "flow_run": str(each.flow_run) if each.flow_run else None,
            "reason": each.reason,
        }
        for each in started
    ]
    return JSONResponse({"checks": checks})


ROUTES = [Route("/s3-events", receive_notification, methods=["POST"])]
