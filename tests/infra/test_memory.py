"""Whether services hold more memory the longer they work: Triton over deployments, the worker over runs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import boto3
import numpy as np
import psutil
import pytest
from tritonclient import grpc as triton_grpc

from infra import demo_data, supervisord
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.export.exporter import write_graph
from tasks.orchestration import deployed_flows
from tasks.serving.served_model import ServedModel
from tasks.settings import Settings
from tests.benchmarks.resampling import slope_interval
from tests.flows.registered import SIZE, make_sample, make_weights, register
from tests.supervised import process_of
from tests.tasks.serving.graphs import publish, serve
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3000)]
DEPLOYMENTS, REAL_DEPLOYMENTS = 200, 3
RUNS, AT_ONCE = 500, 25
EVERY = 10  # deployments
RESTING = 2  # processes below a worker without runs: what forks them, and the tracker of resources that Python gives it
WARM_UP = 0.3  # of all, in which caches and the allocator fill
LIMIT_MIB = 5.0  # for each 100 deployments or runs


def held_mib(process: psutil.Process) -> tuple[float, float, int]:
    """What a process holds, what its children hold, and how many they are.

    Of anonymous memory, which nobody but the process can give back: pages of files come and go as the kernel likes.
    """
    children = process.children(recursive=True)
    return anonymous_mib(process), sum(map(anonymous_mib, children)), len(children)


def anonymous_mib(process: psutil.Process) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return (int(fields["RssAnon"].split()[0]) + int(fields["VmSwap"].split()[0])) / 1024


def assert_flat(what: str, at: Sequence[int], held: Sequence[float]) -> None:
    """The slope after the warm-up: it may be 0, or its upper end is below `LIMIT_MIB` for each 100."""
    after = [number for number, each in enumerate(at) if each > WARM_UP * at[-1]]
    slope = slope_interval([at[number] / 100 for number in after], [held[number] for number in after])
    assert slope.low is not None
    assert slope.high is not None
    told = f"{what}: {held[0]:.1f} MiB after {at[0]}, {held[after[0]]:.1f} after {at[after[0]]}, {held[-1]:.1f} after "
    told += f"{at[-1]}; {slope.value:+.2f} MiB for each 100 ({slope.low:+.2f} to {slope.high:+.2f})"
    print(told, flush=True)
    assert slope.low <= 0 or slope.high < LIMIT_MIB, told


def deploy(number: int, graph: bytes, ask: Callable[[ServedModel], None]) -> None:
    """As deploy-model does: beside the version before, asked, then alone; and the one before is deleted."""
    versions = [
        ServedModel(name="memory", version=each, task="detect", image_size=SIZE, class_names=("a",), run_id="no-run")
        for each in (number - 1, number)
        if each
    ]
    publish(versions[-1], graph)
    if number > 1:
        serve(versions, champion=number - 1)
        ask(versions[-1])
    serve(versions[-1:])
    ask(versions[-1])
    if number > 1:
        store = boto3.client("s3")
        for entry in store.list_objects_v2(Bucket="models", Prefix=f"memory/{number - 1}/")["Contents"]:
            store.delete_object(Bucket="models", Key=entry["Key"])


def test_triton_holds_no_more_after_200_deployments(stack: StackSettings, tmp_path: Path) -> None:
    """By the load API, of a real graph of YOLO11n at 96 px, each asked once; then three runs of deploy-model.

    Of every ten the least counts: what Triton reads of the object store it holds for a while, 26 MiB here.
    """
    weights = make_weights(tmp_path)
    graph = write_graph(weights, tmp_path / "graph", SIZE).read_bytes()
    triton = process_of(stack, "triton")
    images = triton_grpc.InferInput("images", [1, SIZE, SIZE, 3], "UINT8")
    images.set_data_from_numpy(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    at, server, models, counts = [], [], [], []
    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client:

        def ask(model: ServedModel) -> None:
            client.infer(model.name, [images], model_version=str(model.version))

        lately: list[tuple[float, float, int]] = []
        for number in range(1, DEPLOYMENTS + 1):
            deploy(number, graph, ask)
            lately.append(held_mib(triton))
            if number % EVERY == 0:
                own, children, count = map(min, zip(*lately, strict=True))
                lately.clear()
                at.append(number)
                server.append(own)
                models.append(children)
                counts.append(count)
                print(f"{number} deployments: server {own:.1f} MiB, {count} models {children:.1f} MiB", flush=True)
    sample = make_sample(tmp_path / "sample")
    for _ in range(REAL_DEPLOYMENTS):
        version = register("memory-real", weights, sample)
        parameters = {"model_name": "memory-real", "version": version, "serving": {"drain_s": 0.0}}
        assert deployed_flows.wait(deployed_flows.start("deploy-model", parameters)).is_completed()
        own, children, count = held_mib(triton)
        print(f"deploy-model of version {version}: server {own:.1f} MiB, {count} models {children:.1f} MiB", flush=True)
    assert_flat("Triton", at, server)
    assert_flat("its models", at, models)
    assert len(set(counts)) == 1, counts


def test_a_worker_holds_no_more_after_500_runs(stack: StackSettings, tmp_path: Path) -> None:
    """Runs of validate-dataset on a small archive, 25 at a time; what they are forked from counts by itself."""
    plan = ArchivePlan(name="memory.zip", classes=("circle", "square"), train=8, val=4, seed=1)
    boto3.client("s3").upload_file(str(demo_data.write_archive(plan, tmp_path)), "datasets", plan.name)
    with supervisord.connect(stack) as supervisor:
        names = [entry["name"] for entry in supervisor.getAllProcessInfo() if supervisord.WORKER in entry["name"]]
    workers = {name: process_of(stack, name) for name in names}
    at, held = list[int](), {name: list[tuple[float, float, int]]() for name in names}
    for number in range(0, RUNS, AT_ONCE):
        parameters = {"archive": plan.name}
        runs = [deployed_flows.start("validate-dataset", parameters) for _ in range(AT_ONCE)]
        assert all(deployed_flows.wait(run).is_completed() for run in runs)
        at.append(number + AT_ONCE)
        eventually(
            lambda: all(len(worker.children(recursive=True)) <= RESTING for worker in workers.values()),
            "each process of a run is gone",
            60,
        )
        for name, worker in workers.items():
            held[name].append(held_mib(worker))
            own, children, count = held[name][-1]
            print(f"{at[-1]} runs: {name} {own:.1f} MiB, {count} children {children:.1f} MiB", flush=True)
    for name, each in held.items():
        assert_flat(name, at, [own for own, _, _ in each])
        if all(count for _, _, count in each):
            assert_flat(f"what {name} forks runs from", at, [children for _, children, _ in each])
