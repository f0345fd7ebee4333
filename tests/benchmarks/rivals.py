"""The other sides of bench_inference.py: what this machine could do at most, and how others do the same work."""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from pathlib import Path
from shutil import copy
from typing import Any

import av
import boto3
import cv2
import numpy as np
import onnx
import onnxruntime
import torch
import tritonclient.grpc as triton
from tritonclient import http as triton_http

from tasks.inference.predictor import max_in_flight
from tasks.inference.triton_client import TritonClient
from tasks.media.video_writer import VideoWriter
from tasks.parameters import InferenceParams
from tasks.serving.served_model import ServedModel
from tasks.settings import Settings
from tasks.vision.geometry import Rgb
from tests.benchmarks.meter import GPU, Done, Work

# Else Ultralytics looks on the network for packages and models; it reads this when it is imported.
os.environ["YOLO_OFFLINE"] = "true"

RAW = "raw"
CODE = Path(__file__).with_name("raw_model.py")
OPTIONS: dict[str, Any] = {"conf": 0.25, "iou": 0.7, "rect": False, "device": "0" if GPU else "cpu", "verbose": False}
# The ONNX Runtime that is pinned for this environment has no CUDA, and on the CPU it is no rival of a GPU.
IN_PROCESS = not GPU or "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def saturated(model: ServedModel, squares: list[Rgb], seconds: float) -> Work:
    """The same Triton, asked with ready tensors from as many threads as a run has requests in flight."""
    flying = max_in_flight(InferenceParams())

    def work() -> Done:
        until = time.perf_counter() + seconds
        with closing(TritonClient([Settings().triton_grpc_url], model, flying)) as client:

            def ask(first: int) -> int:
                done = 0
                while time.perf_counter() < until:
                    client.infer(squares[(first + done) % len(squares)][None])
                    done += 1
                return done

            with ThreadPoolExecutor(flying) as pool:
                return Done(sum(pool.map(ask, range(flying))))

    return work


def raw_graph(weights: Path, folder: Path, size: int) -> Path:
    """Ultralytics' own export: float32 [1,3,S,S] in, output0 out, nothing of ours in it."""
    from ultralytics.models import YOLO

    model: Any = YOLO(copy(weights, folder / "raw.pt"))
    with warnings.catch_warnings(action="ignore"):
        return Path(model.export(format="onnx", imgsz=size, device="cpu"))


def serve_raw(graph: Path, size: int) -> None:
    """Have Triton serve that export as model `raw`."""
    model = onnx.load(graph)
    store = boto3.client("s3")
    store.upload_file(str(graph), "models", f"{RAW}/1/model.onnx")
    store.upload_file(str(CODE), "models", f"{RAW}/1/model.py")
    answer = [each.dim_value for each in model.graph.output[0].type.tensor_type.shape.dim]
    # What Ultralytics' client has to know about the model.
    about = {each.key: each.value for each in model.metadata_props}
    config = {
        "name": RAW,
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "images", "data_type": "TYPE_FP32", "dims": [1, 3, size, size]}],
        "output": [{"name": "output0", "data_type": "TYPE_FP32", "dims": answer}],
        "instance_group": [{"count": 1, "kind": "KIND_GPU" if GPU else "KIND_CPU"}],
        "parameters": {"metadata": {"string_value": str(about)}},
    }
    headers = {"triton-access-key": Settings().studio_triton_key.get_secret_value()}
    with triton_http.InferenceServerClient(Settings().triton_http_url, network_timeout=120) as server:
        server.load_model(RAW, headers=headers, config=json.dumps(config))


def ultralytics(model: str, folder: Path, seconds: float, size: int) -> Work:
    """Ultralytics' predict over local files one after the other; `model` is an address in Triton or an ONNX file."""
    from ultralytics.models import YOLO

    yolo: Any = YOLO(model, task="detect")
    yolo.predict(str(next(folder.iterdir())), imgsz=size, **OPTIONS)

    return lambda: Done(_counted(yolo.predict(str(folder), stream=True, imgsz=size, **OPTIONS), seconds))


def old_way(folder: Path, seconds: float, size: int) -> Work:
    """Stretched to a square, float32 over gRPC, a picture a call, NMS in the client."""
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    files = sorted(folder.iterdir())

    def found(server: Any) -> Iterator[object]:
        for file in cycle(files):
            image: Any = cv2.imread(str(file))
            square = cv2.cvtColor(cv2.resize(image, (size, size)), cv2.COLOR_BGR2RGB)
            values = np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / 255
            request = triton.InferInput("images", list(values.shape), "FP32")
            request.set_data_from_numpy(values)
            answer = torch.from_numpy(server.infer(RAW, [request]).as_numpy("output0").copy())
            (rows,) = non_max_suppression(answer, OPTIONS["conf"], OPTIONS["iou"])
            yield scale_boxes((size, size), rows[:, :4], image.shape[:2], padding=False)

    def work() -> Done:
        with triton.InferenceServerClient(Settings().triton_grpc_url) as server:
            return Done(_counted(found(server), seconds))

    return work


def _counted(things: Iterable[object], seconds: float) -> int:
    """How many come in that time, or in all."""
    until, done = time.perf_counter() + seconds, 0
    for _ in things:
        done += 1
        if time.perf_counter() > until:
            break
    return done


def decoded(path: Path) -> Work:
    """All frames of a video, decoded by FFmpeg on all cores and not converted."""

    def work() -> Done:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            return Done(sum(1 for _ in container.decode(video=0)))

    return work


def encoded(path: Path, frames: list[Rgb], count: int, audio: Path) -> Work:
    """A film of ready frames, with the sound of a video."""

    def work() -> Done:
        with VideoWriter(path, audio) as writer:
            for number in range(count):
                writer.write(frames[number % len(frames)], number * 40.0)
        return Done(count)

    return work


def thread_ms(work: Callable[[], object], count: int) -> float:
    """Processor time of `count` things in ms each, done in this thread alone."""
    began = time.thread_time()
    work()
    return 1000 * (time.thread_time() - began) / count
