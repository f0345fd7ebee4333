"""What a pipeline hands on to the runs that it starts; with real runs: tests/flows/test_run_pipeline.py."""

import inspect
from contextlib import nullcontext
from functools import partial
from unittest.mock import MagicMock

import pytest

from flows.close_loop import close_loop
from flows.run_pipeline import run_pipeline
from tasks.parameters import ValidationPolicy
from tasks.pipelines import session
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
