"""Event notifications: who may send them, what is started, and what the sender is told."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import boto3
import httpx
import pytest

from infra.front_page.application import application
from infra.services import services
from infra.stack_settings import StackSettings
from tasks.dataset_watch.notifications import MAX_BYTES, ObjectChange
from tasks.orchestration import deployed_flows
from tests.infra.front_page.test_live import NO_SERVICES
from tests.tasks.dataset.archives import good, zipped
from tests.tasks.dataset_watch.test_notifications import event_bridge, minio, record, sns

SECRET = "hush-é"
BEARER = {"Authorization": b"Bearer " + SECRET.encode()}
Body = bytes | AsyncIterator[bytes]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def send(
    body: Body, headers: Mapping[str, Any] = BEARER, *, secret: str = SECRET, method: str = "POST"
) -> httpx.Response:
    """The answer of a front page that was told this secret."""

    async def answer() -> httpx.Response:
        app = application(replace(NO_SERVICES, s3_events_secret=secret))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.request(method, "/s3-events", content=body, headers=headers)

    return asyncio.run(answer())


@pytest.mark.parametrize("headers", [BEARER, {"Authorization": "Bearer "}, {}])
def test_without_a_secret_nothing_is_taken(headers: dict[str, Any]) -> None:
    answer = send(b'{"Records": []}', headers, secret="")
    assert (answer.status_code, "STUDIO_S3_EVENTS_SECRET" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {SECRET}x".encode()},
        {"Authorization": SECRET.encode()},
        {"Authorization": "Basic !"},
        basic("studio", "hush"),
        basic("another", SECRET),
        basic("studio", NO_SERVICES.password),
    ],
)
def test_another_secret_is_refused_and_asked_for(headers: dict[str, Any]) -> None:
    answer = send(b'{"Records": []}', headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("headers", [BEARER, basic("studio", SECRET)])
def test_the_secret_is_a_bearer_token_or_a_password(headers: dict[str, Any]) -> None:
    answer = send(b'{"Records": []}', headers)
    assert (answer.status_code, answer.json()) == (200, {"checks": []})


def test_a_body_is_read_up_to_its_limit_alone() -> None:
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield bytes(1 << 18)

    assert send(endless()).status_code == 413
    assert pieces <= 2 + MAX_BYTES // (1 << 18)
    assert send(b"", {**BEARER, "Content-Length": str(MAX_BYTES + 1)}).status_code == 413


def test_what_is_no_notification_is_said_to_the_sender_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answer = send(b"{}")
    assert answer.status_code == 400
    assert "Expected an object with Records" in answer.json()["error"]
    asked = {"Type": "SubscriptionConfirmation", "TopicArn": "t", "SubscribeURL": "https://sns.example/?Token=2"}
    assert send(json.dumps(asked).encode()).status_code == 400
    assert "open its SubscribeURL yourself: 'https://sns.example/?Token=2'" in caplog.text


def test_a_sender_tries_again_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", NO_SERVICES.store_url)
    answer = send(json.dumps(minio(record())).encode())
    assert answer.status_code == 503
    assert "object store" in answer.json()["error"]


def test_nothing_is_read_from_there() -> None:
    assert send(b"", method="GET").status_code == 405


def test_no_service_but_the_front_page_gets_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_S3_EVENTS_SECRET", SECRET)
    holders = {each.name for each in services(StackSettings.load()) if SECRET in each.environment.values()}
    assert holders == {"studio"}


# ---- against the stack ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [minio, event_bridge, sns])
def test_an_archive_is_checked_at_once_and_once(stack: object, sender: Any) -> None:  # noqa: ARG001
    key = f"{uuid4()}/a b+ä.zip"
    boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=zipped(good()))
    change = ObjectChange(bucket="datasets", key=key)
    messages = {minio: minio(record(change)), event_bridge: event_bridge(change), sns: sns(minio(record(change)))}
    body = json.dumps(messages[sender]).encode()
    answers = [send(body).json(), send(body).json()]
    (check,) = answers[0]["checks"]
    run = deployed_flows.require(UUID(check["flow_run"]))
    assert (check["key"], check["reason"], run.parameters["archive"]) == (key, "", key)
    assert answers[0] == answers[1]
    deployed_flows.cancel(run.id)


def test_each_object_has_its_run_or_the_reason_for_none(stack: object) -> None:  # noqa: ARG001
    keys = ["<script>.txt", "gone.zip", "../x.zip", "x" * 5000 + ".zip", "\ud800.zip"]
    records = [record(ObjectChange(bucket="datasets", key="?")) for _ in keys]
    for each, key in zip(records, keys, strict=True):
        each["s3"]["object"]["key"] = key
    checks = send(json.dumps(minio(*records)).encode()).json()["checks"]
    assert [check["key"] for check in checks] == [*keys[:-1], "?.zip"]
    assert [check["flow_run"] for check in checks] == [None] * len(keys)
    assert checks[1]["reason"] == "it is gone"
    assert all(check["reason"] for check in checks)
