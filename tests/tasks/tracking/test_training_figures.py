"""Which metrics of a training become figures; MLflow is made up here, because no training logs 5,000 names."""

import importlib.util
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.tracking import training_figures
from tasks.tracking.training_figures import LOSSES


def read(monkeypatch: pytest.MonkeyPatch, metrics: Mapping[str, float]) -> training_figures.TrainingFigures:
    logged = [SimpleNamespace(key=key, value=value, step=3, timestamp=4000) for key, value in metrics.items()]
    run = SimpleNamespace(data=SimpleNamespace(_metric_objs=logged, tags={"flow_run_id": "a-run"}))
    monkeypatch.setattr(training_figures, "search_runs", lambda *_: [run])
    (found,) = training_figures.list_trainings(datetime.now(UTC))
    return found


def test_names_that_somebody_logs_make_no_losses_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {f"{split}/a{number}_loss": 1.0 for split in ("train", "val") for number in range(2500)}
    known = {"train/box_loss": 0.5, "val/loss": 0.25, "metrics/mAP50": 0.75}
    found = read(monkeypatch, metrics | known)
    assert found.losses == {("train", "box_loss"): 0.5, ("val", "loss"): 0.25}
    assert found.scores == {"mAP50": 0.75}


def test_every_part_of_the_losses_of_ultralytics_is_known() -> None:
    found = importlib.util.find_spec("ultralytics")
    assert found is not None
    assert found.origin is not None
    sources = [Path(found.origin).parent / name for name in ("utils/loss.py", "nn/tasks.py")]
    named = {name for source in sources for name in re.findall(r'"(\w+_loss)"', source.read_text())}
    assert len(named) > 10
    assert named <= {*LOSSES}
