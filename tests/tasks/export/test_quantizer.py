"""The graph in INT8."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tasks.errors import ExportError
from tasks.export.exporter import run_graph
from tasks.export.quantizer import write_int8_graphs
from tasks.export.steps import quantize_graph
from tests.tasks.serving.graphs import constant_graph, rows

pytestmark = pytest.mark.slow

SIZE = 96


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tasks.export.exporter import write_graph
    from tests.flows.registered import make_weights

    folder = tmp_path_factory.mktemp("exported")
    return write_graph(make_weights(folder), folder / "graph", SIZE)


def squares(count: int) -> np.ndarray:
    from tests.flows.registered import pictures

    return np.stack([picture[:SIZE, :SIZE] for picture in pictures(count)])


def quantised(path: Path) -> list[str]:
    """The convolutions of which the weights are in INT8."""
    nodes = onnx.load(path).graph.node
    whole = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    return [node.name for node in nodes if node.op_type == "Conv" and node.input[1] in whole]


def test_all_convolutions_or_all_but_those_of_the_head_are_in_int8(exported: Path, tmp_path: Path) -> None:
    targets = {"int8": tmp_path / "int8.onnx", "int8-mixed": tmp_path / "mixed.onnx"}
    quantize_graph.fn(exported, list(squares(4)), targets)
    convolutions = [node.name for node in onnx.load(exported).graph.node if node.op_type == "Conv"]
    head = [name for name in convolutions if "/model.23/" in name]
    assert {*convolutions} - {*quantised(targets["int8"])} == {name for name in head if "/dfl/" in name}
    assert {*convolutions} - {*quantised(targets["int8-mixed"])} == {*head}
    shown = squares(2)
    for path in targets.values():
        assert path.stat().st_size < 0.6 * exported.stat().st_size
        assert run_graph(path, shown)["detections"].shape == run_graph(exported, shown)["detections"].shape


def test_the_same_images_give_the_same_graph(exported: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", squares(2))
    for name in ("one", "other"):
        write_int8_graphs(exported, tmp_path / "images.npy", {"int8": tmp_path / name})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_graph_without_convolutions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(constant_graph(SIZE, {"detections": rows()}))
    with pytest.raises(ExportError, match="expected convolutions to quantise for int8, found none"):
        quantize_graph.fn(tmp_path / "model.onnx", list(squares(1)), {"int8": tmp_path / "int8.onnx"})
    assert not (tmp_path / "int8.onnx").exists()
