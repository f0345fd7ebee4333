"""Whom the front page starts a run for, and whose it gives back to a worker."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import StateType
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from infra.front_page import runs
from infra.front_page.application import Services, application
from infra.front_page.run_lines import RunLine
from infra.front_page.starters import StartedByVisitor
from tasks.orchestration import deployed_flows, run_list
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.run_list import ListedRun
from tasks.orchestration.starters import Starter, starter_tags

SECRET = "s" * 32


def show(request: Request) -> JSONResponse:  # noqa: ARG001 - in a thread, as the handlers that start runs
    return JSONResponse(starter_tags())


@pytest.mark.parametrize(
    ("secret", "tags"), [(SECRET, ["started-by:otto", "role:operator"]), ("t" * 32, []), ("", [])], ids=str
)
def test_a_run_is_started_for_the_visitor_of_the_front_door_alone(secret: str, tags: list[str]) -> None:
    app = Starlette(routes=[Route("/", show)], middleware=[Middleware(StartedByVisitor, SECRET)])
    sent = {"X-Studio-Door": secret, "X-Studio-User": "otto", "X-Studio-Role": "operator"}

    async def ask() -> list[object]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [(await client.get("/", headers=headers)).json() for headers in (sent, {})]

    assert asyncio.run(ask()) == [tags, []]  # and nobody after them


@pytest.mark.parametrize(
    ("name", "role", "tags", "status"),
    [
        ("otto", "operator", ["started-by:otto", "role:operator"], 200),
        ("otto", "operator", ["started-by:olga", "role:operator"], 403),
        ("otto", "operator", ["started-by:otto", "role:admin"], 403),
        ("otto", "operator", [], 403),
        ("ada", "admin", ["started-by:olga", "role:operator"], 200),
        ("ada", "admin", [], 200),
    ],
)
def test_a_visitor_retries_their_own_runs_and_an_admin_those_of_all(
    name: str, role: str, tags: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect is a stand-in, which knows one failed run."""
    retried: list[UUID] = []

    def retry(run: UUID) -> str:
        retried.append(run)
        return "AwaitingRetry"

    monkeypatch.setattr(deployed_flows, "require", lambda _: SimpleNamespace(tags=tags))
    monkeypatch.setattr(deployed_flows, "retry", retry)
    run = uuid4()
    assert ask("POST", f"/runs/{run}/retry", name, role).status_code == status
    assert retried == ([run] if status == 200 else [])


@pytest.mark.parametrize(("name", "role", "offered"), [("otto", "operator", 1), ("ada", "admin", 3)])
def test_a_visitor_is_offered_to_retry_what_they_may(
    name: str, role: str, offered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect is a stand-in, which knows failed runs of two people and of the machine."""
    starters = (Starter(name="otto", role="operator"), Starter(name="olga", role="operator"), None)
    ended = [RunLine(run=failed(starter), progress=None, newest="") for starter in starters]
    monkeypatch.setattr(run_list, "list_unfinished", lambda _: [])
    monkeypatch.setattr(run_list, "list_ended", lambda *_, **__: [line.run for line in ended])
    monkeypatch.setattr(runs, "run_lines", lambda _, listed, __: ended if listed else [])
    text = ask("GET", "/runs/newest", name, role).text
    assert [f'id="retry-{line.run.id}"' in text for line in ended] == [True] * offered + [False] * (3 - offered)


def failed(starter: Starter | None) -> ListedRun:
    now = datetime.now(UTC)
    state = RunState(id=uuid4(), name="x", type=StateType.FAILED, state="Failed", message="", since=now, began=now)
    return ListedRun(state=state, flow="train-model", parameters={}, ended=now, parent=None, starter=starter)


def ask(method: str, path: str, name: str, role: str) -> httpx.Response:
    """What the page answers a visitor, as on a stack with accounts."""
    app = application(
        Services(triton_url="x", triton_key="", password="p", store_url="http://x", front_door_secret=SECRET)
    )
    app.state.people = object()
    sent = {"X-Studio-Door": SECRET, "X-Studio-User": name, "X-Studio-Role": role, "Authorization": "Bearer theirs"}

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=sent)

    return asyncio.run(answer())
