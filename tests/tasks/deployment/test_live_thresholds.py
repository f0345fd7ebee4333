"""What a deployment says of the thresholds that live predictions take."""

import time

import pytest

from tasks.deployment.live_thresholds import read_live_thresholds_once, thresholds_markdown
from tasks.tracking.evaluation_runs import KeptThresholds


def test_a_deployment_shows_the_thresholds_and_where_they_come_from() -> None:
    kept = KeptThresholds(by_class={"cat|dog": 0.4567}, archives=("a.zip", "b_c.zip"), split="val", flow_run_id="f1")
    shown = thresholds_markdown("cells version 3", kept)
    assert "computed on split val of a.zip, b\\_c.zip by flow run f1" in shown
    assert "| cat\\|dog | 0.457 |" in shown


def test_a_version_without_thresholds_says_what_to_do() -> None:
    assert "Run evaluate-model on it, then deploy it again." in thresholds_markdown("cells version 3", None)


def test_a_roll_back_waits_for_no_thresholds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    began = time.monotonic()
    assert read_live_thresholds_once("m", 1) is None
    assert time.monotonic() - began < 20
    assert "refuse confidence auto" in caplog.text
