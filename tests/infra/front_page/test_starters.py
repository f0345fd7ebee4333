"""Whom the front page starts a run for."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from infra.front_page.starters import StartedByVisitor
from tasks.orchestration.starters import starter_tags

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
