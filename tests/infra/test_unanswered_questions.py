"""Which runs have waited for a person too long; with a run that waits: tests/flows/test_approval.py."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from infra.unanswered_questions import answer_quietly, answer_unanswered, deadline_of
from tasks.orchestration.questions import KEYSET

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OTHER = {"schema": "other-schema", "description": "other-description", "response": "other-response"}


def state(pause_timeout: str | None, keyset: dict[str, str] | None) -> dict[str, Any]:
    return {"state_details": {"pause_timeout": pause_timeout, "run_input_keyset": keyset}}


@pytest.mark.parametrize(
    ("paused", "deadline"),
    [
        (state("2026-01-03T00:00:00Z", KEYSET), NOW),
        (state("2026-01-03T00:00:00Z", OTHER), None),
        (state("2026-01-03T00:00:00Z", None), None),
        (state(None, KEYSET), None),
    ],
)
def test_only_our_questions_have_a_deadline(paused: dict[str, Any], deadline: datetime | None) -> None:
    assert deadline_of(paused) == deadline


def test_nobody_answers_what_is_over_and_nothing_else() -> None:
    over, waits, other = (
        state("2026-01-03T00:00:00Z", KEYSET),
        state("2026-01-03T00:00:01Z", KEYSET),
        state("2026-01-02T00:00:00Z", None),
    )
    runs = [{"id": str(number), "state": each} for number, each in enumerate((over, waits, other))]
    answered: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/filter"):
            return httpx.Response(200, json=runs)
        answered.append(request.url.path)
        return httpx.Response(200, json={})

    with httpx.Client(base_url="http://prefect/api", transport=httpx.MockTransport(serve)) as api:
        answer_unanswered(api, NOW)
    assert answered == ["/api/flow_runs/0/resume"]


def test_a_server_that_is_away_is_asked_again_later(caplog: pytest.LogCaptureFixture) -> None:
    with httpx.Client(base_url="http://127.0.0.1:9/api", trust_env=False) as api:
        answer_quietly(api)
    assert "were not answered" in caplog.text
