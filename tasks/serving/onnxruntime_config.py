"""The options of Triton's ONNX Runtime backend: fixed shapes, TensorRT on a GPU, and images to warm up with.

The names of the options are those of github.com/triton-inference-server/onnxruntime_backend (README, "ONNX Runtime with
TensorRT optimization").
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tasks.parameters import ServingParams
from tasks.serving.served_model import PRECISION_GRAPHS, ServedModel

Value = TypeVar("Value", int, str)

_PRECISION_MODES = {"f32": "FP32", "f16": "FP16", "int8": "INT8", "int8-mixed": "INT8"}
# What comes after the NMS takes as many rows as there are detections, and TensorRT builds an engine anew for more rows
# than it has seen: that part, under 20 nodes beside hundreds, is left to CUDA.
_MIN_SUBGRAPH_NODES = 50


def to_onnxruntime_config(
    config: Mapping[str, Any], models: Sequence[ServedModel], serving: ServingParams, server: str
) -> dict[str, Any]:
    """Return the ModelConfig of the Python backend, changed for the ONNX Runtime backend.

    `server` names the software that will load the versions, if it is known.

    Raises:
        ValueError: One config cannot serve these versions side by side, or the backend lacks the precision.
    """
    size = _common_value("image size", {model.version: model.image_size for model in models}, models[0].name)
    image = {"data_type": "TYPE_UINT8", "dims": [size, size, 3]}
    own = PRECISION_GRAPHS.get(models[0].precision)
    return {
        **config,
        **({"default_model_filename": own} if own else {}),
        "input": [{"name": tensor["name"], **image} for tensor in config["input"]],
        "output": _outputs(config["output"], models),
        "dynamic_batching": {**config["dynamic_batching"], "preferred_batch_size": [serving.max_batch_size]},
        "optimization": {"execution_accelerators": _accelerators(models, serving, server)},
        # Both ends of the range, so that TensorRT builds its engines now and not in the middle of traffic.
        "model_warmup": [
            {
                "name": f"{batch} of {serving.max_batch_size} images",
                "batch_size": batch,
                "inputs": {tensor["name"]: {**image, "random_data": True} for tensor in config["input"]},
            }
            for batch in sorted({1, serving.max_batch_size})
        ],
    }


def _outputs(outputs: Sequence[dict[str, Any]], models: Sequence[ServedModel]) -> list[dict[str, Any]]:
    """The outputs with the sizes of the graph; empty if only the graph has a size, so that Triton reads them there."""
    if models[0].task == "classify":
        counts = {model.version: len(model.class_names) for model in models}
        outputs = [
            {**output, "dims": [_common_value("number of classes", counts, models[0].name)]} for output in outputs
        ]
    return list(outputs) if all(size > 0 for output in outputs for size in output["dims"]) else []


def _accelerators(models: Sequence[ServedModel], serving: ServingParams, server: str) -> dict[str, Any]:
    precision = _common_value("precision", {model.version: model.precision for model in models}, models[0].name)
    if precision not in _PRECISION_MODES:
        raise ValueError(
            f"expected precision {' or '.join(_PRECISION_MODES)} for backend onnxruntime, found {precision!r}: that "
            "backend documents no other for TensorRT. Choose f16, or backend python"
        )
    parameters = {"precision_mode": _PRECISION_MODES[precision], "trt_min_subgraph_size": str(_MIN_SUBGRAPH_NODES)}
    if server:
        parameters["trt_timing_cache_enable"] = "1"
        parameters["trt_timing_cache_path"] = f"{serving.engine_cache}/timing-{_sha256(server)}"
    # ONNX Runtime names an engine's file after the graph's nodes and not its weights: in one folder, two versions of
    # one architecture would be one engine.
    if server and len(models) == 1 and models[0].digest:
        parameters["trt_engine_cache_enable"] = "1"
        parameters["trt_engine_cache_path"] = f"{serving.engine_cache}/engine-{engine_fingerprint(models[0], server)}"
    return {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": parameters}]}


def engine_fingerprint(model: ServedModel, server: str) -> str:
    """Return the SHA-256 in hex of all that a TensorRT engine depends on: graph, precision, the server's software."""
    return _sha256(model.digest, model.precision, server)


def _sha256(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _common_value(what: str, values: Mapping[int, Value], name: str) -> Value:
    if len(set(values.values())) > 1:
        found = ", ".join(f"{value} (version {version})" for version, value in values.items())
        raise ValueError(
            f"expected versions of {name} with one {what}, found {found}: backend onnxruntime serves side by side only "
            f"versions of the same shapes and precision. Deploy with backend python, or undeploy {name} first (clients "
            "then get no answer until the new version is served)"
        )
    return next(iter(values.values()))
