"""The line that a door writes for a request."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from infra.request_log import RequestLog
from tasks.log_lines import add_to_request, outgoing_headers

RUN = "7d444840-9dc0-41d1-b245-5ffdce74fad2"


def passes_on(request: Request) -> Response:  # noqa: ARG001 - in a thread of its own
    add_to_request(model="shapes")
    return Response(headers={"passed": str(outgoing_headers())})


async def fails(request: Request) -> Response:  # noqa: ARG001
    raise ValueError("a defect")


async def breaks_off(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ValueError("a defect")


async def refuses(request: Request) -> Response:
    return PlainTextResponse("no", int(request.query_params["status"]))


APP = Starlette(routes=[Route("/x", passes_on), Route("/fails", fails), Route("/refuses", refuses)])


def ask(path: str, *, only_unusual: bool = False, **options: Any) -> httpx.Response:
    async def answer() -> httpx.Response:
        app = RequestLog(APP, only_unusual=only_unusual, is_open=lambda path: path == "/none")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, **options)

    return asyncio.run(answer())


@pytest.fixture(autouse=True)
def _listen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infra")


def fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = [each for each in caplog.records if each.name == "infra.request_log"]
    found: dict[str, Any] = record.__dict__["fields"] | {"level": record.levelname}
    return found


def test_a_request_is_logged_with_who_asked_for_what_and_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    headers = {"X-Request-Id": "page-1", "X-Studio-Flow-Run": RUN}
    answer = ask("/x?key=secret", headers=headers, auth=("ann", "password"))
    assert answer.headers["x-request-id"] == "page-1"
    found = fields(caplog)
    assert found.pop("ms") >= 0
    assert found == {
        "request_id": "page-1",
        "flow_run_id": RUN,
        "user": "ann",
        "model": "shapes",
        "method": "GET",
        "path": "/x",
        "status": 200,
        "level": "INFO",
    }
    assert "secret" not in caplog.text


def test_what_a_service_asks_meanwhile_names_the_request_and_the_run() -> None:
    headers = {"X-Request-Id": "page-1", "X-Studio-Flow-Run": RUN}
    assert ask("/x", headers=headers).headers["passed"] == str(headers)


@pytest.mark.parametrize("hostile", ["", "a b", "x" * 65, "{json}", 'a"b', "é".encode(), b"1\x1b[2J"])
def test_an_id_that_could_be_more_than_an_id_is_replaced(hostile: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = ask("/x", headers={"X-Request-Id": hostile, "X-Studio-Flow-Run": hostile})
    assert len(answer.headers["x-request-id"]) == 32
    assert "flow_run_id" not in fields(caplog)


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/fails", 500, "ERROR"),
        ("/refuses?status=401", 401, "WARNING"),
        ("/refuses?status=403", 403, "WARNING"),
        ("/refuses?status=502", 502, "ERROR"),
    ],
)
def test_a_refusal_is_a_warning_and_a_failure_is_an_error(
    path: str, status: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(path, only_unusual=True, auth=("ann", "x")).status_code == status
    assert (fields(caplog)["status"], fields(caplog)["level"]) == (status, level)


@pytest.mark.parametrize("path", ["/none", "/refuses?status=422", "/refuses?status=401"])
def test_what_is_not_there_and_a_browser_that_asks_first_are_no_warnings(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    ask(path)
    assert fields(caplog)["level"] == "INFO"


def test_an_error_after_the_answer_is_in_its_line_and_one_before_its_end_is_raised_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask("/fails")
    (record,) = [each for each in caplog.records if each.name == "infra.request_log"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)

    async def nothing(*_: object) -> Any:
        return {}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ValueError, match="a defect"):
        asyncio.run(RequestLog(breaks_off)(scope, nothing, nothing))


def test_a_name_with_a_wrong_password_is_not_a_user(caplog: pytest.LogCaptureFixture) -> None:
    ask("/refuses?status=401", auth=("ann", "x"))
    assert "user" not in fields(caplog)


def test_where_nobody_is_asked_for_a_key_neither_a_name_nor_a_run_is_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask("/none", auth=("ada", "x"), headers={"X-Studio-Flow-Run": RUN})
    assert not {"user", "flow_run_id"} & fields(caplog).keys()


def test_a_service_that_is_asked_all_the_time_logs_what_is_unusual_or_named(caplog: pytest.LogCaptureFixture) -> None:
    ask("/x", only_unusual=True)
    ask("/none", only_unusual=True)
    assert not [each for each in caplog.records if each.name == "infra.request_log"]
    ask("/x", only_unusual=True, headers={"X-Studio-Flow-Run": RUN})
    assert fields(caplog)["flow_run_id"] == RUN
