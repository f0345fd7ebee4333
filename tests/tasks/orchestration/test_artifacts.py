"""What is attached to a run while Prefect's server is away."""

import time

import httpx
import pytest
from prefect.exceptions import PrefectHTTPStatusError

from tasks.orchestration import artifacts
from tasks.orchestration.prefect_client import CallRefusedError, PrefectUnavailableError


def answer(status: int) -> PrefectHTTPStatusError:
    request = httpx.Request("POST", "http://prefect/api/artifacts/")
    return PrefectHTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def let_server_answer(patch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """A stand-in of the call of Prefect: it fails so often, and then does not."""
    left = list(errors)

    def create(*_: object, **__: object) -> None:
        if left:
            raise left.pop(0)

    patch.setattr(artifacts, "create_link_artifact", create)


@pytest.mark.parametrize("error", [answer(500), answer(503), httpx.ReadTimeout("no"), httpx.ConnectError("no")])
def test_a_link_waits_for_a_server_that_is_away_for_minutes(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], error: Exception
) -> None:
    let_server_answer(monkeypatch, *[error] * 6)
    artifacts.show_link("gallery", "http://x", "x")
    assert sum(pauses) > 90


def test_a_server_that_stays_away_is_told_by_an_error_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],  # noqa: ARG001
) -> None:
    let_server_answer(monkeypatch, *[answer(500)] * 7)
    with pytest.raises(PrefectUnavailableError, match="studio status"):
        artifacts.show_link("gallery", "http://x", "x")


def test_a_refusal_is_final(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    let_server_answer(monkeypatch, answer(422))
    with pytest.raises(CallRefusedError):
        artifacts.show_link("gallery", "http://x", "x")
    assert pauses == []
