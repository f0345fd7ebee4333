"""Pipelines through the deployment, on the stack's worker: what they start, and what of it is left when they stop."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Cancelling

from flows.run_pipeline import run_pipeline
from infra import patrol
from infra.stack_settings import StackSettings
from tasks.deployment import approval
from tasks.orchestration import deployed_flows, questions
from tests.chaos.steps import ENGINE, processes, read, set_state, until
from tests.emitted import events
from tests.flows.pipelines import QUICK_PIPELINE, children, store_data, title
from tests.flows.steps import champion

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def stored(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: ARG001
    store_data(tmp_path_factory.mktemp("data"), seed=1)


@pytest.fixture
def model() -> str:
    return f"pipe-{uuid4().hex[:8]}"


@pytest.fixture
def one_at_a_time(stack: StackSettings) -> Iterator[None]:  # noqa: ARG001
    """Pipelines go on one at a time."""
    with get_client(sync_client=True) as client:
        queue = client.read_work_queue_by_name("pipelines", work_pool_name="gpu")
        client.update_work_queue(queue.id, concurrency_limit=1)
        yield
        client.update_work_queue(queue.id, concurrency_limit=queue.concurrency_limit)


def start(model: str, archives: list[str], **parameters: Any) -> UUID:
    chosen = QUICK_PIPELINE | {"inputs": [], "model_name": model, "archives": archives} | parameters
    return deployed_flows.start("run-pipeline", chosen)


def ended(run: UUID) -> State:
    until(lambda: is_final(run), "the pipeline has ended")
    state = read(run).state
    assert state is not None
    return state


def is_final(run: UUID) -> bool:
    state = read(run).state
    return state is not None and state.is_final() and not state.is_crashed()


def by_title(run: UUID) -> dict[str, FlowRun]:
    return {title(each): each for each in children(run)}


def page(run: UUID) -> str:
    """The newest page of a pipeline."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]), key=ArtifactFilterKey(any_=["pipeline"]))
    with get_client(sync_client=True) as client:
        newest = max(client.read_artifacts(artifact_filter=chosen), key=lambda each: each.created)  # type: ignore[arg-type, return-value]
    return str(newest.data)


def goes_on(run: UUID, title: str) -> bool:
    child = by_title(run).get(title)
    return child is not None and child.state_name == "Running"


def kill(run: UUID) -> None:
    """End the pipeline's process as the kernel would."""
    (process,) = processes(run, ENGINE)
    process.kill()


@pytest.mark.heavy
def test_a_pipeline_that_is_killed_waits_for_the_same_runs(model: str) -> None:
    """And the one after it, which does not make a better version, checks nothing again and deploys nothing."""
    run = start(model, ["pipe-*.zip"], inputs=["pipe/"])
    until(lambda: goes_on(run, f"train {model}"), "the training goes on")
    kill(run)
    state = ended(run)
    assert state.name == "Completed", state
    assert "version 1 is served" in str(state.message)
    assert read(run).run_count >= 2
    found = by_title(run)
    assert set(found) == {
        *("check pipe-a.zip", "check pipe-b.zip", f"train {model}"),
        *(f"deploy {model} version 1", f"detect with {model}"),
    }
    assert [each.run_count for each in found.values()] == [1] * len(found)
    assert champion(model) == "1"
    text = page(run)
    assert all(f"/runs/flow-run/{each.id}" in text for each in found.values())

    worse = start(model, ["champion+", "pipe-a.zip"], promotion={"min_gain": 1.0})
    state = ended(worse)
    assert (state.type.value, state.name) == ("COMPLETED", "Not better")
    assert "version 2 is not deployed" in str(state.message)
    assert set(by_title(worse)) == {f"train {model}"}
    assert champion(model) == "1"
    assert all(str(found[f"check {name}"].id) in page(worse) for name in ("pipe-a.zip", "pipe-b.zip"))


