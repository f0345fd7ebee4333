"""What a pipeline hands on to the runs that it starts; with real runs: tests/flows/test_run_pipeline.py."""

import inspect
from contextlib import nullcontext
from unittest.mock import MagicMock

import pytest

from flows.run_pipeline import run_pipeline
from tasks.parameters import ValidationPolicy


def test_the_training_checks_under_the_policy_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive may be replaced after its check: it meets the same policy again."""
    strict, pipeline = ValidationPolicy(min_class_instances=50), MagicMock()
    pipeline.train.return_value.promoted = False
    monkeypatch.setattr("flows.run_pipeline.pipeline_session", lambda _: nullcontext(pipeline))
    inspect.unwrap(run_pipeline.fn)("shapes", ["a.zip"], policy=strict)
    pipeline.check_archives.assert_called_once_with(strict)
    assert pipeline.train.call_args.kwargs["policy"] == strict
