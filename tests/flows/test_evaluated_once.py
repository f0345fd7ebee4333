"""A version is measured once on the same images: the next run takes its scores."""

from pathlib import Path

import pytest
from prefect import flow

from tasks.parameters import TrainingParams
from tasks.training import steps
from tasks.training.job import EvaluationTarget
from tasks.vision.geometry import Letterbox
from tasks.vision.metrics import Scores
from tests.flows.registered import pictures
from tests.tasks.export.finders import finder
from tests.tasks.merge.archives import dataset, merge

pytestmark = pytest.mark.usefixtures("stack")
SIZE = 64
CPU = TrainingParams(device="cpu", batch=4)


def test_a_second_run_evaluates_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged = merge(tmp_path, dataset(0))[1]
    shown = [Letterbox.fit(image.shape[1], image.shape[0], SIZE).apply(image) for image in pictures(4)]
    weights = finder(tmp_path, "yolo11n", shown, len(merged.class_names))
    target = EvaluationTarget(weights=weights, data=merged.data, image_size=SIZE)
    evaluated: list[EvaluationTarget] = []
    measure = steps.evaluate.fn

    def count(targets: list[EvaluationTarget], *others: object) -> list[Scores]:
        evaluated.extend(targets)
        return measure(targets, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(steps.evaluate, "fn", count)

    @flow
    def measured() -> Scores:
        return steps.evaluate_once(target, "detect", CPU, tmp_path)

    first = measured()
    assert measured() == first
    assert len(evaluated) == 1
    label = next((merged.data.parent / "labels" / "val").glob("*.txt"))
    label.write_text(label.read_text() + "0 0.5 0.5 0.2 0.2\n")
    (merged.data.parent / "written.json").unlink()  # else the row is reported as one too many
    assert measured().images == first.images
    assert len(evaluated) == 2
