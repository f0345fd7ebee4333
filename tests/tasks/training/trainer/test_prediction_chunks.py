"""A version predicts chunk by chunk, with all its masks, and goes on after what was predicted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.evaluation import steps
from tasks.evaluation.prediction_file import read_embeddings, read_predictions
from tasks.training.base_models import SUFFIXES
from tasks.training.job import PredictedChunk, PredictionJob
from tasks.training.trainer.reference import predict_chunks
from tasks.vision.views import View
from tests.tasks.evaluation.test_version_evaluation import SIDE, unpacked
from tests.tasks.export.finders import finder

pytestmark = pytest.mark.slow


def test_a_killed_prediction_goes_on_after_its_last_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "CHUNK", 3)
    data = unpacked(tmp_path, "segment", images=8)
    drawn = [np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(8)]
    weights = finder(tmp_path, "yolo11n-seg", drawn, classes=2)
    paths = [image.path for image in data.images]
    job = steps.prediction_job(paths, weights, "segment", 2 * SIDE, "cpu", tmp_path / "found")
    job.predictions[1].write_bytes(b"kept")
    assert list(predict_chunks(job)) == [PredictedChunk(number=0, images=3), PredictedChunk(number=2, images=2)]
    assert job.predictions[1].read_bytes() == b"kept"
    found = list(read_predictions(job.predictions[2]))
    assert [(each.width, each.height) for each in found] == [(SIDE, SIDE)] * 2
    for each in found:
        assert each.mask is not None
        assert len(each.mask) == len(each) > 100


@pytest.mark.parametrize("task", SUFFIXES)
def test_views_and_embeddings_come_with_the_detections(task: str, tmp_path: Path) -> None:
    """A mirrored copy has nearly the embedding of its image, and its mirrored view finds what the image shows."""
    drawn = [np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(2)]
    files = []
    for number, image in enumerate([drawn[0], drawn[0][:, ::-1], drawn[1]]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(files[-1])
    weights = finder(tmp_path, f"yolo11n{SUFFIXES[task]}", drawn, classes=2)
    plain = PredictionJob(
        weights=weights,
        task=task,
        image_size=2 * SIDE,
        chunks=(tuple(files),),
        predictions=(tmp_path / "plain.zip",),
        folder=tmp_path,
        device="cpu",
    )
    job = replace(
        plain, predictions=(tmp_path / "views.zip",), views=tuple(View), embeddings=(tmp_path / "embeddings.npy",)
    )
    job.predictions[0].write_bytes(b"of a run that was killed before its embeddings")
    assert [*predict_chunks(plain), *predict_chunks(job)] == [PredictedChunk(number=0, images=3)] * 2
    one, mirrored, other = embeddings = read_embeddings(job.embeddings)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx([1, 1, 1], abs=1e-3)
    assert one @ mirrored > one @ other
    expected, found = list(read_predictions(plain.predictions[0])), list(read_predictions(job.predictions[0]))
    assert len(found) == len(View) * len(files)
    for place, each in enumerate(expected):
        view = found[len(View) * place]
        assert view.mask is None
        if task == "classify":
            assert view.class_scores == pytest.approx(each.class_scores, abs=1e-4)
        else:
            assert view.confidence[:50] == pytest.approx(each.confidence[:50], abs=1e-3)
            assert view.xyxy[0] == pytest.approx(each.xyxy[0], abs=0.5)
    # The mirrored view of the mirrored copy is the image again, and its boxes lie mirrored in the copy.
    shown, back = found[0], found[len(View) + 1]
    if task == "classify":
        assert back.class_scores == pytest.approx(shown.class_scores, abs=1e-4)
    else:
        assert back.confidence[:50] == pytest.approx(shown.confidence[:50], abs=1e-3)
        left, top, right, bottom = shown.xyxy[0]
        assert back.xyxy[0] == pytest.approx([SIDE - right, top, SIDE - left, bottom], abs=0.5)
