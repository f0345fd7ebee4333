"""Live predictions beside OpenVINO alone: `predict` asked with JPEG bytes, and the same graph in a process of its own.

`python -m pytest -s tests/benchmarks/bench_predict.py`: it starts a stack of its own. Rounds alternate, so that all
meet the same machine; rates are medians, times are over all rounds. The clients run on the same cores as the server.

The model finds many objects in each scene: noise and untrained weights would leave the NMS of the graph and the JSON of
`predict` with nearly nothing to do.
"""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from infra.stack_settings import StackSettings
from tasks.media.images import decode_image
from tasks.serving.pre_postprocess import preprocess
from tasks.serving.served_model import ServedModel
from tests.benchmarks import scenes
from tests.benchmarks.results import Measure, record
from tests.tasks.serving.graphs import publish, serve

ROUNDS = 3
SECONDS = 8.0
CLIENTS = (1, 4, 16)
GOAL, GOAL_CLIENTS = 0.75, 4
IMAGE_SIZE = 640
PHOTO, PHOTOS = (640, 480), 16

# Prints images a second, of ready tensors; runs in the environment that Triton's models run in.
IN_PROCESS = """
import sys, time, json, numpy as np, openvino
graph, precision, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
core = openvino.Core()
if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
    sys.exit("this CPU has no bf16 arithmetic")
model = core.read_model(graph)
size = model.input("images").partial_shape[1].get_length()
model.reshape({"images": [1, size, size, 3]})
compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision})
queue = openvino.AsyncInferQueue(compiled)
images = np.load(sys.argv[4])
for image in images:
    queue.start_async({"images": image[None]})
queue.wait_all()
began, done = time.perf_counter(), 0
while time.perf_counter() - began < seconds:
    queue.start_async({"images": images[done % len(images)][None]})
    done += 1
queue.wait_all()
print(done / (time.perf_counter() - began))
"""


def in_process(python: Path, graph: Path, precision: str, images: Path) -> float:
    """Images a second; skips the test where the CPU has no such arithmetic."""
    command = [str(python), "-c", IN_PROCESS, str(graph), precision, str(SECONDS), str(images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no bf16" in done.stderr:
        pytest.skip("this CPU has no bf16 arithmetic")
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def live(model: str, jpegs: Sequence[bytes], clients: int) -> tuple[float, list[float]]:
    """Images a second, and the milliseconds of each request."""
    address, took = os.environ["TRITON_HTTP_URL"], list[float]()
    headers = {"Inference-Header-Content-Length": "0", "model": model}
    until = time.perf_counter() + SECONDS

    def ask(first: int) -> None:
        connection, number = HTTPConnection(address, timeout=60), first
        while time.perf_counter() < until:
            began, number = time.perf_counter(), number + 1
            connection.request("POST", "/v2/models/predict/infer", jpegs[number % len(jpegs)], headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            took.append((time.perf_counter() - began) * 1000)
        connection.close()

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(took) / (time.perf_counter() - began), took


def compare(python: Path, graph: Path, model: str, precision: str, folder: Path) -> float:
    """Print a line for each number of clients; return the live rate at `GOAL_CLIENTS` as a share of the other."""
    jpegs = list(scenes.jpegs(*PHOTO, PHOTOS))
    tensors = [preprocess(decode_image(jpeg), "detect", IMAGE_SIZE)[0] for jpeg in jpegs]
    np.save(folder / "images.npy", np.stack(tensors))
    alone, rates, took = [], {n: list[float]() for n in CLIENTS}, {n: list[float]() for n in CLIENTS}
    for _ in range(ROUNDS):
        alone.append(in_process(python, graph, precision, folder / "images.npy"))
        for clients in CLIENTS:
            rate, times = live(model, jpegs, clients)
            rates[clients].append(rate)
            took[clients] += times
    print(f"\n{precision}: OpenVINO in process {statistics.median(alone):.1f} images/s")
    shares = {n: statistics.median(r / a for r, a in zip(rates[n], alone, strict=True)) for n in CLIENTS}
    for n in CLIENTS:
        record(
            Measure(
                name=f"live predictions, {precision}, clients: {n}",
                unit="images/s",
                better="more",
                ours=rates[n],
                beside="OpenVINO in process",
                theirs=alone,
                goal=GOAL if n == GOAL_CLIENTS else None,
            )
        )
    for n in CLIENTS:
        p50, p95, p99 = np.percentile(took[n], [50, 95, 99])
        print(
            f"  {n:>2} clients: {statistics.median(rates[n]):6.1f} images/s ({shares[n]:.2f} of it)  "
            f"p50 {p50:.0f} ms  p95 {p95:.0f} ms  p99 {p99:.0f} ms"
        )
    return shares[GOAL_CLIENTS]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLO11n that finds many objects in scenes."""
    from tasks.export.exporter import write_graph

    folder = tmp_path_factory.mktemp("graph")
    return write_graph(scenes.weights_of_a_finder(folder, IMAGE_SIZE), folder, IMAGE_SIZE)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_live_predictions_reach_most_of_the_rate_of_bare_openvino(
    stack: StackSettings, graph: Path, tmp_path: Path, precision: str
) -> None:
    """At four clients at least three quarters of what OpenVINO alone does with ready tensors."""
    names = tuple(f"class {number}" for number in range(80))
    model = ServedModel(
        name=f"bench-{precision}",
        version=1,
        task="detect",
        image_size=IMAGE_SIZE,
        class_names=names,
        run_id="no-run",
        precision=precision,
    )
    publish(model, graph.read_bytes())
    serve([model], champion=1)
    share = compare(stack.triton_venv / "bin" / "python", graph, model.name, precision, tmp_path)
    assert share >= GOAL
