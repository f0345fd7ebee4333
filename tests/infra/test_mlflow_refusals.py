"""What MLflow's door refuses of a visitor is in the audit log: what it says of a body, and what its handlers refuse."""

import asyncio
import json
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from infra.accounts.permissions import Part
from infra.accounts.visitors import Visitor
from infra.front_page_questions import FrontPage
from infra.mlflow_door import Visitors
from infra.mlflow_refusals import refusal
from infra.visitor_door import VisitorDoor

SECRET, OWN = "s" * 32, "studio:of-the-service"
TAG, SEARCH = "/api/2.0/mlflow/runs/set-tag", "/api/2.0/mlflow/runs/search"
FORGED = "x\nadmin\trequest\x1b[31m\ud800"
OTTO = ("otto", "operator")


class AuditLog(FrontPage):
    """It notes what it would send to the front page."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/", secret=SECRET, prefix="/mlflow")
        self.kept: list[tuple[str, str, str]] = []

    async def keep_refusal(self, scope: Scope, visitor: Visitor, reason: str) -> None:
        self.kept.append((visitor.name, scope["path"], reason))


async def mlflow(scope: Scope, receive: Receive, send: Send) -> None:
    """MLflow, whose handlers run in threads: one of them refuses every search."""

    def handle() -> JSONResponse:
        try:
            if scope["path"] == SEARCH:
                raise refusal("at most 20 conditions", "21", "ask for less at once")
        except MlflowException as error:
            return JSONResponse({"message": error.message}, 400)
        return JSONResponse({})

    await (await run_in_threadpool(handle))(scope, receive, send)


def send(path: str, body: bytes, visitor: tuple[str, str] | None = OTTO) -> tuple[int, list[tuple[str, str, str]]]:
    """The status of the answer, and what the audit log has."""
    log, answers = AuditLog(), []
    door = VisitorDoor(Visitors(mlflow, log), part=Part.MLFLOW, credential=OWN, secret=SECRET)
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def answer(message: Message) -> None:
        answers.append(message)

    given = dict(zip(("x-studio-user", "x-studio-role"), visitor, strict=True)) if visitor else {}
    headers = [(name.encode(), value.encode()) for name, value in ({"x-studio-door": SECRET, **given}).items()]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    asyncio.run(door(scope if visitor else {**scope, "headers": []}, receive, answer))
    return answers[0]["status"], log.kept


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        (TAG, json.dumps({"run_id": "1", "key": "studio.owner", "value": "otto"}).encode(), 403, "studio.owner"),
        (TAG, json.dumps({"run_id": "1", "key": FORGED, "value": "x"}).encode(), 403, r"\n"),
        (TAG, b'"' + b"x" * (5 << 20) + b'"', 413, "larger"),
        (TAG, b"{", 422, "JSON"),
        (SEARCH, b"{}", 400, "found 21"),
    ],
    ids=["tag", "forged line", "too large", "no JSON", "in a handler"],
)
def test_what_is_refused_is_kept_with_who_and_why(path: str, body: bytes, status: int, word: str) -> None:
    found, kept = send(path, body)
    ((name, where, reason),) = kept
    assert (found, name, where) == (status, "otto", path)
    assert word in reason
    assert reason.isprintable()


def test_what_is_let_in_is_not_kept_nor_what_comes_another_way() -> None:
    assert send(TAG, json.dumps({"run_id": "1", "key": "note.x", "value": "x"}).encode()) == (200, [])
    assert send(SEARCH, b"{}", None) == (400, [])
