"""What a pipeline hands on to the runs that it starts; with real runs: tests/flows/test_run_pipeline.py."""

import inspect
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.run_pipeline import run_pipeline
from tasks.errors import REFUSED
from tasks.orchestration import child_runs
from tasks.orchestration.child_runs import RunState
from tasks.parameters import ServingParams, ValidationPolicy
from tasks.pipelines import session
from tasks.pipelines.rules import PipelineError, PipelineRefusedError
from tasks.tracking.trained_versions import TrainedVersion


def test_the_training_checks_under_the_policy_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive may be replaced after its check: it meets the same policy again."""
    strict, pipeline = ValidationPolicy(min_class_instances=50), MagicMock()
    pipeline.train.return_value.promoted = False
    monkeypatch.setattr("flows.run_pipeline.pipeline_session", lambda _: nullcontext(pipeline))
    inspect.unwrap(run_pipeline.fn)("shapes", ["a.zip"], policy=strict)
    pipeline.check_archives.assert_called_once_with(strict)
    assert pipeline.train.call_args.kwargs["policy"] == strict


@pytest.mark.parametrize(
    ("kind", "name", "failure", "retries"),
    [
        (StateType.CANCELLED, REFUSED, PipelineRefusedError, 0),
        (StateType.CANCELLED, "Cancelled", PipelineError, 1),
        (StateType.FAILED, "Failed", PipelineError, 1),
    ],
)
def test_what_a_person_has_refused_is_not_tried_again(
    kind: StateType, name: str, failure: type[PipelineError], retries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that had ended before this attempt of the pipeline."""
    now = datetime.now(UTC)
    ended = RunState(
        id=uuid4(), name="x", type=kind, state=name, message="by Ann", since=now - timedelta(hours=1), began=None
    )
    flows = MagicMock()
    flows.start.return_value = ended.id
    for called, result in {"flow_run_id": str(uuid4()), "flow_run_name": "p", "begun_at": now}.items():
        monkeypatch.setattr(session, called, lambda result=result: result)
    for replaced in ("UpdatedPage", "may_continue", "log_step"):
        monkeypatch.setattr(session, replaced, MagicMock())
    monkeypatch.setattr(session, "deployed_flows", flows)
    monkeypatch.setattr(child_runs, "read_runs", lambda _: {ended.id: ended})
    with pytest.raises(failure, match="by Ann"):
        session.PipelineSession("shapes").deploy(TrainedVersion(number=1, promoted=True, reason=""), ServingParams())
    assert flows.retry.call_count == retries
