"""Runs that a run starts and waits for; with a real server: tests/flows/test_run_pipeline.py and test_review_images.py.

A mock stands for Prefect, which cannot be had in a second.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from tasks.errors import REFUSED, VERSION_REFUSED
from tasks.orchestration import awaited_runs, child_runs
from tasks.orchestration.awaited_runs import (
    AwaitedRunError,
    AwaitedRunRefusedError,
    AwaitedRuns,
    AwaitedVersionRefusedError,
)
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.prefect_client import PrefectUnavailableError

RUN, OWN = uuid4(), uuid4()
NOW = datetime.now(UTC)
Seen = dict[UUID, RunState]


def _state(kind: StateType, name: str, since: datetime = NOW) -> Seen:
    return {RUN: RunState(id=RUN, name="x", type=kind, state=name, message="by Ann", since=since, began=None)}


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """Prefect: `start` returns RUN, and `read_runs` what a test says."""
    prefect = MagicMock()
    prefect.start.return_value = RUN
    for called, result in {"flow_run_id": str(OWN), "flow_run_name": "p", "begun_at": NOW}.items():
        monkeypatch.setattr(awaited_runs, called, lambda result=result: result)
    for replaced in ("may_continue", "log_step", "suspend"):
        monkeypatch.setattr(awaited_runs, replaced, getattr(prefect, replaced))
    monkeypatch.setattr(awaited_runs, "POLL_S", 0.0)
    monkeypatch.setattr(awaited_runs, "deployed_flows", prefect)
    monkeypatch.setattr(child_runs, "read_runs", prefect.read_runs)
    return prefect


@pytest.mark.parametrize(
    ("kind", "name", "failure", "retries"),
    [
        (StateType.CANCELLED, REFUSED, AwaitedRunRefusedError, 0),
        (StateType.FAILED, VERSION_REFUSED, AwaitedVersionRefusedError, 1),
        (StateType.CANCELLED, "Cancelled", AwaitedRunError, 1),
        (StateType.FAILED, "Failed", AwaitedRunError, 1),
    ],
)
def test_what_had_failed_before_is_tried_again_but_not_what_a_person_has_refused(
    kind: StateType, name: str, failure: type[AwaitedRunError], retries: int, prefect: MagicMock
) -> None:
    prefect.read_runs.return_value = _state(kind, name, NOW - timedelta(hours=1))
    with pytest.raises(AwaitedRunError, match="by Ann") as raised:
        AwaitedRuns().do("deploy", "deploy-model", {}, "deploy")
    assert type(raised.value) is failure
    assert (f"`studio retry {OWN}` tries it again." in str(raised.value)) == (failure is not AwaitedRunRefusedError)
    assert prefect.retry.call_count == retries


def test_a_run_is_awaited_though_the_server_is_away_for_a_while(prefect: MagicMock) -> None:
    running, done = _state(StateType.RUNNING, "Running"), _state(StateType.COMPLETED, "Completed")
    prefect.read_runs.side_effect = [running, PrefectUnavailableError(OSError("away")), running, done]
    changes: list[str] = []
    runs = AwaitedRuns(lambda: changes.append(runs.states[RUN].state))
    assert runs.do("infer", "run-inference", {}, "infer").completed
    assert changes == ["Running", "Running", "Completed"]


def test_a_run_has_the_tag_of_the_one_that_starts_it_and_those_that_it_gives(prefect: MagicMock) -> None:
    prefect.read_runs.return_value = _state(StateType.COMPLETED, "Completed")
    AwaitedRuns(tags=["of-a-review"]).do("suggest", "run-inference", {}, "suggest")
    assert prefect.start.call_args.kwargs["tags"] == [f"pipeline:{OWN}", "of-a-review"]


def test_a_run_waits_suspended_for_one_that_is_suspended(prefect: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited_runs, "can_be_suspended", lambda: True)
    prefect.read_runs.return_value = _state(StateType.PAUSED, "Suspended")
    prefect.suspend.side_effect = KeyboardInterrupt  # in place of Pause, which ends the process
    with pytest.raises(KeyboardInterrupt):
        AwaitedRuns().do("infer", "run-inference", {}, "infer")
    assert prefect.suspend.call_args.kwargs == {"awaited": RUN}


@pytest.mark.parametrize("seen", [lambda: [{}], lambda: [_state(StateType.RUNNING, "Running"), {}]])
def test_a_run_that_was_deleted_is_named(seen: Callable[[], list[Seen]], prefect: MagicMock) -> None:
    prefect.read_runs.side_effect = seen()
    with pytest.raises(
        AwaitedRunError, match=f"the runs infer, found that they were deleted. `studio retry {OWN}` starts"
    ):
        AwaitedRuns().do("infer", "run-inference", {}, "infer")
