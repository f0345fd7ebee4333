"""The page of a training: curves first, its worst pictures, links; hostile names stay text."""

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.media.images import write_jpeg
from tasks.parameters import TrainingParams
from tasks.promotion.rules import Decision
from tasks.rendering.links import UiLinks, links_markdown
from tasks.settings import Settings
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.report.curves import charts
from tasks.training.report.html import training_page
from tasks.training.report.worst_images import FOLDER, LISTING, WorstImage
from tasks.vision.metrics import PRIMARY_METRIC, Scores

HOSTILE = "</script><img src=x onerror=alert(1)>"
SET = TrainingParams.model_validate({"overrides": {"lrf": 0.1, "rect": True}})


def epoch(number: int, **metrics: float) -> EpochResult:
    values = {"train/box_loss": 2.0 / number, "val/box_loss": 3.0 / number, "metrics/mAP50": number / 10, **metrics}
    return EpochResult(
        number=number, total_epochs=4, metrics={name.replace("__", "/"): value for name, value in values.items()}
    )


def test_curves_begin_with_what_is_learned_and_pair_the_losses() -> None:
    found = charts([epoch(1), epoch(2), epoch(4), epoch(3), epoch(2, metrics__mAP50=0.9)], best_epoch=3)
    assert [chart.title for chart in found] == ["Quality on validation", "box_loss"]
    quality, loss = found
    assert [line.name for line in loss.lines] == ["train", "val"]
    assert quality.lines[0].path == "M0.0 171.0L140.0 19.0L280.0 133.0L420.0 114.0"
    assert (quality.lines[0].at_best, quality.best, loss.high) == (0.3, 280.0, 3.0)


def test_curves_leave_out_what_is_no_number() -> None:
    broken = epoch(2, metrics__mAP50=float("nan"), val__box_loss=float("inf"))
    assert "nan" not in str([line.path for chart in charts([epoch(1), broken], 1) for line in chart.lines])
    assert charts([], 0) == []
    assert charts([epoch(1)], 1)[0].lines[0].path == "M0.0 171.0"


@pytest.mark.parametrize("pictures", [True, False])
def test_the_page_shows_curves_pictures_reasons_and_links(tmp_path: Path, pictures: bool) -> None:
    if pictures:
        write_jpeg(tmp_path / FOLDER / "0.jpg", np.full((20, 30, 3), 99, np.uint8))
        listed = [WorstImage(HOSTILE, 3, 2, "0.jpg", "0.jpg", "", "")._asdict()]
        (tmp_path / FOLDER / LISTING).write_text(json.dumps(listed))
    scores = Scores(task="detect", metrics={PRIMARY_METRIC["detect"]: 0.5}, classes={HOSTILE: {"mAP50": 0.5}}, images=4)
    model = TrainedModel(
        weights=Path("w.pt"),
        folder=tmp_path,
        task="detect",
        class_names=(HOSTILE,),
        scores=scores,
        epochs=4,
        best_epoch=3,
        batch=8,
    )
    decision = Decision(version=2, promoted=False, reasons=(HOSTILE,), metric="mAP50-95")
    page = training_page("m version 2", model, [epoch(1), epoch(2)], decision, {"Run in MLflow": "http://x/#/r"}, SET)
    assert "Overrides: rect True, lrf 0.1." in page
    assert "<img src=x" not in page
    assert page.index('id="curves"') < page.index('id="worst"') < page.index("Why it is refused")
    assert page.count("data:image/jpeg;base64") == (2 if pictures else 0)
    assert ("3 missed, 2 too many" in page) is pictures
    assert '<a href="http://x/#/r"' in page
    assert '<ul class="panel reasons">' in page


def test_pages_are_linked_by_the_addresses_that_browsers_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_UI_URL", "MLFLOW_UI_URL", "STUDIO_LIVE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    assert Settings().addresses == UiLinks(
        prefect="http://prefect:4200", mlflow="http://mlflow:5000", live="http://127.0.0.1:8003/live"
    )
    monkeypatch.setenv("PREFECT_UI_URL", "https://studio.example/prefect/")
    monkeypatch.setenv("MLFLOW_UI_URL", "https://studio.example/mlflow")
    monkeypatch.setenv("STUDIO_LIVE_URL", "https://studio.example/live")
    places = Settings().addresses
    assert places.flow_run("a-b") == "https://studio.example/prefect/runs/flow-run/a-b"
    assert (
        places.tracked_run("1", "r")
        == "https://studio.example/mlflow/#/experiments/1/runs/r?workflowType=machine_learning"
    )
    assert (
        places.model_version("m", 2)
        == "https://studio.example/mlflow/#/models/m/versions/2?workflowType=machine_learning"
    )
    assert links_markdown({"a|b": "http://x", "c": "http://y"}) == "[a\\|b](http://x) · [c](http://y)"
