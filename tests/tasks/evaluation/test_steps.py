"""What is predicted is kept for the pixels that it was predicted in."""

from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from tasks.evaluation import steps
from tasks.tracking.registry import ModelVersion
from tasks.training.job import PredictionJob
from tests.tasks.evaluation.test_version_evaluation import CLASSES, unpacked


def test_predictions_in_images_that_were_replaced_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = unpacked(tmp_path, "detect")
    version = ModelVersion(name="m", version=7, run_id="", task="detect", image_size=64, class_names=CLASSES)
    places: list[str] = []

    def keep(job: PredictionJob, prefix: str) -> steps.Predictions:
        places.append(prefix)
        return steps.Predictions(job.predictions)

    monkeypatch.setattr(steps, "predict_images", keep)
    monkeypatch.setattr(steps, "flow_run_id", lambda: "run")
    with disable_run_logger():
        for attempt in ("first", "again", "replaced"):
            if attempt == "replaced":
                data.images[1].path.write_bytes(data.images[0].path.read_bytes())
            steps.predict(data, version, tmp_path / "w.pt", "cpu", "predictions", tmp_path / attempt)
    first, again, replaced = places
    assert first == again
    assert first.startswith("run/predictions/version-7-")
    assert replaced != first
