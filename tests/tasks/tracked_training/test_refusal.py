"""A refusal says what fell most, and stays a refusal whatever happens to its explanation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.logging import disable_run_logger

from tasks.errors import StudioError
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.labelled_images import label_detections
from tasks.merge.steps import MergedDataset
from tasks.parameters import TrainingParams
from tasks.promotion.report import promotion_markdown
from tasks.promotion.rules import GOLD, VALIDATION, Decision, MetricComparison
from tasks.tracked_training import refusal
from tasks.tracked_training.contenders import Contender
from tasks.tracking.registry import ModelVersion
from tasks.tracking.version_pages import VersionPage
from tests.tasks.merge.archives import dataset, merge

ADDRESS = "http://s3.example/refusal.html"


def decision(**changes: Any) -> Decision:
    means = (MetricComparison(VALIDATION, 2, 0.5, 0.9),)
    whole = Decision(version=2, promoted=False, reasons=("Worse.",), metric="mAP50-95", means=means, champion=1)
    return replace(whole, **changes)


class Explained:
    """The explanations of refusals on a merge of two archives with a gold archive, where version 2 misses objects."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages: list[str] = []
        self.kept: list[VersionPage] = []
        self.folder = folder
        self.merged: MergedDataset = merge(folder, dataset(0), dataset(20), gold=dataset(40))[1]
        monkeypatch.setattr(evaluation_steps, "predict", self.predict)
        monkeypatch.setattr(refusal, "flow_run_id", lambda: "run")
        monkeypatch.setattr(refusal.storage_steps, "write_text", lambda *_: ADDRESS)  # type: ignore[attr-defined]
        monkeypatch.setattr(refusal, "keep_page", lambda _, page: self.kept.append(page))
        monkeypatch.setattr(refusal.runs, "log_page", lambda _, page, __: self.pages.append(page))  # type: ignore[attr-defined]

    def predict(self, data: Any, version: ModelVersion, *_: object) -> list[Any]:
        found = []
        for image in data.images:
            labels = label_detections(image, data, "detect", 96, 72)
            seen = version.version == 1 or image.archive == "a.zip"
            found.append(labels.select(np.full(len(labels), seen)))
        return found

    def of(self, own: Decision) -> Decision:
        contenders = [
            Contender(
                version=ModelVersion(
                    name="m",
                    version=number,
                    run_id="",
                    task="detect",
                    image_size=96,
                    class_names=self.merged.class_names,
                ),
                folder=self.folder,
                trained=self.folder,
            )
            for number in (2, 1)
        ]
        with disable_run_logger():
            return refusal.explain_refusal(own, contenders[0], contenders[1], {}, self.merged, TrainingParams())


@pytest.fixture
def explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explained:
    return Explained(tmp_path, monkeypatch)


def test_a_refusal_names_what_fell_where_it_was_worse(explained: Explained) -> None:
    told = explained.of(decision())
    assert told.falls_page == ADDRESS
    assert explained.kept == [VersionPage(name="refusal.html", run="run", archives={}, split="val")]
    assert told.falls[0].startswith(
        "Class 'cat' fell from 1.000 to 0.505 (2 labels in 2 images; most in archive 'b.zip'"
    )
    assert told.falls[1] == "Archive 'b.zip' fell from 1.000 to 0.000 (2 labels in 2 images)."
    assert told.falls[2].startswith("Dark images fell from 1.000 to 0.000 (brightness ")
    assert told.falls[0] in told.sentence
    assert told.falls[1] not in told.sentence
    assert f"]({ADDRESS})" in promotion_markdown(told)
    (page,) = explained.pages
    assert all(
        part in page for part in ("a.zip, b.zip, split val", "Worse.", "images/val/4.jpg", "version 1: no mistake")
    )
    of_gold = explained.of(decision(worse_on=(GOLD,)))
    assert "archive" not in of_gold.falls[0]
    assert "c.zip, split val" in explained.pages[1]


def test_what_cannot_be_explained_is_refused_all_the_same(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StudioError("the weights are gone")

    monkeypatch.setattr(evaluation_steps, "predict", fail)
    told = explained.of(decision())
    assert told == replace(decision(), falls=told.falls)
    assert told.falls == ("What fell most against the champion could not be found: 'the weights are gone'.",)


@pytest.mark.parametrize("unexplained", [{"promoted": True}, {"means": ()}])
def test_a_promotion_and_a_refusal_without_scores_need_no_prediction(
    explained: Explained, unexplained: dict[str, Any]
) -> None:
    own = decision(**unexplained)
    assert explained.of(own) == own
    assert explained.pages == []
