"""When a call is tried again."""

import time
from itertools import islice

import pytest

from tasks.errors import StudioError
from tasks.orchestration.retries import RetryPolicy
from tasks.orchestration.step import retried_step, step


class AwayError(StudioError):
    """A service that does not answer."""

    transient = True


class Service:
    """Fails with `error` before each answer that is None."""

    def __init__(self, error: StudioError, failures: int) -> None:
        self.error, self.failures, self.calls = error, failures, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "answer"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def test_pauses_grow_to_the_longest() -> None:
    assert list(islice(RetryPolicy(first_s=1, factor=3, longest_s=5).pauses(), 4)) == [1, 3, 5, 5]
    assert list(RetryPolicy(first_s=1, attempts=3).pauses()) == [1, 2]


def test_a_service_that_comes_back_is_called_again(slept: list[float]) -> None:
    service = Service(AwayError("no answer"), failures=2)
    assert RetryPolicy(first_s=1).call(service) == "answer"
    assert service.calls == 3
    assert all(expected / 2 <= pause <= expected for pause, expected in zip(slept, [1, 2], strict=True))


@pytest.mark.parametrize(
    ("policy", "error", "calls"),
    [
        (RetryPolicy(first_s=1), StudioError("refused"), 1),
        (RetryPolicy(first_s=1, attempts=3), AwayError("no answer"), 3),
        (RetryPolicy(first_s=1, total_s=0.5), AwayError("no answer"), 1),
    ],
    ids=["refused", "no attempt left", "no time left"],
)
@pytest.mark.usefixtures("slept")
def test_an_error_that_stays_is_raised(policy: RetryPolicy, error: StudioError, calls: int) -> None:
    service = Service(error, failures=9)
    with pytest.raises(StudioError, match=str(error)):
        policy.call(service)
    assert service.calls == calls


def test_a_retried_step_waits_four_minutes_for_its_service() -> None:
    task = retried_step(lambda: None)
    assert isinstance(task.retry_delay_seconds, list)
    assert task.retries == len(task.retry_delay_seconds) == 6
    assert sum(task.retry_delay_seconds) == pytest.approx(240, abs=15)
    assert step(lambda: None).retries == 0
