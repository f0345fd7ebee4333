"""The patrol beside Prefect's server; what each of its actions does is tested where it is about a run."""

import logging

import pytest
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from infra.patrol import patrol


def test_a_server_that_is_away_is_visited_again_later(caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), caplog.at_level(logging.WARNING):
        patrol("http://127.0.0.1:9/api", None)
    assert [line.partition(":")[0] for line in caplog.messages] == ["announce_active_runs", "answer_unanswered"]
