"""The patrol beside Prefect's server; what each of its actions does is tested where it is about a run."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Running, Suspended

from infra import patrol as patrol_module
from infra.patrol import (
    GIVEN_BACK,
    REVIEWS,
    cancel_left_runs,
    hasten_given_back_runs,
    patrol,
    resume_pipelines,
    resume_reviews,
)
from infra.stack_settings import ROOT
from tasks.orchestration import deployed_flows
from tasks.orchestration.child_runs import PIPELINE, child_tag
from tasks.review.deadlines import expiry_of
from tasks.review.label_studio import LabelStudioTool
from tasks.review.rounds import ToolName
from tests.cvat import TOKEN, Task, run_cvat


def test_a_server_that_is_away_is_visited_again_later(caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), caplog.at_level(logging.WARNING):
        patrol("http://127.0.0.1:9/api", None)
    assert [line.partition(":")[0] for line in caplog.messages] == [
        *("announce_active_runs", "hasten_given_back_runs", "answer_unanswered"),
        *("resume_pipelines", "resume_reviews", "cancel_left_runs"),
    ]


@pytest.fixture
def client(stack: object) -> Iterator[SyncPrefectClient]:  # noqa: ARG001
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def start(client: SyncPrefectClient) -> Iterator[Callable[..., UUID]]:
    """Starts a run of a deployment that no worker looks at; it is in this state then."""
    made = {}

    def start(flow: str, state: State, *tags: str) -> UUID:
        if flow not in made:
            made[flow] = client.create_deployment(client.create_flow_from_name(flow), str(uuid4()))
        run = client.create_flow_run_from_deployment(made[flow], tags=tags).id
        client.set_flow_run_state(run, state, force=True)
        return run

    yield start
    for deployment in made.values():
        client.delete_deployment(deployment)


def test_a_run_that_was_given_back_for_a_later_hour_begins_at_once(
    client: SyncPrefectClient, start: Callable[..., UUID]
) -> None:
    """The server's clock was an hour ahead when the automation did so. Who set a time himself has meant it."""
    automations = yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text())
    assert GIVEN_BACK in [action.get("message") for each in automations for action in each["actions"]]
    later = datetime.now(UTC) + timedelta(hours=1)
    given_back = start("crashed", AwaitingRetry(scheduled_time=later, message=GIVEN_BACK))
    meant = start("crashed", AwaitingRetry(scheduled_time=later, message="tomorrow"))
    hasten_given_back_runs()
    hastened = client.read_flow_run(given_back).next_scheduled_start_time
    assert hastened
    assert hastened <= datetime.now(UTC)
    assert client.read_flow_run(meant).next_scheduled_start_time == later


@pytest.mark.parametrize("waits", [AwaitingRetry(), Suspended()], ids=lambda state: state.name)
def test_a_pipeline_that_is_cancelled_without_a_process_leaves_no_run_behind(
    client: SyncPrefectClient, start: Callable[..., UUID], waits: State
) -> None:
    """No process of it is there that could cancel them."""
    pipeline = start("run-pipeline", waits)
    child = start("child", Running(), child_tag(PIPELINE, pipeline))
    other = start("child", Running())
    cancel_left_runs()
    assert client.read_flow_run(child).state_name == "Running"
    assert deployed_flows.cancel(pipeline) == "Cancelled"
    cancel_left_runs()
    assert client.read_flow_run(child).state_name == "Cancelling"
    assert client.read_flow_run(other).state_name == "Running"
    client.set_flow_run_state(child, Cancelled(), force=True)
    deployed_flows.retry(child)
    cancel_left_runs()
    assert client.read_flow_run(child).state_name == "AwaitingRetry"


@pytest.mark.parametrize("child_state", [Suspended(), Running(), Cancelled(), None], ids=str)
def test_a_suspended_pipeline_goes_on_with_the_run_that_it_waits_for(
    client: SyncPrefectClient, start: Callable[..., UUID], child_state: State | None
) -> None:
    """Also if that was deleted. One that a person has suspended, or that asks, stays so."""
    child = start("child", child_state) if child_state else uuid4()
    waits: State = Suspended()
    waits.state_details.child_flow_run_id = child
    pipeline = start("run-pipeline", waits)
    other = start("run-pipeline", Suspended())
    resume_pipelines()
    suspended = child_state is not None and child_state.is_paused()
    assert client.read_flow_run(pipeline).state_name == ("Suspended" if suspended else "Resuming")
    assert client.read_flow_run(other).state_name == "Suspended"


def test_a_review_in_cvat_waits_until_its_jobs_are_completed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a stand-in of it. While it is away, only its own rounds wait."""
    run, job = str(uuid4()), ["new"]
    with run_cvat() as server:
        monkeypatch.setenv("CVAT_URL", server.address)
        monkeypatch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
        assert not patrol_module._waits_for_people(run, ToolName.CVAT)  # its task was deleted: it is made anew
        server.tasks[1] = Task(1, f"review {run}", [], 1, jobs=job)
        assert patrol_module._waits_for_people(run, ToolName.CVAT)
        job[0] = "completed"
        assert not patrol_module._waits_for_people(run, ToolName.CVAT)
    with caplog.at_level(logging.WARNING):
        assert patrol_module._waits_for_people(run, ToolName.CVAT)
    assert f"review {run}: Expected an answer of CVAT" in caplog.text


@pytest.mark.parametrize(
    ("is_open", "hours", "name"), [(True, 1, "Suspended"), (False, 1, "Resuming"), (True, -1, "Resuming")]
)
def test_a_review_goes_on_when_nothing_is_open_or_its_time_is_over(
    client: SyncPrefectClient,
    start: Callable[..., UUID],
    monkeypatch: pytest.MonkeyPatch,
    is_open: bool,
    hours: float,
    name: str,
) -> None:
    """One that a person has suspended stays so, and so does a run of another flow."""
    monkeypatch.setattr(LabelStudioTool, "is_open", lambda *_: is_open)
    expiry = expiry_of(datetime.now(UTC) + timedelta(hours=hours))
    review = start(REVIEWS, Suspended(pause_expiration_time=expiry))
    by_hand = start(REVIEWS, Suspended())
    other = start("deploy-model", Suspended(pause_expiration_time=expiry))
    on_page: State[Any] = Suspended(pause_expiration_time=expiry)
    on_page.state_details.pause_key = ToolName.FRONT_PAGE  # the page itself has it go on
    page_review = start(REVIEWS, on_page)
    resume_reviews()
    assert client.read_flow_run(review).state_name == name
    assert client.read_flow_run(page_review).state_name == ("Suspended" if hours > 0 else "Resuming")
    assert {client.read_flow_run(run).state_name for run in (by_hand, other)} == {"Suspended"}
