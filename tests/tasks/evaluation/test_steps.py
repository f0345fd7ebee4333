"""Images are corrupted, and what is predicted is kept for the pixels that it was predicted in."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from tasks.errors import StudioError
from tasks.evaluation import steps
from tasks.tracking.registry import ModelVersion
from tasks.training.job import PredictionJob
from tests.tasks.evaluation.test_version_evaluation import CLASSES, unpacked


def test_predictions_of_other_weights_or_in_other_images_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = unpacked(tmp_path, "detect")
    version = ModelVersion(name="m", version=7, run_id="", task="detect", image_size=64, class_names=CLASSES)
    places: list[str] = []
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"trained")

    def keep(job: PredictionJob, prefix: str) -> steps.Predictions:
        places.append(prefix)
        return steps.Predictions(job.predictions)

    monkeypatch.setattr(steps, "predict_images", keep)
    monkeypatch.setattr(steps, "flow_run_id", lambda: "run")
    with disable_run_logger():
        for attempt in ("first", "again", "replaced", "retrained"):
            if attempt == "replaced":
                data.images[1].path.write_bytes(data.images[0].path.read_bytes())
            if attempt == "retrained":
                weights.write_bytes(b"trained anew")
            steps.predict(data, version, weights, "cpu", "predictions", tmp_path / attempt)
    first, again, replaced, retrained = places
    assert first == again
    assert first.startswith("run/predictions/version-7-")
    assert len({first, replaced, retrained}) == 3


class Workers:
    """A pool without processes; `killed` is one whose processes the system ends."""

    def __init__(self, *, killed: bool) -> None:
        self.killed = killed
        self.count = 0

    def __call__(self, count: int, **_: object) -> nullcontext["Workers"]:
        self.count = count
        return nullcontext(self)

    def map(self, function: Callable[[Any], None], files: Sequence[Any], chunksize: int) -> Iterator[None]:
        if self.killed:
            raise BrokenProcessPool("terminated abruptly")
        return map(function, files[:chunksize])


@pytest.mark.parametrize(("fault", "told"), [("killed", "memory"), ("damaged", "picture"), ("full", "disk left")])
def test_images_that_cannot_be_corrupted_end_a_run_with_words(
    fault: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = unpacked(tmp_path, "detect", images=2)
    workers = Workers(killed=fault == "killed")
    monkeypatch.setattr(steps, "ProcessPoolExecutor", workers)
    monkeypatch.setattr(steps, "RunProgress", lambda _: print)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    if fault == "damaged":
        data.images[0].path.write_bytes(b"no image")
    if fault == "full":
        monkeypatch.setattr("cv2.imwrite", lambda *_: False)
    with disable_run_logger(), pytest.raises(StudioError, match=told):
        steps.corrupt_images.fn(data, 2, 64, 1, tmp_path / "corrupted")
    assert workers.count == 4
