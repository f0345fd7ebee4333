"""Batch inference through the deployment, on workers, while everything is killed: nothing lost, nothing twice."""

import io
import json
import re
import time
from uuid import UUID

import boto3
import cv2
import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.states import Scheduled

from infra.stack_settings import StackSettings
from tasks.inference.work_plan import IMAGES_PER_CHUNK
from tasks.orchestration import deployed_flows
from tests.chaos.steps import ENGINE, Workers, completed, kill_service, processes, read, set_state, until
from tests.flows.registered import pictures
from tests.flows.steps import UNCOMPARED, aside, champion, deploy, served, undeploy

pytestmark = pytest.mark.timeout(900)
IMAGES = 1500
CHUNKS = IMAGES // IMAGES_PER_CHUNK + 1  # the damaged one is among them
MEDIA = "many/"


@pytest.fixture(scope="module", autouse=True)
def media(stack: object) -> None:  # noqa: ARG001
    """So many images that there is time to kill something, and a damaged one."""
    store, bodies = boto3.client("s3"), [_jpeg(picture) for picture in pictures(8)]
    for number in range(IMAGES):
        store.put_object(Bucket="media", Key=f"{MEDIA}{number:05d}.jpg", Body=bodies[number % len(bodies)])
    store.put_object(Bucket="media", Key=f"{MEDIA}damaged.jpg", Body=bodies[0][:400])


def _jpeg(picture: object) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()  # type: ignore[call-overload, no-any-return]


def start(model: str, **params: object) -> UUID:
    inference = {"confidence": 0.01, "annotate": False, **params}
    return deployed_flows.start("run-inference", {"model_name": model, "inputs": [MEDIA], "inference": inference})


def parts(run: UUID) -> int:
    """Chunks of a run that are done and not merged yet."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="runs", Prefix=f"{run}/inference/")
    return sum("/parts/" in entry["Key"] for page in pages for entry in page.get("Contents", []))


def result(run: UUID, name: str) -> bytes:
    return boto3.client("s3").get_object(Bucket="predictions", Key=f"{run}/{name}")["Body"].read()


def assert_whole(run: UUID, versions: set[int]) -> None:
    """Every input exactly once, in order, by these versions; nothing left of the work."""
    seen = pq.read_table(io.BytesIO(result(run, "pictures.parquet")))
    assert seen["source"].to_pylist() == [f"s3://media/{MEDIA}{number:05d}.jpg" for number in range(IMAGES)]
    rows = pq.read_table(io.BytesIO(result(run, "predictions.parquet")))
    assert rows.num_rows == sum(seen["detections"].to_pylist())
    assert set(seen["model_version"].to_pylist()) == versions == set(rows["model_version"].to_pylist())
    assert [json.loads(line)["input"] for line in result(run, "failures.jsonl").splitlines()] == [
        f"s3://media/{MEDIA}damaged.jpg"
    ]
    assert read(run).state_name == "Completed with 1 failures"
    assert parts(run) == 0


def kill_flow(run: UUID) -> None:
    (flow,) = processes(run, ENGINE)
    flow.kill()


@pytest.mark.heavy
def test_a_killed_run_goes_on_with_what_is_missing(model: str) -> None:
    """kill -9 of the flow's process twice; a worker gets the run back by itself."""
    run = start(model)
    for least in (3, 9):
        until(lambda least=least: parts(run) >= least, f"{least} chunks")  # type: ignore[misc]
        kill_flow(run)
        before, count = parts(run), read(run).run_count
        until(lambda count=count: read(run).run_count > count, "given back to a worker")  # type: ignore[misc]
        assert parts(run) >= before
    until(lambda: completed(run), "completed")
    assert_whole(run, {1})


@pytest.mark.heavy
@pytest.mark.parametrize("service", ["triton", "object-store"])
def test_a_service_that_is_killed_costs_nothing(stack: StackSettings, model: str, service: str) -> None:
    run = start(model)
    until(lambda: parts(run) >= 3, "3 chunks")
    kill_service(stack, service)
    until(lambda: completed(run), "completed")
    assert read(run).run_count == 1
    assert_whole(run, {1})


