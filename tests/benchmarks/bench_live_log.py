"""What the live log costs a live request: the same requests without it, at the default share and at share 1.

`python -m tests.benchmarks.bench_live_log`: one process runs model `predict` as Triton does, with OpenVINO and a
stand-in for Triton's module in the place of the server between the two. They take turns, request by request, in an
order that is drawn anew for each turn, so that all meet the same machine.
"""

import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from infra.publish_predict import SOURCE
from infra.stack_settings import ROOT, StackSettings
from tasks.export.exporter import write_graph
from tests.benchmarks import scenes
from tests.benchmarks.results import Measure, record

SIDE = 640
SIZES = ((640, 480), (1920, 1080), (4000, 3000))
TURNS = 100

# Runs in the environment that Triton's models run in.
PREDICT = """
import json, random, statistics, sys, tempfile, time, types
from pathlib import Path
import numpy as np, openvino
source, graph, photos, side, turns = sys.argv[1:4] + [int(each) for each in sys.argv[4:]]
core = openvino.Core()
model = core.read_model(graph)
model.reshape({"images": [1, side, side, 3]})
compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1})

class Answer:
    def __init__(self, outputs): self.outputs = outputs
    def has_error(self): return False

class Request:
    def __init__(self, inputs, **_): self.images = inputs[0]
    def exec(self): return Answer(compiled({"images": self.images}))

class Output:
    def __init__(self, value): self.value = value
    def as_numpy(self): return self.value

triton = types.ModuleType("triton_python_backend_utils")
triton.InferenceRequest = Request
triton.Tensor = lambda name, value: value
triton.PreferredMemory = lambda *_: None
triton.TRITONSERVER_MEMORY_CPU = 0
triton.get_output_tensor_by_name = lambda answer, name: Output(answer.outputs[name])
sys.modules["triton_python_backend_utils"] = triton
sys.path.insert(0, str(Path(source).parent))
from predict.image_decoding import ImageDecoder
from predict.live_log import LiveLog, LiveLogSettings
from predict.model_lookup import ServedModel
from predict.pipeline import PredictPipeline

served = ServedModel("bench", 1, "detect", side, tuple(f"class {number}" for number in range(80)))
folder = Path(tempfile.mkdtemp())
logs = {
    "off": None,
    "share 0.05": LiveLog(LiveLogSettings(folder / "some"), print),
    "share 1": LiveLog(LiveLogSettings(folder / "all", 1.0), print),
    "share 1, pictures": LiveLog(LiveLogSettings(folder / "pictures", 1.0, pictures=True), print),
}
pipelines = {}
for name, log in logs.items():
    pipeline = PredictPipeline(ImageDecoder(1 << 25, 10**8), "", log)
    pipeline.models = types.SimpleNamespace(find=lambda *_, **__: served)
    pipelines[name] = pipeline
for size in sorted(Path(photos).iterdir()):
    files = [path.read_bytes() for path in sorted(size.iterdir())]
    wall, work = {name: [] for name in logs}, {name: 0.0 for name in logs}
    ratios = {name: [] for name in logs}
    for turn in range(turns + 5):
        taken = {}
        for name in random.sample([*pipelines], len(pipelines)):
            began, worked = time.perf_counter(), time.process_time()
            pipelines[name].predict(files[turn % len(files)], '{"model": "bench"}')
            taken[name] = time.perf_counter() - began
            time.sleep(0.005)  # in which its thread writes, which is paid for
            if turn >= 5:
                wall[name].append(taken[name])
                work[name] += time.process_time() - worked
        if turn >= 5:
            for name in logs:
                ratios[name].append(taken[name] / taken["off"])
    for name in logs:
        print(json.dumps({
            "size": size.name.partition("-")[2], "log": name,
            "median_ms": 1000 * statistics.median(wall[name]),
            "ratio": statistics.median(ratios[name]),
            "work_ms": 1000 * work[name] / turns,
        }))
for name, log in logs.items():
    if log is not None:
        log.close()
lines = [line for path in (folder / "all").glob("*.jsonl") for line in path.read_bytes().splitlines()]
print(json.dumps({"bytes_a_line": statistics.mean(map(len, lines)), "lines": len(lines)}))
began = time.perf_counter()
off = pipelines["off"]
for _ in range(1_000_000):
    off.live_log is not None and off.live_log.is_due()
print(json.dumps({"off_ns": (time.perf_counter() - began) * 1000}))
"""


def main() -> None:
    """Record what a request takes, for each size and log."""
    settings = StackSettings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = write_graph(scenes.weights_of_a_finder(folder, SIDE), folder, SIDE)
        for number, (width, height) in enumerate(SIZES):
            photos = folder / "photos" / f"{number}-{width}x{height}"
            photos.mkdir(parents=True)
            for index, jpeg in enumerate(islice(scenes.jpegs(width, height, 8), 8)):
                (photos / f"{index}.jpg").write_bytes(jpeg)
        command = [str(settings.triton_venv / "bin" / "python"), "-c", PREDICT]
        command += [str(SOURCE), str(graph), str(folder / "photos"), str(SIDE), str(TURNS)]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    without = {each["size"]: each for each in found if each.get("log") == "off"}
    for each in found:
        if "log" not in each:
            print(each)
        elif each["log"] != "off":
            for kind, unit in (("median_ms", "ms"), ("work_ms", "ms of processor time")):
                record(
                    Measure(
                        name=f"{each['size']}, {each['log']}, in {unit}",
                        unit=unit,
                        better="less",
                        ours=[each[kind]],
                        beside="no live log",
                        theirs=[without[each["size"]][kind]],
                    )
                )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
