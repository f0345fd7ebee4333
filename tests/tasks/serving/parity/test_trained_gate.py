"""What honest and wrong exports of trained models score: the figures of docs/serving.md."""

import subprocess
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from infra import demo_data
from tasks.dataset.validation_sample import unpack_sample
from tasks.export.exporter import write_graph
from tasks.export.quantizer import write_int8_graphs
from tasks.media.images import read_image
from tasks.merge.pack_sample import pack_sample
from tasks.parameters import ParityPolicy, TrainingParams
from tasks.serving.parity.rules import ParityReport, compare_predictions
from tasks.serving.parity.steps import predict_served
from tasks.serving.pre_postprocess import postprocess, preprocess
from tasks.training import steps as training_steps
from tasks.training.events import TrainedModel
from tasks.training.job import ReferencePredictionJob
from tasks.training.process import run_job
from tasks.training.trainer.prediction_metrics import evaluate_predictions
from tasks.training.trainer.reference import predict_and_score
from tasks.vision.predictions import PredictionStore
from tests.benchmarks.bench_training import merge_by_hand
from tests.paths import ROOT
from tests.tasks.export import faults
from tests.tasks.serving.parity.builders import stretched_letterbox
from tests.tasks.serving.parity.test_gate import CLASSES, Ask, Case, onnx_runtime

TRITON_PYTHON = ROOT / ".venv-triton" / "bin" / "python"
SIZE = 192

OPENVINO = """
import sys, numpy, openvino
graph, squares, answers, precision = sys.argv[1:]
model = openvino.Core().read_model(graph)
images = numpy.load(squares)
model.reshape({"images": [1, *images.shape[1:]]})
request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision}).create_infer_request()
found = [numpy.array(request.infer({"images": image[None]})[0][0]) for image in images]
numpy.save(answers, numpy.stack(found))
"""

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    return merge_by_hand([demo_data.write_archive(plan, folder) for plan in demo_data.ARCHIVES], folder / "merged")


def trained(data: Path, epochs: int, folder: Path) -> Path:
    params = TrainingParams(epochs=epochs, imgsz=SIZE, device="cpu")
    told: list[object] = []
    run_job(training_steps.training_job(data, "detect", "yolo11n.yaml", params, folder / "training"), told.extend)
    (model,) = [message for message in told if isinstance(message, TrainedModel)]
    return model.weights


def prepared(data: Path, epochs: int, folder: Path) -> Case:
    weights = trained(data, epochs, folder)
    pack_sample(data, "detect", CLASSES, folder / "sample.zip", 64)
    sample = unpack_sample(folder / "sample.zip", "detect", folder / "images")
    graph = onnx.load(write_graph(weights, folder / "export", SIZE))
    (folder / "job").mkdir()
    predict_served(sample, SIZE, onnx_runtime(graph.SerializeToString()), folder / "asked")
    reference = folder / "reference"
    job = ReferencePredictionJob(
        weights=weights,
        sample=folder / "sample.zip",
        served=(folder / "asked",),
        reference=reference,
        image_size=SIZE,
        task="detect",
        folder=folder / "job",
    )
    scores, _ = predict_and_score(job)
    return Case(folder, weights, graph, folder / "sample.zip", sample, PredictionStore(reference), scores)


def openvino(case: Case, precision: str) -> Ask:
    """All images at once; bf16 is emulated where the CPU has none, with the same numbers."""
    squares = [preprocess(read_image(image.path), "detect", SIZE)[0] for image in case.sample.images]
    np.save(case.folder / "squares.npy", np.stack(squares))
    files = [str(case.folder / name) for name in ("export/model.onnx", "squares.npy", "answers.npy")]
    subprocess.run([str(TRITON_PYTHON), "-c", OPENVINO, *files, precision], check=True)
    found = np.load(case.folder / "answers.npy")
    answers = {square.tobytes(): found[at] for at, square in enumerate(squares)}
    return lambda square: {"detections": answers[square.tobytes()]}


def stretched(case: Case, ask: Ask, name: str) -> PredictionStore:
    served = PredictionStore(case.folder / name)
    for image in case.sample.images:
        pixels = read_image(image.path)
        stretch = stretched_letterbox(pixels, SIZE)
        served.add(postprocess(ask(stretch.apply(pixels)), "detect", stretch))
    return served


