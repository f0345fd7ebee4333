"""What people are told of alerts, and that only Alertmanager has them told."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.metrics import alert_sender
from infra.metrics.alert_sender import MAX_BYTES, MOST_LINES, message_of
from tests.infra.receiver import open_receiver
from tests.paths import ROOT
from tests.waiting import eventually

TOKEN = {"Authorization": "Bearer hush"}


def alert(name: str, summary: str, status: str = "firing") -> dict[str, Any]:
    return {"status": status, "labels": {"alertname": name}, "annotations": {"summary": summary}}


def test_a_message_names_what_fires_and_tells_what_to_do() -> None:
    message = message_of([alert("TritonDown", "Triton is away."), alert("RunFailed", "A run failed.", "resolved")])
    assert message == {
        "title": "Alert: TritonDown",
        "body": "Triton is away.\nOver: A run failed.",
        "notify_type": "failure",
    }


def test_what_is_over_is_no_alarm() -> None:
    message = message_of([alert("TritonDown", "Triton is away.", "resolved")])
    assert (message["title"], message["notify_type"]) == ("Over: TritonDown", "success")


def test_a_name_in_an_alert_calls_nobody_and_begins_no_line() -> None:
    assert message_of([alert("A", "model <!channel>\nAll is well")])["body"] == "model (!channel> All is well"


def test_many_alerts_are_a_message_of_some_lines() -> None:
    lines = message_of([alert("A", f"{number}") for number in range(MOST_LINES + 5)])["body"].splitlines()
    assert lines[-2:] == [f"{MOST_LINES - 1}", "and 5 more"]


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[httpx.Client]:
    """The real process, with a token and no addresses yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "alert-sender.token").write_text("hush")
    (tmp_path / "notify").write_text("")
    command = [sys.executable, "-m", alert_sender.__name__, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"STUDIO_ALERT_SENDER_PORT": str(port)})
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        def is_up() -> bool:
            try:
                return client.get("/health").is_success
            except httpx.ConnectError:
                return False

        eventually(is_up, "the sender of alerts")
        yield client
    process.terminate()
    process.wait()


def test_alerts_reach_the_addresses_of_now_and_nobody_else_sends_any(sender: httpx.Client, tmp_path: Path) -> None:
    body = {"alerts": [alert("TritonDown", "Triton is away.")]}
    assert sender.post("/", json=body, headers=TOKEN).status_code == 200, "without addresses nobody is told"
    with open_receiver() as receiver:
        (tmp_path / "notify").write_text(receiver.address)
        assert [
            sender.post("/", json=body, headers=each).status_code for each in ({}, {"Authorization": "Bearer x"})
        ] == [
            401,
            401,
        ]
        assert sender.post("/", json=body, headers=TOKEN).status_code == 200
        assert (receiver.messages, receiver.kinds) == ([("Alert: TritonDown", "Triton is away.")], ["failure"])
    gone = sender.post("/", json=body, headers=TOKEN)
    assert gone.status_code == 503, "Alertmanager tries again"


def test_a_body_that_is_no_alert_is_refused(sender: httpx.Client) -> None:
    for text in ("x", "[]", "{}", json.dumps({"alerts": [{}]}), json.dumps({"alerts": 1})):
        answer = sender.post("/", content=text, headers=TOKEN)
        assert (answer.status_code, "expected the webhook" in answer.text) == (400, True), text
    connection = http.client.HTTPConnection(sender.base_url.netloc.decode(), timeout=10)
    connection.request("POST", "/", headers=TOKEN | {"Content-Length": str(MAX_BYTES + 1)})
    assert connection.getresponse().status == 413, "before a byte of it is read"
    connection.close()
