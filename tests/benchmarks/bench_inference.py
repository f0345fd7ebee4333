"""Batch inference beside what this machine could do at most, and beside others that do the same work.

`python -m pytest -q -s tests/benchmarks/bench_inference.py`: it starts a stack of its own. Rounds alternate, so that
all meet the same machine. `BENCH_SCALE=0.05` does a twentieth of it once, to see that it works; what a run costs
whatever its size is most of that, so no goal is asserted.

A goal is met, MISSED, or out of reach: above column `limit`, the most that could be had (see meter.py). Asserted is the
goal, or 0.8 of the limit where that is less, so that a row whose goal is missed or out of reach cannot rot unseen. On a
CPU without bf16 arithmetic most goals against others are out of reach: our graph and theirs then take the same 32-bit
arithmetic, which is nearly all of the time on both sides, and a worker that did nothing else would be less than twice
as fast. A film, too, has its decoder, its model and its encoder on the same cores, while each of them alone has them
all.

Where there is a GPU, column `device` names it, the others use it, too, and there is no limit. It ran only in part.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest

from flows.run_inference import run_inference
from infra.stack_settings import StackSettings
from tasks.media.images import decode_image
from tasks.media.malloc import tune_malloc
from tasks.media.video_reader import decode_frames, to_upright_rgb
from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import preprocess
from tasks.serving.served_model import ServedModel
from tasks.vision.geometry import Rgb
from tests.benchmarks import rivals, scenes
from tests.benchmarks.meter import Cells, Done, Measured, Meter, Row, Side, Work, told
from tests.benchmarks.peak import peak_mib
from tests.benchmarks.results import Measure, record
from tests.benchmarks.shared_tensors import plain, through_shared_memory
from tests.flows.registered import SIZE as SMALL_SIZE
from tests.flows.registered import make_weights

pytestmark = pytest.mark.timeout(3600)

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
IMAGE_SIZE = 640
SMALL, LARGE = (640, 480), (1920, 1080)
SMALL_COUNT, LARGE_COUNT = (max(round(count * SCALE), 8) for count in (1000, 200))
FRAMES, COPIES = max(round(200 * SCALE), 8), 3  # so much film that what a run costs once does not hide its pace
FEW, MANY = (max(round(count * SCALE), 64) for count in (1000, 10_000))
SECONDS = max(6 * SCALE, 1.0)
LENIENCY = 1 if SCALE >= 1 else 100  # at a smaller scale a pace is rough: it only must not be absurd
IMAGE_ROUNDS, FILM_ROUNDS = (3, 2) if SCALE >= 1 else (1, 1)
SAMPLE = 16  # pictures, of which tensors and frames are made ready

GOAL_SMALL, GOAL_LARGE = 0.85, 0.75
GOAL_ULTRALYTICS_TRITON, GOAL_ULTRALYTICS, GOAL_OLD_WAY = 3.0, 3.0, 5.0
GOAL_FILM, GOAL_ANNOTATED, GOAL_APART = 0.8, 0.7, 0.95
GOAL_MEMORY = 1.1
GOAL_SHARED_MEMORY = 1.03

BF16 = "import openvino; print('BF16' in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))"

Rows = list[Cells]


class Images(NamedTuple):
    """Pictures of one size in bucket media, some as ready tensors, and the processor time of decoding one, in ms."""

    place: str
    bodies: list[bytes]
    squares: list[Rgb]
    read_ms: float


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    """What the tests find: one table, printed when all are through."""
    found: Rows = []
    yield found
    print(f"\n\n{told(found)}")


@pytest.fixture(scope="module")
def meter(stack: StackSettings) -> Meter:
    python = stack.triton_venv / "bin" / "python"
    bf16 = subprocess.run([python, "-c", BF16], capture_output=True, text=True, check=True).stdout.strip()
    tune_malloc()  # a run does so, and those beside it shall have the same
    print(f"\n{os.cpu_count()} cores, bf16 arithmetic: {bf16}, load {os.getloadavg()[0]:.1f}, scale {SCALE:g}")
    return Meter(stack)


@pytest.fixture(scope="module")
def weights(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    return scenes.weights_of_a_finder(tmp_path_factory.mktemp("weights"), IMAGE_SIZE)


@pytest.fixture(scope="module")
def model(weights: Path) -> ServedModel:
    return scenes.serve("bench", weights, IMAGE_SIZE, precision="bf16")


@pytest.fixture(scope="module")
def raw(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ultralytics' own export, which Triton serves, too."""
    exported = rivals.raw_graph(weights, tmp_path_factory.mktemp("raw"), IMAGE_SIZE)
    rivals.serve_raw(exported, IMAGE_SIZE)
    return exported


@pytest.fixture(scope="module")
def small(stack: StackSettings) -> Images:  # noqa: ARG001
    return images("small", SMALL, SMALL_COUNT)


@pytest.fixture(scope="module")
def large(stack: StackSettings) -> Images:  # noqa: ARG001
    return images("large", LARGE, LARGE_COUNT)


