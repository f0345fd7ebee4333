"""The progress of a training in the Prefect UI, and a server that is away."""

import logging
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.training import progress
from tasks.training.events import EpochResult


def test_an_epoch_ends_although_prefect_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "show_progress", lambda *_, **__: uuid4())
    monkeypatch.setattr(progress, "get_run_logger", logging.getLogger)
    caplog.set_level(logging.INFO)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        progress.EpochProgress("bar")(EpochResult(number=1, total_epochs=2, metrics={"mAP50": 0.5}, seconds=60.0))
    assert "epoch 1/2  mAP50 0.500  60 s left" in caplog.text
