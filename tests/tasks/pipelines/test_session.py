"""What a pipeline hands on to the runs that it starts; with real runs: tests/flows/test_run_pipeline.py."""

import inspect
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType

from flows.close_loop import close_loop
from flows.run_pipeline import run_pipeline
from tasks.errors import REFUSED
from tasks.orchestration import child_runs
from tasks.orchestration.child_runs import RunState
from tasks.parameters import ServingParams, ValidationPolicy
from tasks.pipelines import session
from tasks.pipelines.rules import PipelineError, PipelineRefusedError
from tasks.tracking.trained_versions import TrainedVersion


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The session of a pipeline whose parts do nothing; its own decisions are real."""
    pipeline = MagicMock(spec=session.PipelineSession, model_name="shapes")
    pipeline.renew_champion = partial(session.PipelineSession.renew_champion, pipeline)
    pipeline.train.return_value = TrainedVersion(number=2, promoted=False, reason="worse")
    pipeline.deploy.return_value.message = "version 2 is served"
    for flow in ("run_pipeline", "close_loop"):
        monkeypatch.setattr(f"flows.{flow}.pipeline_session", lambda _: nullcontext(pipeline))
    return pipeline


def test_the_training_checks_under_the_policy_of_the_pipeline(pipeline: MagicMock) -> None:
    """An archive may be replaced after its check: it meets the same policy again."""
    strict = ValidationPolicy(min_class_instances=50)
    inspect.unwrap(run_pipeline.fn)("shapes", ["a.zip"], policy=strict)
    pipeline.check_archives.assert_called_once_with(strict)
    assert pipeline.train.call_args.kwargs["policy"] == strict


@pytest.mark.parametrize(
    ("archive", "uncertain", "learnt", "promoted", "state"),
    [
        ("labelled.zip", "run:1", ["champion+", "labelled.zip", "reviewed.zip"], True, "Completed"),
        ("labelled.zip", None, ["champion+", "labelled.zip"], False, "Not better"),
        (None, "run:1", ["champion+", "reviewed.zip"], True, "Completed"),
        (None, None, None, True, "Nothing new"),
    ],
)
def test_a_loop_learns_from_what_the_model_is_sure_of_and_from_what_people_corrected(
    pipeline: MagicMock,
    archive: str | None,
    uncertain: str | None,
    learnt: list[str] | None,
    promoted: bool,
    state: str,
) -> None:
    pipeline.label.return_value = session.LabelledImages(archive=archive, uncertain=uncertain)
    pipeline.review.return_value = "reviewed.zip"
    pipeline.train.return_value = TrainedVersion(number=2, promoted=promoted, reason="worse")
    ended = inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert [call.args[0] for call in pipeline.review.call_args_list] == ([[uncertain]] if uncertain else [])
    assert [call.args[0] for call in pipeline.choose_archives.call_args_list] == ([learnt] if learnt else [])
    assert pipeline.deploy.call_count == (state == "Completed")
    assert ended.name == state


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
