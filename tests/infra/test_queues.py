"""Work queues: nothing that people wait for stands behind a training or a deployment."""

import contextlib
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.states import Running, Scheduled

from infra import bootstrap, registration
from infra.stack_settings import ROOT, StackSettings
from tasks.errors import StudioError
from tasks.orchestration import outcome, waiting_runs

QUEUES = yaml.safe_load((ROOT / "deployments" / "queues.yaml").read_text())
MANY = 6


def test_what_takes_long_leaves_room_on_a_worker() -> None:
    limits = {name: queue["concurrency_limit"] for name, queue in QUEUES.items()}
    assert limits["interactive"] is limits["rollback"] is None
    assert (
        sum(limit for name, limit in limits.items() if limit and name != "training")
        < StackSettings.model_fields["worker_limit"].default
    )
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    unlimited = {each["entrypoint"] for each in deployments if limits[each["work_pool"]["work_queue_name"]] is None}
    short = (
        *("validate_dataset", "rollback_model", "delete_dataset"),
        *("delete_version", "delete_predictions", "clean_up", "repair_servers"),
    )
    assert unlimited == {f"flows/{name}.py:{name}" for name in short}


WAITS_FOR = {
    "run_pipeline": {"validate_dataset", "train_model", "deploy_model", "run_inference"},
    "close_loop": {
        *("label_images", "select_images", "review_images"),
        *("validate_dataset", "train_model", "deploy_model"),
    },
    "review_images": {"run_inference"},
}


@pytest.mark.parametrize("flow", WAITS_FOR)
def test_no_flow_takes_the_places_of_the_runs_that_it_waits_for(flow: str) -> None:
    """Two loops took both places of queue `pipelines`, in which the reviews stood that they waited for."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    queues = {Path(each["entrypoint"].split(":")[0]).stem: each["work_pool"]["work_queue_name"] for each in deployments}
    assert queues[flow] not in {queues[name] for name in WAITS_FOR[flow]}


def test_every_flow_has_its_deployment() -> None:
    """YAML takes the last of several keys of one name, so an entry without a dash takes the place of the one above."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = sorted(path.stem for path in (ROOT / "flows").glob("[a-z]*.py"))
    assert sorted(each["entrypoint"] for each in deployments) == [f"flows/{name}.py:{name}" for name in flows]


def test_every_deployment_has_a_tag_and_its_queue_as_the_docs_say() -> None:
    rows = re.findall(
        r"^\| `([a-z]+)` \| (.*) \| (\d+|no limit|1 a worker) \|",
        (ROOT / "docs/operations.md").read_text(),
        re.MULTILINE,
    )
    in_order = sorted(QUEUES.items(), key=lambda entry: entry[1]["priority"])
    limits = [(name, str(queue["concurrency_limit"] or "no limit")) for name, queue in in_order if name != "training"]
    assert [(name, limit) for name, _, limit in rows if name != "training"] == limits
    assert ("training", "1 a worker") in {(name, limit) for name, _, limit in rows}
    flows = {name: re.findall("`([a-z-]+)`", text) for name, text, _ in rows}
    flows["checks"].remove("validate-dataset")  # those that watch-datasets starts
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    queued = [(each["work_pool"]["work_queue_name"], Path(each["entrypoint"]).stem) for each in deployments]
    assert sorted(queued) == sorted((queue, name.replace("-", "_")) for queue, names in flows.items() for name in names)
    assert all(each["tags"] and each["description"] for each in deployments)


