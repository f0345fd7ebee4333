"""Whom the door of a web service refuses, from the headers alone."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from infra import mlflow_door
from infra.door import Door

HOME = "127.0.0.1:4200"
PAGE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


async def _inside(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def asked(door: Door, headers: list[tuple[str, str]], **scope: Any) -> list[dict[str, Any]]:
    """What the door sends back to a connection."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    given = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw, **scope}
    asyncio.run(door(given, receive, send))
    return sent


def status(headers: dict[str, str], **scope: Any) -> int:
    return int(asked(Door(_inside), list(headers.items()), **scope)[0]["status"])


@pytest.mark.parametrize("host", [HOME, "localhost:4200", "LOCALHOST:14200", "127.0.0.1"])
def test_a_program_is_let_in_under_our_names(host: str) -> None:
    assert status({"host": host}) == 204


@pytest.mark.parametrize(
    "host", ["evil.example:4200", "127.0.0.1.evil.example", "evil@x", "127.0.0.1@evil.example", "", "[", "0.0.0.0:4200"]
)
def test_a_name_that_is_not_ours_is_refused(host: str) -> None:
    assert status({"host": host}) == 403


def test_a_container_is_called_by_the_names_that_it_was_given_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status({"host": "prefect:4200"}) == 403
    monkeypatch.setenv("STUDIO_HOSTS", "Prefect, prefect.vision.svc")
    for host in ("prefect:4200", "PREFECT.vision.svc", HOME):
        assert status({"host": host}) == 204
    for host in ("mlflow:5000", "prefect.evil.example", ""):
        assert status({"host": host}) == 403


def test_none_and_two_names_are_refused() -> None:
    for names in ([], [("host", HOME), ("host", "evil.example")]):
        assert asked(Door(_inside), names)[0]["status"] == 403


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"origin": f"http://{HOME}", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://127.0.0.1:9"}, False),
        ({"origin": f"https://{HOME}"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", **PAGE}, False),  # a form that is sent here
    ],
)
def test_a_page_of_another_site_changes_nothing(headers: dict[str, str], let_in: bool) -> None:
    assert status({"host": HOME, **headers}) == (204 if let_in else 403)


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"sec-fetch-site": "cross-site", **PAGE}, True),  # a link from a report or from chat
        ({"sec-fetch-site": "cross-site", **PAGE, "sec-fetch-dest": "iframe"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, False),
    ],
)
def test_a_link_may_be_followed_and_nothing_embedded(headers: dict[str, str], let_in: bool) -> None:
    assert status({"host": HOME, **headers}, method="GET") == (204 if let_in else 403)


def test_a_websocket_of_another_site_is_closed_before_it_is_accepted() -> None:
    for headers in ([("host", HOME), ("origin", "https://evil.example")], [("host", "evil.example")]):
        assert asked(Door(_inside), headers, type="websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("place", "ours"),
    [
        (None, True),
        ("mlflow-artifacts:/1/run/artifacts", True),
        ("models:/m-1", True),
        ("runs:/1/model", True),
        ("prompt-template", True),
        ("s3://mlflow/1", False),
        ("file:///etc", False),
        ("/etc", False),
        ("etc", False),
        ("FILE:/etc", False),
        (" s3://runs", False),
        ("mlflow-artifacts://elsewhere/1", False),
        ("mlflow-artifacts:///1", False),
        ("mlflow-artifacts:/1/../../runs", False),
        ("mlflow-artifacts:/1/%2e%2e/runs", False),
        ("http://127.0.0.1:4200", False),
    ],
)
def test_artifacts_lie_in_one_place(place: str | None, ours: bool) -> None:
    assert mlflow_door.is_our_place(place) is ours


@pytest.mark.parametrize(
    ("path", "is_file"),
    [
        ("/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/best.pt", True),
        ("/ajax-api/2.0/mlflow-artifacts/artifacts/x", True),
        ("/ajax-api/2.0/mlflow/upload-artifact", True),
        ("/v1/traces", True),
        ("/api/2.0/mlflow-artifacts/mpu/create/x", False),
        ("/api/2.0/mlflow/runs/create", False),
        ("/api/2.0/mlflow/runs/create/mlflow-artifacts/artifacts/", False),
        ("/graphql", False),
    ],
)
def test_what_goes_into_the_bucket_of_mlflow_as_it_is(path: str, *, is_file: bool) -> None:
    assert bool(mlflow_door.FILES.match(path)) is is_file
