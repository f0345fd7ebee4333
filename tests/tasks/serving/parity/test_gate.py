"""Honest exports pass the gate, and each wrong one is stopped, whatever the task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from infra.demo_data import draw_image
from tasks.dataset.validation_sample import ValidationSample, unpack_sample
from tasks.export.exporter import write_graph
from tasks.media.images import read_image
from tasks.merge.pack_sample import pack_sample
from tasks.parameters import ParityPolicy
from tasks.serving.parity.rules import ParityReport, compare_predictions
from tasks.serving.parity.steps import predict_served
from tasks.serving.pre_postprocess import postprocess
from tasks.training import steps as training_steps
from tasks.training.attempts import TrainingError
from tasks.training.base_models import FAMILIES, task_of
from tasks.training.job import ReferencePredictionJob
from tasks.training.trainer.prediction_metrics import evaluate_predictions
from tasks.training.trainer.reference import predict_and_score
from tasks.vision.geometry import Floats, Rgb
from tasks.vision.metrics import Scores
from tasks.vision.predictions import PredictionStore
from tests.tasks.export import faults
from tests.tasks.export.finders import finder
from tests.tasks.serving.parity.builders import stretched_letterbox

pytestmark = pytest.mark.slow

SIZE = 96
IMAGES = 8
# Random heads give many boxes the score 1, and of equal ones NMS may keep either.
POLICY = ParityPolicy(min_agreement=0.95)
CLASSES = ("circle", "square", "triangle", "cross")
ARCHITECTURES = {
    "detect": "yolo11n",
    "segment": "yolo11n-seg",
    "pose": "yolo11n-pose",
    "obb": "yolo11n-obb",
    "classify": "yolo11n-cls",
}
MODELS = [example for family in FAMILIES for example in family.examples]
LABELS = {
    "detect": "1 0.5 0.5 0.4 0.4\n",
    "segment": "1 0.3 0.3 0.7 0.3 0.5 0.7\n",
    "pose": "1 0.5 0.5 0.4 0.4" + " 0.5 0.5 2" * 17 + "\n",
    "obb": "1 0.5 0.3 0.7 0.5 0.5 0.7 0.3 0.5\n",
}

# The others take as long again each, and go the same way: `make proof`.
ORDINARY = ("detect", "pose")

Ask = Callable[[Rgb], Mapping[str, Floats]]


def write_dataset(folder: Path, task: str) -> Path:
    """Drawn shapes as `write_merge` leaves them; the labels are not what is drawn, as nobody has learned them."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        place = folder / ("val/1" if task == "classify" else "images/val")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02d}.jpg").write_bytes(draw_image(rng, CLASSES)[0])
        if task != "classify":
            (folder / "labels" / "val").mkdir(parents=True, exist_ok=True)
            (folder / "labels" / "val" / f"{number:02d}.txt").write_text(LABELS[task])
    (folder / "data.yaml").write_text(yaml.safe_dump({"kpt_shape": [17, 3]} if task == "pose" else {}))
    return folder if task == "classify" else folder / "data.yaml"


def onnx_runtime(graph: bytes) -> Ask:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def ask(square: Rgb) -> Mapping[str, Floats]:
        return {
            name: values[0] for name, values in zip(names, session.run(names, {"images": square[None]}), strict=True)
        }

    return ask


@dataclass(frozen=True)
class Case:
    """Weights that find things, their honest export, and what they find in the sample."""

    folder: Path
    weights: Path
    graph: onnx.ModelProto
    zip: Path
    sample: ValidationSample
    reference: PredictionStore
    scores: Scores
    size: int = SIZE

    def parity(self, served: PredictionStore) -> ParityReport:
        scores = self.scores, evaluate_predictions(served, self.sample)
        return compare_predictions(self.reference, served, self.sample, scores, POLICY)

    def served_by(self, graph: onnx.ModelProto, name: str) -> ParityReport:
        return self.parity(
            predict_served(self.sample, self.size, onnx_runtime(graph.SerializeToString()), self.folder / name)
        )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """The case of a task, made once."""
    return cache(lambda task: prepare(task, tmp_path_factory.mktemp(task)))


@pytest.fixture(
    scope="module",
    params=[pytest.param(task, marks=() if task in ORDINARY else pytest.mark.heavy) for task in ARCHITECTURES],
)
def case(request: pytest.FixtureRequest, prepared: Callable[[str], Case]) -> Case:
    return prepared(request.param)


def prepare(task: str, folder: Path, architecture: str = "", size: int = SIZE) -> Case:
    data = write_dataset(folder / "data", task)
    pack_sample(data, task, CLASSES, folder / "sample.zip", IMAGES)
    sample = unpack_sample(folder / "sample.zip", task, folder / "images")
    squares = [cv2.resize(read_image(image.path), (size, size)).astype(np.uint8) for image in sample.images[:8]]
    weights = finder(folder, architecture or ARCHITECTURES[task], squares, len(CLASSES))
    graph = onnx.load(write_graph(weights, folder / "export", size))
    (folder / "job").mkdir()
    predict_served(sample, size, onnx_runtime(graph.SerializeToString()), folder / "asked")
    job = ReferencePredictionJob(
        weights=weights,
        sample=folder / "sample.zip",
        served=(folder / "asked",),
        reference=folder / "reference",
        image_size=size,
        task=task,
        folder=folder / "job",
    )
    scores, _ = predict_and_score(job)
    return Case(folder, weights, graph, folder / "sample.zip", sample, PredictionStore(job.reference), scores, size)


@pytest.mark.heavy
@pytest.mark.parametrize("architecture", MODELS)
def test_every_model_that_can_be_trained_agrees(architecture: str, tmp_path: Path) -> None:
    case = prepare(task_of(architecture), tmp_path, architecture, size=192)
    parity = case.served_by(case.graph, "honest")
    assert parity.passed, parity.reasons


def test_an_honest_export_agrees(case: Case) -> None:
    parity = case.served_by(case.graph, "honest")
    assert parity.passed, parity.reasons
    assert parity.compared >= IMAGES


def test_each_wrong_export_is_stopped(case: Case) -> None:
    for name, graph in faults.wrong_exports(case.graph, len(CLASSES)).items():
        parity = case.served_by(graph, name)
        assert not parity.passed, name


def test_stretched_images_are_stopped(case: Case) -> None:
    """A client that resizes to the square where the model was trained on letterboxed images, or on their centre."""
    ask, served = onnx_runtime(case.graph.SerializeToString()), PredictionStore(case.folder / "stretched")
    for image in case.sample.images:
        pixels = read_image(image.path)
        stretch = stretched_letterbox(pixels, SIZE)
        served.add(postprocess(ask(stretch.apply(pixels)), case.sample.task, stretch))
    assert not case.parity(served).passed


def test_weights_that_cannot_predict_say_why(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", "detect")
    pack_sample(data, "detect", CLASSES, tmp_path / "sample.zip", 2)
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match=r"bad\.pt gave no predictions for comparison: "):
        training_steps.predict_reference.fn(
            tmp_path / "bad.pt", tmp_path / "sample.zip", [tmp_path], "detect", SIZE, tmp_path
        )
