"""What an evaluation leaves with a version."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from prefect.logging import disable_run_logger

from tasks.evaluation.version_evaluation import evaluate_version
from tasks.parameters import EvaluationParams
from tasks.tracked_evaluation import publication
from tests.tasks.evaluation.test_version_evaluation import CLASSES, perfect, unpacked
from tests.tasks.tracked_evaluation.test_subjects import NOTHING, subject


@pytest.mark.parametrize(
    ("split", "trained", "kept"),
    [("val", True, True), ("all", False, True), ("all", True, False), ("train", False, False)],
)
def test_thresholds_that_rest_on_images_for_training_are_not_kept(
    split: str, trained: bool, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(unpacked(tmp_path, "detect"), split=split, pseudo_labelled=3)
    learnt = {name: frozenset({digest}) for name, digest in data.digests.items() if trained}
    judged = subject(2, 64, replace(NOTHING, archives=learnt))
    evaluation = evaluate_version(2, "detect", CLASSES, data, perfect(data, "detect"), EvaluationParams())
    runs, keep_page, keep_validation, artifacts = MagicMock(), MagicMock(), MagicMock(), MagicMock()
    monkeypatch.setattr(publication, "artifacts", artifacts)
    for name in ("storage_steps", "retried", "page_links", "links_markdown", "flow_run_id"):
        monkeypatch.setattr(publication, name, MagicMock())
    monkeypatch.setattr(publication, "evaluation_runs", runs)
    monkeypatch.setattr(publication, "keep_page", keep_page)
    monkeypatch.setattr(publication, "keep_validation", keep_validation)
    with disable_run_logger():
        publication.publish([judged], data, [evaluation], EvaluationParams())
    (version, page), _ = keep_page.call_args
    assert (version.version, page.archives, page.split) == (2, data.digests, split)
    assert runs.keep_thresholds.called == keep_validation.called == kept
    html, facts = runs.log_evaluation.call_args.args[3:]
    assert ("The thresholds of version 2 are not kept with it" in html) != kept
    assert len(facts["remarks"]) == (not kept) + trained + 1
    assert facts["remarks"][-1] == "3 images are left out, because a model has made labels of them."
    markdown = artifacts.show_markdown.call_args.args[1]
    assert ("The thresholds are kept with version 2." in markdown) == kept
    assert ("The thresholds are not kept with version 2," in markdown) != kept
