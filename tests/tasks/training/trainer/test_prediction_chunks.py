"""A version predicts chunk by chunk, with all its masks, and goes on after what was predicted."""

from pathlib import Path

import numpy as np
import pytest

from tasks.evaluation import steps
from tasks.evaluation.prediction_file import read_predictions
from tasks.training.job import PredictedChunk
from tasks.training.trainer.reference import predict_chunks
from tests.tasks.evaluation.test_version_evaluation import SIDE, unpacked
from tests.tasks.export.finders import finder

pytestmark = pytest.mark.slow


def test_a_killed_prediction_goes_on_after_its_last_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "CHUNK", 3)
    data = unpacked(tmp_path, "segment", images=8)
    drawn = [np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(8)]
    weights = finder(tmp_path, "yolo11n-seg", drawn, classes=2)
    job = steps.prediction_job(data, weights, "segment", 2 * SIDE, "cpu", tmp_path / "found")
    job.predictions[1].write_bytes(b"kept")
    assert list(predict_chunks(job)) == [PredictedChunk(number=0, images=3), PredictedChunk(number=2, images=2)]
    assert job.predictions[1].read_bytes() == b"kept"
    found = list(read_predictions(job.predictions[2]))
    assert [(each.width, each.height) for each in found] == [(SIDE, SIDE)] * 2
    for each in found:
        assert each.mask is not None
        assert len(each.mask) == len(each) > 100