def images(prefix: str, size: tuple[int, int], count: int) -> Images:
    bodies = list(scenes.jpegs(*size, count))
    some = bodies[:SAMPLE]
    read_ms = rivals.thread_ms(lambda: [square(decode_image(body)) for body in some], len(some))
    return Images(scenes.put(prefix, bodies, count), bodies, [square(decode_image(body)) for body in some], read_ms)


def square(image: Rgb) -> Rgb:
    return preprocess(image, "detect", IMAGE_SIZE)[0]


def flow(name: str, *inputs: str, **params: object) -> Work:
    """The flow, called in this process, until its run is Completed.

    Prefect returns up to a second after that, when the thread of its heartbeats wakes up.
    """

    def work() -> Done:
        ended: list[float] = []
        timed = run_inference.with_options(on_completion=[lambda *_: ended.append(time.perf_counter())])
        state = timed(name, list(inputs), InferenceParams.model_validate(params), return_state=True)
        assert state.is_completed(), state.message
        key = f"{state.state_details.flow_run_id}/summary.json"
        summary = json.loads(boto3.client("s3").get_object(Bucket="predictions", Key=key)["Body"].read())
        return Done(summary["images"] + summary["frames"], summary["images_per_second"], *ended)

    return work


def measure(meter: Meter, works: Mapping[str, Work], rounds: int, serial: Sequence[str] = ()) -> dict[str, Side]:
    """Do each in turn, as often as there are rounds."""
    found: dict[str, list[Measured]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(meter(work))
    return {name: Side(measured, name in serial) for name, measured in found.items()}


def judge(rows: Rows, made: Sequence[Row]) -> None:
    rows += [row.cells() for row in made]
    for measure in (each for row in made for each in row.measures()):
        record(measure)
    low = [row for row in made if row.judged < row.floor / LENIENCY]
    assert not low, [f"{row.what} / {row.against}: {row.judged:.2f}, not {row.floor:.2f}" for row in low]


def test_images_reach_most_of_the_rate_of_the_slowest_part(
    meter: Meter, model: ServedModel, raw: Path, small: Images, large: Images, rows: Rows
) -> None:
    """Files in the object store to tables in the object store."""
    folder = raw.parent / "files"
    folder.mkdir()
    for number, body in enumerate(small.bodies):
        (folder / f"{number:06d}.jpg").write_bytes(body)
    address = f"grpc://{os.environ['TRITON_GRPC_URL']}/{rivals.RAW}"
    one = flow(model.name, f"{small.place}000000.jpg", annotate=False)
    one()  # what is imported and connected at the first call
    base = meter(one)
    print(f"\na run of one image: {base.seconds:.1f} s, {sum(base.spent.values()):.1f} s of processor time")
    works = {
        "small": flow(model.name, small.place, annotate=False),
        "small ready": rivals.saturated(model, small.squares, SECONDS),
        "large": flow(model.name, large.place, annotate=False),
        "large ready": rivals.saturated(model, large.squares, SECONDS),
        "triton": rivals.ultralytics(address, folder, SECONDS, IMAGE_SIZE),
        "old": rivals.old_way(folder, SECONDS, IMAGE_SIZE),
    }
    if rivals.IN_PROCESS:
        works["onnx"] = rivals.ultralytics(str(raw), folder, SECONDS, IMAGE_SIZE)
    else:
        print("\nUltralytics, ONNX in process: left out, this environment has no onnxruntime-gpu")
    # Ultralytics' ONNX Runtime has all cores for most of its time: idle, it is taken to have them always.
    side = measure(meter, works, IMAGE_ROUNDS, serial=("triton", "old"))
    least = {"small": needed(side["small ready"]) + small.read_ms, "large": needed(side["large ready"]) + large.read_ms}
    compared = [
        ("small", "small ready", "Triton saturated with ready tensors", GOAL_SMALL),
        ("large", "large ready", "Triton saturated with ready tensors", GOAL_LARGE),
        ("small", "triton", "Ultralytics over gRPC, float32", GOAL_ULTRALYTICS_TRITON),
        ("small", "onnx", "Ultralytics, ONNX in process", GOAL_ULTRALYTICS),
        ("small", "old", "stretched, float32, one by one", GOAL_OLD_WAY),
    ]
    titles = {"small": "640x480 JPEG -> parquet", "large": "1080p JPEG -> parquet"}
    judge(
        rows,
        [
            Row(titles[ours], what, side[ours], side[theirs], goal, least[ours])
            for ours, theirs, what, goal in compared
            if theirs in side
        ],
    )


def needed(*sides: Side) -> float:
    """Milliseconds of processor time a picture."""
    return sum(sum(side.cost.values()) for side in sides)


def test_a_video_reaches_most_of_the_rate_of_the_slowest_part(
    meter: Meter, model: ServedModel, rows: Rows, tmp_path: Path
) -> None:
    """A video in the object store to tables, and to a film that browsers play."""
    clip = scenes.clip(tmp_path / "clip.mp4", *LARGE, FRAMES)
    place = scenes.put("film", [clip.read_bytes()], COPIES, ".mp4")
    frames = [to_upright_rgb(frame) for _, _, frame in islice(decode_frames(clip), SAMPLE)]
    kept = [frame for _, _, frame in islice(decode_frames(clip), SAMPLE)]
    convert_ms = rivals.thread_ms(lambda: [square(to_upright_rgb(frame)) for frame in kept], SAMPLE)
    works = {
        "tables": flow(model.name, place, annotate=False),
        "film": flow(model.name, place, annotate=True),
        "film and frames": flow(model.name, place, annotate=True, image_frames=FRAMES),
        "decode alone": rivals.decoded(clip),
        "inference alone": rivals.saturated(model, [square(frame) for frame in frames], SECONDS),
        "encode alone": rivals.encoded(tmp_path / "film.mp4", frames, FRAMES, clip),
    }
    side = measure(meter, works, FILM_ROUNDS)
    alone = {name: side[name] for name in works if name.endswith("alone")}
    print("\n" + ", ".join(f"{name} {each.rate:.1f}/s" for name, each in alone.items()))
    both = side["film and frames"], side["film"]
    share, cost = both[0].rate / both[1].rate, needed(both[0]) - needed(both[1])
    print(f"each frame kept as a JPEG: {both[0].rate:.1f}/s, {share:.2f} of the film alone, {cost:.1f} ms a frame more")
    made = []
    for ours, title, parts, goal in (
        ("tables", "1080p H.264 -> parquet", ("decode alone", "inference alone"), GOAL_FILM),
        ("film", "1080p H.264 -> annotated H.264", tuple(alone), GOAL_ANNOTATED),
    ):
        slowest = min(parts, key=lambda name: alone[name].rate)
        least = needed(*(alone[name] for name in parts)) + convert_ms
        made.append(Row(title, slowest, side[ours], alone[slowest], goal, least))
    with meter.own_cores():
        apart = measure(meter, {name: works[name] for name in ("film", "inference alone")}, FILM_ROUNDS)
    ratio = Row("", "", apart["film"], apart["inference alone"], GOAL_APART, 1.0).ratio
    rows.append(
        Cells(
            what="1080p H.264 -> annotated H.264, the model on half of the cores, all else on the others",
            against="inference alone, on those cores",
            rate=f"{apart['film'].rate:.1f}",
            work=f"{apart['film'].work_rate:.1f}",
            their_rate=f"{apart['inference alone'].rate:.1f}",
            others=f"{max(each.foreign for each in apart.values()):.0%}",
            ratio=f"{ratio:.2f}",
            work_ratio=f"{apart['film'].work_rate / apart['inference alone'].rate:.2f}",
            goal=f"{GOAL_APART:g}",
            verdict="met" if ratio >= GOAL_APART else "MISSED",
        )
    )
    judge(rows, made)


def test_memory_does_not_grow_with_the_inputs(
    stack: StackSettings,  # noqa: ARG001
    rows: Rows,
    tmp_path: Path,
) -> None:
    """Ten times the pictures take no more memory."""
    name = scenes.serve("bench-small", make_weights(tmp_path), SMALL_SIZE).name
    bodies = list(scenes.jpegs(SMALL_SIZE, SMALL_SIZE * 3 // 4, SAMPLE))
    few, many = scenes.put("few", bodies, FEW), scenes.put("many", bodies, MANY)
    began = time.perf_counter()
    low, high = (peak_mib(name, place, tmp_path / "run.log") for place in (few, many))
    ratio, seconds = high / low, time.perf_counter() - began
    cells = Cells(
        what=f"memory, {MANY:,} images: {high:.0f} MiB",
        against=f"{FEW:,} images: {low:.0f} MiB",
        rate=f"{(FEW + MANY) / seconds:.1f}",
        ratio=f"{ratio:.2f}",
        goal=f"{GOAL_MEMORY:g}",
        verdict="met" if ratio <= GOAL_MEMORY else "MISSED",
    )
    rows.append(cells)
    record(
        Measure(
            name=f"memory, {MANY:,} images",
            unit="MiB",
            better="less",
            ours=[high],
            beside=f"{FEW:,} images",
            theirs=[low],
            goal=GOAL_MEMORY,
        )
    )
    assert ratio <= GOAL_MEMORY * LENIENCY


def test_shared_memory_beside_tensors_in_the_request(meter: Meter, model: ServedModel, small: Images) -> None:
    """Whether ready tensors in Triton's system shared memory cost less than in the request; nothing is built on it."""
    works: dict[str, Work] = {
        "plain": plain(model, small.squares, SECONDS / 2),
        "shared": through_shared_memory(model, small.squares, SECONDS / 2),
    }
    side = measure(meter, works, 2 * IMAGE_ROUNDS)
    print()
    for name, each in side.items():
        costs = ", ".join(f"{group} {cost:.2f}" for group, cost in each.cost.items())
        print(f"{name}: {each.rate:.1f} images/s, {needed(each):.2f} ms of CPU an image ({costs})")
    faster, cheaper = side["shared"].rate / side["plain"].rate, needed(side["plain"]) / needed(side["shared"])
    pays = "pays" if cheaper > GOAL_SHARED_MEMORY else "does not pay"
    print(f"shared memory {pays}: {faster:.3f} times the rate, processor time {1 / cheaper:.3f} of that of plain gRPC")
