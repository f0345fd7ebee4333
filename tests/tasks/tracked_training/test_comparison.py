"""The comparison of a registered version does not end its training."""

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from prefect.logging import disable_run_logger

from tasks.merge.steps import write_relabelled_split
from tasks.parameters import PromotionPolicy, TrainingParams
from tasks.promotion.rules import GOLD, VALIDATION
from tasks.tracked_training import comparison, contenders
from tasks.tracked_training.contenders import Contender
from tasks.tracking import registry
from tasks.tracking.registry import ModelVersion
from tasks.training.job import EvaluationTarget
from tasks.training.steps import evaluate
from tests.tasks.evaluation.test_version_evaluation import perfect, unpacked
from tests.tasks.merge.archives import dataset, merge


def test_whatever_keeps_images_from_being_corrupted_leaves_the_versions_without_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a fault of a library")

    monkeypatch.setattr(comparison, "read_val_split", fail)
    version = ModelVersion(name="m", version=2, run_id="", task="detect", image_size=96, class_names=("cat",))
    contender = Contender(version=version, folder=tmp_path)
    with disable_run_logger():
        assert comparison.measure_corrupted([contender], MagicMock(), TrainingParams(), tmp_path) == {}


def test_a_class_that_the_champion_does_not_know_makes_no_version_less_robust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = unpacked(tmp_path, "detect")
    corrupted = replace(data, images=data.images * 46)
    cats = [each.select(each.class_id == 0) for each in perfect(corrupted, "detect")]
    monkeypatch.setattr(comparison, "read_val_split", lambda *_: data)
    monkeypatch.setattr(comparison, "corrupt_images", lambda *_: corrupted)
    monkeypatch.setattr(Contender, "predict", lambda *_: cats)
    versions = [
        ModelVersion(name="m", version=2, run_id="", task="detect", image_size=96, class_names=names)
        for names in (data.class_names, data.class_names[:1])
    ]
    both = [Contender(version=each, folder=tmp_path) for each in versions]
    with disable_run_logger():
        measured = comparison.measure_corrupted(both, MagicMock(), TrainingParams(), tmp_path)
    assert [measured[each].mean for each in both] == pytest.approx([1.0, 1.0])


def evaluate_on_full_disk(target: EvaluationTarget, *arguments: Any) -> Any:
    """Every write to a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        return evaluate.fn([target], *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_version_that_a_full_disk_keeps_from_being_measured_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = merge(tmp_path, dataset(0), gold=dataset(40))[1]
    version = ModelVersion(name="m", version=2, run_id="", task="detect", image_size=96, class_names=merged.class_names)
    trained = MagicMock(folder=tmp_path / "training", batch=2, weights=tmp_path / "best.pt")
    monkeypatch.setattr(registry, "find_champion", lambda _: None)
    monkeypatch.setattr(contenders, "write_relabelled_split", write_relabelled_split.fn)
    monkeypatch.setattr(contenders, "evaluate_once", evaluate_on_full_disk)
    policy = PromotionPolicy(gold="gold.zip", min_map50=0)
    with disable_run_logger():
        decision = comparison.decide_promotion(version, trained, merged, TrainingParams(), policy)
    assert not decision.promoted
    for data, reason in zip((VALIDATION, GOLD), decision.reasons, strict=True):
        assert f"Expected scores of version 2 on the {data} images, found none: [Errno 27] File too large" in reason