def test_an_invalid_archive_stops_the_pipeline_with_its_report(model: str) -> None:
    run = start(model, ["pipe-a.zip", "broken/*.zip"])
    state = ended(run)
    assert state.is_failed()
    check = by_title(run)["check broken/x.zip"]
    assert "broken/x.zip (http" in str(state.message)
    assert str(check.id) in str(state.message)
    assert "train" not in " ".join(by_title(run))


@pytest.mark.heavy
def test_a_failed_pipeline_that_is_retried_tries_the_failed_run_again(model: str) -> None:
    run = start(model, ["pipe-a.zip"], base_model="absent.pt")
    state = ended(run)
    assert state.is_failed()
    training = by_title(run)[f"train {model}"]
    assert f"train {model}" in str(state.message)
    assert "absent.pt" in str(state.message)
    assert str(training.id) in str(state.message)

    set_state(run, AwaitingRetry())
    until(lambda: read(run).run_count == 2 and is_final(run), "the pipeline has ended again")
    assert by_title(run)[f"train {model}"].id == training.id
    assert read(training.id).run_count == 2


def test_a_cancelled_pipeline_cancels_its_runs(model: str) -> None:
    run = start(model, ["pipe-a.zip"], training=QUICK_PIPELINE["training"] | {"epochs": 500})
    until(lambda: goes_on(run, f"train {model}"), "the training goes on")
    set_state(run, Cancelling())
    until(lambda: read(run).state_name == "Cancelled", "the pipeline is cancelled")
    until(lambda: by_title(run)[f"train {model}"].state_name == "Cancelled", "the training is cancelled")


def waits(run: UUID, times: int = 1) -> bool:
    """Whether it is suspended, for this time, and no process of it lives."""
    with get_client(sync_client=True) as client:
        names = [state.name for state in client.read_flow_run_states(run)]
    assert not {"Completed", "Failed"} & set(names), names
    return names.count("Suspended") == times and names[-1] == "Suspended" and not processes(run)


@pytest.mark.heavy
def test_a_pipeline_that_waits_for_a_person_takes_no_place(model: str, one_at_a_time: None) -> None:  # noqa: ARG001
    """The second one begins when the first one waits; one goes on with the answer, the other is cancelled."""
    other = f"{model}-b"
    serving = QUICK_PIPELINE["serving"] | {"approval": True}
    run, cancelled = (start(each, ["pipe-a.zip"], serving=serving) for each in (model, other))
    until(lambda: waits(run), "the pipeline waits")
    asks = by_title(run)[f"deploy {model} version 1"].id
    assert {run, asks} & {each.run for each in questions.list_open_questions()} == {asks}
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run)  # as a person may do, which answers nothing
    until(lambda: waits(cancelled), "the other one waits")
    until(lambda: waits(run, 2), "the first one waits again")

    assert deployed_flows.cancel(cancelled) == "Cancelled"
    patrol.cancel_left_runs()
    assert by_title(cancelled)[f"deploy {other} version 1"].state_name == "Cancelled"
    approval.answer(asks, True, "Ann")
    patrol.resume_pipelines()
    assert ended(run).message == f"{model} version 1 is served and is the champion"
    assert [each.run_count for title, each in by_title(run).items() if title.startswith("train")] == [1]
    assert len(events("approval.wanted", f"version:{model}/1")) == 1


@pytest.mark.parametrize(
    ("archives", "expected"),
    [
        (["nothing-*.zip"], ["s3://datasets/nothing-*.zip", "found none"]),
        (["champion+"], ["have a champion for champion+, found none"]),
        (["pipe-a.zip", "s3://datasets/pipe-a.zip"], ["'pipe-a.zip' named twice"]),
        (["absent.zip", "nothing-*.zip", "s3://mlflow/x"], ["absent.zip", "nothing-*.zip", "no run reads bucket"]),
    ],
)
def test_archives_that_cannot_be_are_named_before_anything_is_started(
    model: str, archives: list[str], expected: list[str]
) -> None:
    state = run_pipeline(model, archives, return_state=True)
    assert state.is_failed()
    assert [text for text in expected if text not in str(state.message)] == []
    assert "pipeline" not in str(state.message).split("Expected", maxsplit=1)[0]