@pytest.fixture
def pool(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A work pool of our own with the queues of the studio, which no worker looks at."""
    monkeypatch.setattr(registration, "POOL", f"queues-{uuid4().hex[:8]}")
    bootstrap.ensure_work_pool()
    bootstrap.ensure_work_pool()  # what is there stays as it is
    yield registration.POOL
    chosen = WorkPoolFilter(name=WorkPoolFilterName(any_=[registration.POOL]))
    for deployment in client.read_deployments(work_pool_filter=chosen):
        client.delete_deployment(deployment.id)
    client.delete_work_pool(registration.POOL)


def test_what_people_wait_for_begins_while_all_else_fills_its_queue(client: SyncPrefectClient, pool: str) -> None:
    flow = client.create_flow_from_name("queued")

    def ask_for(queue: str, count: int) -> list[UUID]:
        deployment = client.create_deployment(flow, f"{queue}-{uuid4()}", work_pool_name=pool, work_queue_name=queue)
        return [client.create_flow_run_from_deployment(deployment, state=Scheduled()).id for _ in range(count)]

    def begin(runs: list[UUID]) -> None:
        for run in runs:
            client.set_flow_run_state(run, Running(), force=True)

    def given() -> list[UUID]:
        """What a worker is given to begin, in this order."""
        return [entry.flow_run.id for entry in client.get_scheduled_flow_runs_for_work_pool(pool)]

    inferences = ask_for("inference", MANY)
    taken = given()
    assert sorted(taken) == sorted(inferences[:3])
    begin(taken)
    trainings, deployments = ask_for("training", MANY), ask_for("serving", MANY)
    taken = given()
    assert sorted(taken[:2]) == sorted(deployments[:2])
    assert sorted(taken[2:]) == sorted(trainings)  # a worker for trainings takes one
    begin(taken)
    assert given() == []

    checks, rollbacks = ask_for("interactive", 1), ask_for("rollback", 1)
    assert given() == [*rollbacks, *checks]


@pytest.mark.parametrize(("queue", "is_told"), [("training", True), ("serving", True), ("interactive", False)])
def test_the_log_of_a_late_run_names_the_runs_that_it_waits_for(
    client: SyncPrefectClient, pool: str, monkeypatch: pytest.MonkeyPatch, queue: str, *, is_told: bool
) -> None:
    """Once, in its log, by each run that holds the queue; one that has just come, or is for later, is not late.

    In a queue without a limit it waits for the worker, and for no run.
    """
    flow = client.create_flow_from_name("queued")
    deployment = client.create_deployment(flow, f"{uuid4()}", work_pool_name=pool, work_queue_name=queue)
    ahead = client.create_flow_run_from_deployment(deployment, state=Scheduled())
    client.set_flow_run_state(ahead.id, Running(), force=True)
    due = {
        name: client.create_flow_run_from_deployment(
            deployment, state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=seconds))
        ).id
        for name, seconds in (("late", -30), ("new", -1), ("for later", 600))
    }
    monkeypatch.setattr(waiting_runs, "flow_run_id", lambda: str(ahead.id))
    tell = waiting_runs.QueueNotice()
    tell()
    tell()
    told = {
        name: [log.message for log in client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))]
        for name, run in due.items()
    }
    assert told["new"] == told["for later"] == []
    assert len(told["late"]) == is_told
    assert all(line.startswith(f"waiting behind run '{ahead.name}', which began at ") for line in told["late"])


@pytest.mark.parametrize("ends_with", [None, StudioError("no"), KeyError("x")])
def test_every_flow_tells_the_late_for_as_long_as_it_runs(
    monkeypatch: pytest.MonkeyPatch, ends_with: Exception | None
) -> None:
    """A deployment as well as a training, whatever it is busy with; and not after its end."""
    told = threading.Semaphore(0)

    class Telling:
        def __call__(self) -> None:
            told.release()

    monkeypatch.setattr(waiting_runs, "QueueNotice", Telling)
    monkeypatch.setattr(waiting_runs, "LATE_S", 0.01)

    @outcome.fail_flow_with_message
    def story() -> State:
        assert told.acquire(timeout=5)
        if ends_with:
            raise ends_with
        return Running()

    with contextlib.suppress(KeyError, MissingContextError):
        story()
    assert [thread for thread in threading.enumerate() if thread.name == "queue notice"] == []
