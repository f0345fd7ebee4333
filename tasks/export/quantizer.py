"""The served graph with its convolutions in INT8, by ONNX Runtime's static quantisation."""

import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tasks.errors import ExportError
from tasks.export.exporter import run_graph
from tasks.export.served_graph import OPSET
from tasks.files import write_atomically

# As Ultralytics names the nodes of module 23 of a network: its last module is the head.
_MODULE = re.compile(r"/model\.(\d+)/")
_INTEGRAL = "/dfl/"  # of the distribution of each side of a box, with weights 0 to 15: no layer that was learnt


def write_int8_graphs(graph: Path, images: Path, targets: Mapping[str, Path]) -> None:
    """Write the graph with its convolutions in INT8 to `targets`: of `int8` all, of `int8-mixed` all but the head's.

    Weights have a scale a channel, activations one a tensor: the range of `images`, a NumPy file of uint8 [n,S,S,3].
    Each quantised tensor passes a QuantizeLinear and a DequantizeLinear, which OpenVINO, ONNX Runtime and TensorRT
    fuse. Each file appears whole, after it has run in ONNX Runtime.

    Raises:
        ExportError: The graph has nothing to quantise, or does not run any more.
    """
    squares = np.load(images, allow_pickle=False)
    model = _named(onnx.load(graph))
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv" and _INTEGRAL not in node.name]
    with tempfile.TemporaryDirectory(prefix="calibrating-", dir=images.parent) as scratch:
        named = Path(scratch) / "model.onnx"  # a file: the quantiser moves the numbers of a model in memory elsewhere
        onnx.save(model, named)
        for precision, target in targets.items():
            chosen = convolutions if precision == "int8" else _without_head(convolutions)
            if not chosen:
                raise ExportError(f"expected convolutions to quantise for {precision}, found none: serve it in f32")
            with write_atomically(target) as unfinished:
                quantize_static(
                    named,
                    unfinished,
                    _Images(squares),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    op_types_to_quantize=["Conv"],
                    nodes_to_quantize=chosen,
                    calibration_cache_path=Path(scratch) / "ranges.json",
                )
                _require_runs(unfinished, squares[:1])


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with one version of the operators, and a name for each node, by which the quantiser knows them."""
    del model.opset_import[:]
    model.opset_import.add(domain="", version=OPSET)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node-{number}"
    return model


def _without_head(convolutions: Collection[str]) -> list[str]:
    modules = {name: int(found[1]) for name in convolutions if (found := _MODULE.search(name))}
    head = max(modules.values(), default=0)
    return [name for name in convolutions if modules.get(name, head) != head]


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, squares: NDArray[np.uint8]) -> None:
        self._left: Iterator[NDArray[np.uint8]] = iter(squares)

    def get_next(self) -> dict[str, Any] | None:
        square = next(self._left, None)
        return None if square is None else {"images": square[None]}


def _require_runs(graph: Path, squares: NDArray[np.uint8]) -> None:
    try:
        outputs = run_graph(graph, squares)
    except Exception as error:
        raise ExportError(f"the graph in INT8 does not run in ONNX Runtime: {error}") from error
    if not all(np.isfinite(output).all() for output in outputs.values()):
        raise ExportError("expected finite numbers of the graph in INT8, found others: serve it in f32")
