"""What clients notice while models come and go, and how long a click takes until it serves.

`python -m pytest -s tests/benchmarks/bench_rollout.py`: it starts a stack of its own. Six clients, two of each kind of
`tests.flows.traffic`, ask all the time, each 20 ms after its last answer, and who was champion when is watched in
MLflow; flows run through their deployments, on the worker.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from infra.stack_settings import StackSettings
from tasks.export.exporter import write_graph
from tasks.orchestration import deployed_flows
from tasks.serving import model_control, model_repository
from tasks.serving.http_client import ServingError
from tests.benchmarks.results import Measure, record
from tests.flows.registered import SIZE, make_sample, make_weights, register
from tests.flows.traffic import Answer, Traffic
from tests.supervised import process_of

pytestmark = pytest.mark.timeout(1200)
NAME, OTHER = "traffic", "another"
PATIENCE_S = 60
# Steps of deploy-model by what they are about, for the table of times.
PARTS = {
    "export": ("export_onnx",),
    "upload": ("publish_version",),
    "load": ("load_aside", "load_versions", "serve_alone", "smoke_test"),
    "parity": ("download_artifact", "predict_in_turns", "predict_reference"),
}


@pytest.fixture(scope="module")
def versions(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """Versions 1 to 5 of the model, all good ones until their graphs are spoilt, and version 1 of another model."""
    folder = tmp_path_factory.mktemp("versions")
    weights, sample = make_weights(folder), make_sample(folder / "sample")
    for _ in range(5):
        register(NAME, weights, sample)
    register(OTHER, weights, sample)
    graph: Path = write_graph(weights, folder / "graph", SIZE)
    return graph


def run(flow: str, **parameters: Any) -> tuple[State, UUID, float]:
    began = time.monotonic()
    started = deployed_flows.start(flow, parameters)
    return deployed_flows.wait(started), started, time.monotonic() - began


def deploy(version: int, name: str = NAME, **serving: Any) -> tuple[State, UUID, float]:
    return run("deploy-model", model_name=name, version=version, serving={"drain_s": 2.0, **serving})


def kill_triton(stack: StackSettings) -> None:
    """End tritonserver as the kernel would, and wait until the supervisor has it back."""
    process_of(stack, "triton").kill()
    time.sleep(5)
    deadline = time.monotonic() + 120
    while not is_served():
        assert time.monotonic() < deadline, "Triton did not come back"
        time.sleep(0.5)


def is_served() -> bool:
    try:
        return bool(model_control.list_served_versions(NAME))
    except ServingError:
        return False


def lose_weights(version: int) -> None:
    """Remove the weights of a registered version from MLflow's store, as an overeager clean-up would."""
    place = MlflowClient().get_model_version_download_uri(NAME, str(version)).removeprefix("mlflow-artifacts:/")
    for entry in boto3.client("s3").list_objects_v2(Bucket="mlflow", Prefix=place)["Contents"]:
        boto3.client("s3").delete_object(Bucket="mlflow", Key=entry["Key"])


def test_no_request_fails_while_versions_change(stack: StackSettings, versions: Path) -> None:
    """Only a Triton that is killed is noticed, by those who do not ask again."""
    assert deploy(1)[0].is_completed()
    assert deploy(1, OTHER)[0].is_completed()
    bad = versions.with_name("bad.onnx")
    bad.write_bytes(b"no graph")
    model_repository.publish_version.fn(NAME, 3, bad)
    lose_weights(4)
    steps: dict[str, tuple[Callable[[], State | None], bool, int]] = {
        "deploy a good version": (lambda: deploy(2)[0], True, 0),
        "deploy a bad graph": (lambda: deploy(3)[0], False, 0),
        "deploy a version that lost its weights": (lambda: deploy(4)[0], False, 0),
        "deploy a config that Triton refuses": (lambda: deploy(5, backend="onnxruntime")[0], False, 0),
        "roll back": (lambda: run("rollback-model", model_name=NAME)[0], True, 0),
        "undeploy another model": (lambda: run("undeploy-model", model_name=OTHER)[0], True, 0),
        "Triton killed, clients ask again": (lambda: kill_triton(stack), True, PATIENCE_S),
    }
    failures, wrong = list[str](), list[Answer]()
    print("\n| while | ended | answers | failed | by another than the champion | versions that answered |")
    print("|---|---|---|---|---|---|")
    for name, (step, good, patience) in steps.items():
        with Traffic(NAME, pause=0.02, patience=patience) as clients:
            time.sleep(2)
            state = step()
            time.sleep(2)
        ended = state.name if state else "back"
        seen = ", ".join(sorted(clients.versions))
        counts = f"{len(clients.answers)} | {len(clients.failures)} | {len(clients.wrong)}"
        print(f"| {name} | {ended} | {counts} | {seen} |", flush=True)
        failures += clients.failures
        wrong += clients.wrong
        assert state is None or state.is_completed() is good, state
    assert (failures, wrong) == ([], [])


def test_from_click_to_serving(versions: Path) -> None:  # noqa: ARG001
    """Seconds from the API call to the end, and the share of each part; what is left is Prefect, MLflow and Python."""
    boto3.client("s3").delete_object(Bucket="models", Key=f"{NAME}/5/model.py")
    state, run_id, seconds = deploy(5)
    assert state.is_completed(), state
    with get_client(sync_client=True) as client:
        steps = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
    spent = dict.fromkeys(PARTS, 0.0)
    for step in steps:
        part = next((part for part, names in PARTS.items() if step.name.rpartition("-")[0] in names), None)
        if part and step.total_run_time:
            spent[part] += step.total_run_time.total_seconds()
    assert all(took > 0 for took in spent.values()), {step.name for step in steps}
    for part, took in {"all": seconds, **spent}.items():
        record(Measure(name=f"from click to serving: {part}", unit="s", better="less", ours=[took]))
