"""What becomes a served graph, what is refused, and what is left behind; test_served_graph.py has the answers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from ultralytics.models import RTDETR, YOLO

from tasks.errors import ExportError
from tasks.export import steps
from tasks.export.exporter import write_graph
from tasks.export.steps import export_onnx
from tasks.weights.loader import WeightsError
from tests.paths import ROOT

pytestmark = pytest.mark.slow

SIZE = 64


def weights(folder: Path, architecture: str) -> Path:
    model: Any = (RTDETR if architecture.startswith("rtdetr") else YOLO)(architecture)
    path = folder / "weights.pt"
    model.save(path)
    return path


def ask(graph: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(["detections"], {"images": images})[0]
    return answer


def test_nothing_but_the_graph_is_left(tmp_path: Path) -> None:
    given = weights(tmp_path, "yolo11n.yaml")
    graph = write_graph(given, tmp_path / "out", SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "weights.pt"]
    assert [path.name for path in graph.parent.iterdir()] == ["model.onnx"]


def test_an_image_without_detections_is_all_zeros(tmp_path: Path) -> None:
    model: Any = YOLO("yolo11n.yaml")
    for scores in model.model.model[-1].cv3:
        scores[-1].bias.data.fill_(-50)
    model.save(tmp_path / "blind.pt")
    graph = write_graph(tmp_path / "blind.pt", tmp_path, SIZE)
    assert not ask(graph, np.full((3, SIZE, SIZE, 3), 200, np.uint8)).any()


@pytest.mark.parametrize(
    ("architecture", "found"),
    [
        ("yolo26n-sem.yaml", "found task 'semantic' with head SemanticSegment"),
        ("yolo26n-depth.yaml", "found task 'depth' with head Depth"),
        ("yolov8n-world.yaml", "found task 'detect' with head WorldDetect"),
        ("yoloe-11n-seg.yaml", "found task 'segment' with head YOLOESegment"),
        ("rtdetr-resnet50.yaml", "found task 'detect' with head RTDETRDecoder"),
    ],
)
def test_models_that_are_not_served_are_refused(tmp_path: Path, architecture: str, found: str) -> None:
    with pytest.raises(WeightsError, match=f"one of detect, segment, pose, obb, classify, {found}"):
        write_graph(weights(tmp_path, architecture), tmp_path / "out", SIZE)


def test_a_model_for_other_channels_is_refused(tmp_path: Path) -> None:
    model: Any = YOLO("yolo11n.yaml")
    model.model.yaml["channels"] = 4
    model.save(tmp_path / "multispectral.pt")
    with pytest.raises(WeightsError, match="images of 3 channels, found 4"):
        write_graph(tmp_path / "multispectral.pt", tmp_path / "out", SIZE)


@pytest.mark.parametrize("architecture", ["yolo11n.yaml", "yolo11n-cls.yaml"])
def test_an_image_size_off_the_stride_is_refused_and_leaves_nothing(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(ExportError, match="image size 100: expected a multiple of 32"):
        write_graph(weights(tmp_path, architecture), tmp_path / "out", 100)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="Expected weights that Ultralytics can load"):
        write_graph(tmp_path / "bad.pt", tmp_path / "out", SIZE)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """Ultralytics itself would try to download them."""
    with pytest.raises(ExportError, match=r"expected an Ultralytics .pt file, found .*yolo11n.pt"):
        write_graph(tmp_path / "yolo11n.pt", tmp_path / "out", SIZE)


def test_an_earlier_graph_stays_until_the_new_one_has_answered(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    with pytest.raises(WeightsError):
        write_graph(weights(tmp_path, "yolo26n-sem.yaml"), tmp_path, SIZE)
    assert (tmp_path / "model.onnx").read_bytes() == b"earlier"


def test_a_flow_exports_in_another_process(tmp_path: Path) -> None:
    graph = export_onnx.fn(weights(tmp_path, "yolo11n-cls.yaml"), tmp_path / "export", SIZE)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores"]


def test_an_export_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LONGEST_S", 0.1)
    with pytest.raises(ExportError, match=r"expected to export endless.pt to ONNX within 0.1 s, found no end"):
        export_onnx.fn(tmp_path / "endless.pt", tmp_path, SIZE)


GREEDY = """
import sys, types
from tasks.export import __main__ as export

write_graph = lambda *_: bytearray(export.MAX_MEMORY_BYTES)
sys.modules["tasks.export.exporter"] = types.SimpleNamespace(write_graph=write_graph)
export.main("graph", "weights.pt", ".", "64", *sys.argv[1:])
"""


def test_an_export_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    refusal = tmp_path / "refusal.txt"
    subprocess.run([sys.executable, "-c", GREEDY, str(refusal), str(os.getpid())], check=True, cwd=ROOT)
    assert "Expected a model whose export takes at most" in refusal.read_text()
