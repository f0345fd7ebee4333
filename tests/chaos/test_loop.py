"""The loop, killed at each of its steps and while people review, ends as if nothing had happened."""

import io
import time
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import boto3
import httpx
import pytest
from mlflow import MlflowClient

from infra.stack_settings import StackSettings
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.serving import model_repository
from tests.chaos.steps import ENGINE, FLOW, kill, kill_service, processes, read, until
from tests.emitted import emitted, events
from tests.flows import loops, registered
from tests.flows.pipelines import children, title
from tests.flows.steps import UNCOMPARED, champion, deploy, served

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.fixture
def name(weights: tuple[Path, Path, Path], tmp_path: Path) -> str:
    """A model of which version 1 is served, and no other is there."""
    name = f"loop-{uuid4().hex[:8]}"
    registered.register(name, *weights[:2])
    model_repository.publish_version.fn(name, 1, weights[2])
    assert deploy(name, 1, **UNCOMPARED).is_completed()
    loops.store_data(name, tmp_path)
    return name


def until_alive(loop: UUID, what: Callable[[], object], why: str) -> None:
    """Wait for something about a loop that has not ended; a crashed one is carried on."""

    def attempt() -> object:
        try:
            state = read(loop).state
            assert state is None or not state.is_final() or state.is_crashed(), state
            return what()
        except (httpx.HTTPError, PrefectUnavailableError):  # the server is what was killed
            return None

    until(attempt, why)


def goes_on(loop: UUID, name: str, victim: str) -> bool:
    """Whether this part does, and what is to be killed is there.

    A loop whose worker has been killed dies when it next says something, and may miss a whole part until it is back.
    """
    found = loops.part(loop, name)
    is_there = victim != FLOW or bool(processes(loop, ENGINE))
    return found is not None and found.state_name == "Running" and is_there


def made_by(loop: UUID, name: str) -> dict[str, list[int]]:
    """Of each archive that a loop has made, by kind: the CRC-32 of each image in it."""
    store, prefix, found = boto3.client("s3"), f"loops/{name}/{str(loop)[:8]}-", {}
    for entry in store.list_objects_v2(Bucket="datasets", Prefix=prefix)["Contents"]:
        body = store.get_object(Bucket="datasets", Key=entry["Key"])["Body"].read()
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            images = [each.CRC for each in archive.infolist() if each.filename.startswith("images/")]
        found[entry["Key"].removeprefix(prefix)] = images
        verdict = emitted("dataset.validated", f"dataset:{sha256(body).hexdigest()}")
        assert verdict["resource"]["landed"] == "false", "no other pipeline trains on it"
    return found


@pytest.mark.parametrize(("victim", "while_suspended"), [(FLOW, "prefect"), ("worker", "worker")])
def test_a_loop_ends_right_although_it_is_killed_at_each_step(
    stack: StackSettings, name: str, victim: str, while_suspended: str
) -> None:
    loop = loops.start(name)
    for step in (f"label with {name}", f"select images for {name}", f"review for {name}"):
        kill_while(stack, loop, step, victim)

    until_alive(loop, lambda: loops.waits(loop), "the loop waits for people, without a process")
    review = loops.part(loop, f"review for {name}")
    assert review
    until(lambda: loops.waits(review.id), "the review does, too")
    kill_service(stack, while_suspended)
    print(f"\nloop | {while_suspended} killed while people review")
    images = loops.answer_all(stack, review.id)

    for step in (f"train {name}", f"deploy {name} version 2"):
        kill_while(stack, loop, step, victim)
    until(lambda: has_ended(loop), "the loop has ended")
    state = read(loop).state
    assert state
    print(f"\nloop | {victim} killed at each step | {state.name}, attempt {read(loop).run_count}")
    assert (state.name, champion(name), served(name)) == ("Completed", "2", [2]), state

    parts = [each for each in children(loop) if not title(each).startswith("check")]
    counts = {title(each): each.run_count for each in parts}
    assert len(counts) == len(parts) == 5, "none was started twice"
    assert max(counts.values()) <= (1 if victim == FLOW else 2), "a worker takes with it what it carries out"
    trained = next(each for each in parts if title(each).startswith("train"))
    versions = MlflowClient().search_model_versions(f"name = '{name}'")
    assert {each.version: each.tags["flow_run_id"] for each in versions}["2"] == str(trained.id)
    assert len(versions) == 2
    for event in ("model.promoted", "model.deployed"):
        emitted(event, f"version:{name}/2")
    assert len(events("review.wanted", f"review:{review.id}")) == 1
    made = made_by(loop, name)
    assert set(made) == {"labelled.zip", "reviewed.zip"}
    assert len(made["reviewed.zip"]) == len(set(made["reviewed.zip"])) == images == loops.REVIEWED
    assert made["labelled.zip"]
    assert not set(made["labelled.zip"]) & set(made["reviewed.zip"])


def kill_while(stack: StackSettings, loop: UUID, step: str, victim: str) -> None:
    """Kill a part of the stack while a loop waits for a run that goes on."""
    until_alive(loop, lambda: goes_on(loop, step, victim), f"'{step}' goes on")
    if victim == FLOW or processes(loop, ENGINE):
        kill(stack, victim, loop)
    else:  # it died with its worker before, and waits for one
        kill_service(stack, victim)
    began, before = time.monotonic(), read(loop).run_count
    if victim == FLOW:
        until_alive(loop, lambda: read(loop).run_count > before, "a worker has the loop again")
    print(f"\nloop | {victim} killed while it waits for '{step}' | {time.monotonic() - began:.0f} s after")


def has_ended(loop: UUID) -> bool:
    state = read(loop).state
    assert state is None or not state.is_failed(), state
    return state is not None and state.is_completed()
