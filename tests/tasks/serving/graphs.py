"""Served models made by hand: graphs that answer the same whatever the picture, so that what comes of it is known."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import boto3
import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tritonclient import http as triton_http

from tasks.parameters import ServingParams
from tasks.serving.model_repository import CODE_FILES
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import model_config
from tasks.settings import Settings
from tasks.vision.geometry import Floats, Rgb


def constant_graph(size: int, outputs: Mapping[str, Floats]) -> bytes:
    """A graph `images` uint8 [N,S,S,3] -> these arrays, each repeated N times."""
    nodes = [
        helper.make_node("Shape", ["images"], ["sides"], start=0, end=1),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1], np.int64))),
    ]
    for name, values in outputs.items():
        row = np.asarray(values, np.float32)[None]
        nodes.append(helper.make_node("Constant", [], [f"{name}.one"], value=numpy_helper.from_array(row)))
        ones = np.ones(row.ndim - 1, np.int64)
        nodes.append(helper.make_node("Constant", [], [f"{name}.ones"], value=numpy_helper.from_array(ones)))
        nodes.append(helper.make_node("Concat", ["sides", f"{name}.ones"], [f"{name}.repeats"], axis=0))
        nodes.append(helper.make_node("Tile", [f"{name}.one", f"{name}.repeats"], [name]))
    return _model(nodes, size, {name: np.asarray(values).shape for name, values in outputs.items()})


def mirror_graph(size: int) -> bytes:
    """A classifier whose `scores` [N, S*S*3] are the very numbers that it is shown, divided by 255."""
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["most"], value=numpy_helper.from_array(np.array(255, np.float32))),
        helper.make_node("Div", ["numbers", "most"], ["shares"]),
        helper.make_node("Flatten", ["shares"], ["scores"], axis=1),
    ]
    return _model(nodes, size, {"scores": (size * size * 3,)})


def _model(nodes: Sequence[onnx.NodeProto], size: int, outputs: Mapping[str, Sequence[int]]) -> bytes:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", size, size, 3])
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "by-hand", [images], answers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def rows(*found: Sequence[float], width: int = 6) -> Floats:
    """A served array [300, width] that begins with these rows."""
    values = np.zeros((300, width), np.float32)
    values[: len(found)] = np.asarray(found, np.float32).reshape(-1, width)
    return values


def publish(model: ServedModel, graph: bytes) -> None:
    """Put a version into the repository, without serving it."""
    store = boto3.client("s3")
    store.put_object(Bucket="models", Key=f"{model.name}/{model.version}/model.onnx", Body=graph)
    upload_code(f"{model.name}/{model.version}")


def upload_code(folder: str) -> None:
    """Put the code that runs a graph into a folder of the repository."""
    for path in CODE_FILES:
        boto3.client("s3").upload_file(str(path), "models", f"{folder}/{path.name}")


def digest_of(model: ServedModel) -> str:
    """SHA-256 of the graph that lies in the repository."""
    stored = boto3.client("s3").get_object(Bucket="models", Key=f"{model.name}/{model.version}/model.onnx")
    return hashlib.sha256(stored["Body"].read()).hexdigest()


def serve(models: Sequence[ServedModel], champion: int | None = None) -> None:
    """Have Triton serve exactly these versions, the newest as champion, as Triton's own client asks for it."""
    models = [replace(model, digest=digest_of(model)) for model in models]
    if champion is None:
        champion = max(model.version for model in models)
    config = json.dumps(model_config(models, ServingParams(), champion))
    headers = {"triton-access-key": Settings().studio_triton_key.get_secret_value()}
    with triton_http.InferenceServerClient(Settings().triton_http_url, network_timeout=60) as triton:
        triton.load_model(models[0].name, headers=headers, config=config)


def noise(width: int, height: int, seed: int = 0) -> Rgb:
    """A picture [height, width, 3] of which no two pixels are alike."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def smooth(width: int, height: int, seed: int = 0) -> Rgb:
    """A picture that survives JPEG."""
    return np.asarray(cv2.resize(noise(width // 8 + 1, height // 8 + 1, seed), (width, height)), np.uint8)


def encoded(picture: Rgb | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def filled(ring: Any, width: int, height: int) -> Any:
    """The mask of an outline, drawn at eight times the size."""
    mask = np.zeros((height * 8, width * 8), np.uint8)
    cv2.fillPoly(mask, [np.round(np.asarray(ring) * 8).astype(np.int32)], 1)
    return mask.astype(bool)