@pytest.mark.heavy
def test_a_run_finishes_on_the_version_that_it_began_with(model: str) -> None:
    """Under a name aside, after a deployment and after an undeployment; when it lets go, nothing is left."""
    run = start(model, tiles={"size": 160})  # tiles make it last
    until(lambda: parts(run) >= 2, "2 chunks")
    assert deploy(model, 2, **UNCOMPARED, drain_timeout_s=300.0).is_completed()
    assert (champion(model), served(model)) == ("2", [2])
    assert aside(model) == [f"{model}.1"]
    until(lambda: completed(run), "completed")
    assert_whole(run, {1})
    assert aside(model) == []

    run = start(model, tiles={"size": 160})
    until(lambda: parts(run) >= 2, "2 chunks")
    assert undeploy(model).is_completed()
    assert (served(model), aside(model)) == ([], [f"{model}.2"])
    assert parts(run) < CHUNKS
    until(lambda: completed(run), "completed")
    assert aside(model) == []
    assert_whole(run, {2})


@pytest.mark.heavy
def test_a_version_that_is_gone_is_followed_by_the_champion(model: str) -> None:
    """When the time is over for which it is kept: the champion answers the rest."""
    run = start(model, tiles={"size": 160})  # tiles make it last
    until(lambda: parts(run) >= 2, "2 chunks")
    assert deploy(model, 2, **UNCOMPARED, drain_timeout_s=1.0).is_completed()
    assert (champion(model), served(model)) == ("2", [2])
    assert parts(run) < CHUNKS
    until(lambda: completed(run), "completed")
    assert_whole(run, {1, 2})


@pytest.mark.heavy
def test_helpers_go_on_while_the_run_that_they_share_is_away(model: str) -> None:
    """kill -9 of the run that shares its work: nobody who helps waits for it, and it merges what all have done."""
    run = start(model, shards=2, tiles={"size": 96})  # tiles make it last; the stack's worker has room for all three
    until(lambda: len(at_work(run)) == 2, "both helpers are at work")
    before = parts(run)
    until(lambda: parts(run) >= before + 3, "all are at it")
    count = read(run).run_count
    kill_flow(run)
    until(lambda: not processes(run), "the run's own process is gone")
    before, began = parts(run), time.monotonic()
    until(lambda: read(run).run_count > count, "given back to a worker")
    after, busy, gone = parts(run), at_work(run), time.monotonic() - began
    print(f"{before} of {CHUNKS} chunks at the kill, {after} after {gone:.0f} s, when it was back; {len(busy)} at work")
    assert after > before
    idle = {read(helper).state_name for helper in helpers(run) if helper not in busy}
    assert idle <= {"Completed"}, "a helper has no process, and has not done its share"
    until(lambda: completed(run), "completed")
    until(lambda: all(is_final(helper) for helper in helpers(run)), "the helpers have ended")
    messages = [str(read(helper).state.message) for helper in helpers(run)]  # type: ignore[union-attr]
    print(f"helpers: {messages}")
    assert {read(helper).state_name for helper in helpers(run)} == {"Completed"}
    assert sum(chunks_done(message) > 0 for message in messages) >= 1
    assert_whole(run, {1})


def at_work(run: UUID) -> list[UUID]:
    """Runs that share the work of this one and have a process."""
    return [each for each in helpers(run) if read(each).state_name == "Running" and processes(each, ENGINE)]


def is_final(run: UUID) -> bool:
    state = read(run).state
    return state is not None and state.is_final()


def chunks_done(message: str) -> int:
    """What a helper says of itself at its end."""
    said = re.match(r"(\d+) chunks of flow run", message)
    return int(said[1]) if said else 0


@pytest.mark.heavy
def test_workers_share_a_run_and_one_may_die(workers: Workers, model: str) -> None:
    workers.start(queues=["inference"], limit=1)
    run = start(model, shards=2, tiles={"size": 96})  # tiles make it last
    until(lambda: processes(run, ENGINE), "the first worker is at it")
    second = workers.start(queues=["inference"], limit=2)
    until(lambda: len(at_work(run)) == 2, "the second is, with both helpers")
    before = parts(run)
    until(lambda: parts(run) >= before + 6, "all are at it")
    killed = at_work(run)
    assert len(killed) == 2
    workers.kill(second)
    assert not any(processes(helper) for helper in killed)
    began = time.monotonic()
    until(lambda: completed(run), "completed")
    print(f"completed {time.monotonic() - began:.0f} s after the second worker was killed")
    assert_whole(run, {1})


def helpers(run: UUID) -> list[UUID]:
    name = str(read(run).name)
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=f"{name}, share")))
    return [each.id for each in found]


@pytest.mark.heavy
def test_a_run_that_is_tried_again_when_all_is_done_changes_nothing(model: str) -> None:
    run = start(model)
    until(lambda: completed(run), "completed")
    before = result(run, "pictures.parquet")
    set_state(run, Scheduled())
    until(lambda: read(run).run_count == 2 and completed(run), "completed again")
    assert result(run, "pictures.parquet") == before
    assert_whole(run, {1})
