"""Trained weights become a graph of the serving contract that answers as Ultralytics does."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from ultralytics.models import YOLO
from ultralytics.utils import ASSETS

from tasks.export import ExportError, export_onnx

COCO = Path(__file__).parents[2].parent / "shared" / "data" / "yolo11n-coco.pt"
SIZE = 64


def weights(folder: Path, architecture: str, *, fused: bool = False) -> Path:
    model: Any = YOLO(architecture)
    if fused:
        model.model.end2end = True
        model.model.fuse()
    path = folder / "weights.pt"
    model.save(path)
    return path


def ask(graph: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(["detections"], {"images": images})[0]
    return answer


@pytest.mark.parametrize(
    ("architecture", "fused"),
    [("yolo11n.yaml", False), ("yolov10n.yaml", False), ("yolo26n.yaml", False), ("yolo26n.yaml", True)],
)
def test_every_kind_of_head_gives_the_same_contract(tmp_path: Path, architecture: str, fused: bool) -> None:
    """Heads with NMS, and heads that were fused down to the branch that needs none."""
    given = weights(tmp_path, architecture, fused=fused)
    graph = export_onnx.fn(given, tmp_path / "out", SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "weights.pt"]
    assert [path.name for path in graph.parent.iterdir()] == ["model.onnx"]
    for count in (1, 3):
        found = ask(graph, np.zeros((count, SIZE, SIZE, 3), np.uint8))
        assert found.shape == (count, 300, 6)
        assert found.dtype == np.float32
        assert not found[found[..., 4] == 0].any()


def test_an_image_without_detections_is_all_zeros(tmp_path: Path) -> None:
    model: Any = YOLO("yolo11n.yaml")
    for scores in model.model.model[-1].cv3:
        scores[-1].bias.data.fill_(-50)
    model.save(tmp_path / "blind.pt")
    graph = export_onnx.fn(tmp_path / "blind.pt", tmp_path, SIZE)
    assert not ask(graph, np.full((3, SIZE, SIZE, 3), 200, np.uint8)).any()


@pytest.mark.skipif(not COCO.exists(), reason=f"needs {COCO}")
def test_the_graph_finds_what_ultralytics_finds(tmp_path: Path) -> None:
    """Also with an empty image before and after it, which an unrolled NMS gets wrong."""
    photo: Any = cv2.imread(str(ASSETS / "bus.jpg"))
    bgr = cv2.resize(photo, (640, 640))
    model: Any = YOLO(str(COCO))
    expected = model(bgr, imgsz=640, conf=0.05, iou=0.7, device="cpu", verbose=False)[0].boxes.data.numpy()
    image = np.ascontiguousarray(bgr[None, ..., ::-1]).astype(np.uint8)
    graph = export_onnx.fn(COCO, tmp_path, 640)
    alone = ask(graph, image)[0]
    between = ask(graph, np.concatenate([np.zeros_like(image), image, np.zeros_like(image)]))[1]
    for found in (alone, between):
        kept = found[found[:, 4] > 0.05]
        kept[:, :4] = kept[:, :4].clip(0, 640)  # as Ultralytics does afterwards
        np.testing.assert_allclose(kept, expected, atol=0.05)
    assert {5, 0} <= set(expected[:, 5])


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected a detection model, found task 'segment'"):
        export_onnx.fn(weights(tmp_path, "yolo11n-seg.yaml"), tmp_path / "out", SIZE)


def test_an_image_size_off_the_stride_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="image size 100: expected a multiple of 32"):
        export_onnx.fn(weights(tmp_path, "yolo11n.yaml"), tmp_path / "out", 100)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(ExportError, match="expected weights that Ultralytics can load"):
        export_onnx.fn(tmp_path / "bad.pt", tmp_path / "out", SIZE)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """Ultralytics itself would try to download them."""
    with pytest.raises(ExportError, match=r"expected an Ultralytics .pt file, found .*yolo11n.pt"):
        export_onnx.fn(tmp_path / "yolo11n.pt", tmp_path / "out", SIZE)


def test_an_earlier_graph_stays_until_the_new_one_has_answered(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    with pytest.raises(ExportError):
        export_onnx.fn(weights(tmp_path, "yolo11n-seg.yaml"), tmp_path, SIZE)
    assert (tmp_path / "model.onnx").read_bytes() == b"earlier"