def quantised(case: Case, graph: onnx.ModelProto, images: NDArray[np.uint8], precision: str = "int8") -> Ask:
    """A graph in INT8, with the ranges of these images."""
    folder = Path(tempfile.mkdtemp(dir=case.folder))
    np.save(folder / "images.npy", images)
    onnx.save(graph, folder / "model.onnx")
    write_int8_graphs(folder / "model.onnx", folder / "images.npy", {precision: folder / "int8.onnx"})
    return onnx_runtime((folder / "int8.onnx").read_bytes())


def quantised_exports(case: Case) -> Iterator[tuple[str, str, PredictionStore]]:
    """The same as `exports`, in INT8: with the ranges of wrong images, and of wrong graphs and clients."""
    shown = np.stack([preprocess(read_image(image.path), "detect", SIZE)[0] for image in case.sample.images[:32]])
    rng = np.random.default_rng(0)
    asks = {precision: quantised(case, case.graph, shown, precision) for precision in ("int8", "int8-mixed")}
    for precision, ask in asks.items():
        yield precision, "", predict_served(case.sample, SIZE, ask, case.folder / precision)
    wrong_images = {
        "noise": rng.integers(0, 256, shown.shape, np.uint8),
        "faint noise": rng.integers(110, 118, shown.shape, np.uint8),
        "grey": np.full_like(shown, 114),
        "black": np.zeros_like(shown),
        "from 0 to 1": shown // 255,
        "swapped colours": shown[..., ::-1],
    }
    for name, images in wrong_images.items():
        kind = "" if name == "swapped colours" else "wrong"  # their ranges are nearly the same
        ask = quantised(case, case.graph, np.ascontiguousarray(images))
        yield f"int8 of {name}", kind, predict_served(case.sample, SIZE, ask, case.folder / f"int8 {name}")
    for name, graph in faults.wrong_exports(case.graph, len(CLASSES)).items():
        ask = quantised(case, graph, shown, "int8-mixed")
        yield f"int8-mixed, {name}", "wrong", predict_served(case.sample, SIZE, ask, case.folder / f"mixed {name}")
    yield "int8-mixed, stretched images", "wrong", stretched(case, asks["int8-mixed"], "mixed stretched")


def judged(case: Case, served: PredictionStore) -> ParityReport:
    scores = case.scores, evaluate_predictions(served, case.sample)
    return compare_predictions(case.reference, served, case.sample, scores, ParityPolicy())


def exports(case: Case) -> Iterator[tuple[str, str, PredictionStore]]:
    """Name, what the gate must say (`honest`, `wrong`, or `` where it may), and what is found."""
    for precision in ("f32", "bf16"):
        ask = openvino(case, precision)
        yield f"honest {precision}", "honest", predict_served(case.sample, SIZE, ask, case.folder / precision)
    yield "stretched images", "wrong", stretched(case, onnx_runtime(case.graph.SerializeToString()), "stretched")
    kinds = (faults.wrong_exports(case.graph, len(CLASSES)), "wrong"), (faults.slightly_wrong_exports(case.graph), "")
    for graphs, kind in kinds:
        for name, graph in graphs.items():
            ask = onnx_runtime(graph.SerializeToString())
            yield name, kind, predict_served(case.sample, SIZE, ask, case.folder / name)


@pytest.mark.parametrize("epochs", [12])
def test_honest_exports_pass_and_wrong_ones_do_not(data: Path, epochs: int, tmp_path: Path) -> None:
    case, wrong = prepared(data, epochs, tmp_path), []
    print(f"\n{epochs} epochs: mAP50-95 {case.scores.metrics['mAP50-95']:.3f}")
    for name, kind, served in chain(exports(case), quantised_exports(case)):
        parity = judged(case, served)
        verdict = "passed" if parity.passed else "stopped"
        print(f"| {name} | {parity.confidence:.3f} | {parity.agreement:.3f} | {parity.map_drop:+.4f} | {verdict} |")
        if kind and parity.passed is not (kind == "honest"):
            wrong.append(name)
    assert not wrong
