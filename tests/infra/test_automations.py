"""Runs that have stopped moving: what deployments/automations.yaml makes of each of them.

No flow runs here: its states and heartbeats are told to the server as a worker and a process tell them.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import RelatedResource, Resource
from prefect.states import Scheduled

from infra import patrol
from infra.stack_settings import ROOT
from infra.state_changes import states_of
from tasks.orchestration.prefect_client import fail_fast_client
from tests.waiting import eventually

BEAT, LEFT, PULLED = "prefect.flow-run.heartbeat", "studio.flow-run.left", "prefect.flow-run.pull-step.executed"
CRASHED = "prefect.flow-run.Crashed"
SHORTEST_S = 10  # that Prefect takes for `within`
DEADLINE_S = 60

TYPES = {
    "Scheduled": StateType.SCHEDULED,
    "Late": StateType.SCHEDULED,
    "AwaitingRetry": StateType.SCHEDULED,
    "Resuming": StateType.SCHEDULED,
    "Pending": StateType.PENDING,
    "Submitting": StateType.PENDING,
    "InfrastructurePending": StateType.PENDING,
    "Running": StateType.RUNNING,
    "Rerunning": StateType.RUNNING,
    "Retrying": StateType.RUNNING,
    "Suspended": StateType.PAUSED,
    "Cancelling": StateType.CANCELLING,
    "Crashed": StateType.CRASHED,
    "Completed": StateType.COMPLETED,
    "Cancelled": StateType.CANCELLED,
}

# The flow, what a run of it went through before it stopped, and the state in which it must end. One that may wait, for
# a worker or for a person, must be let alone.
STOPPED = {
    "taken by a worker that died": ("validate-dataset", "Pending", "Crashed"),
    "its command ended at once": ("validate-dataset", "Pending Submitting", "Crashed"),
    "its container never came": ("train-model", "Pending Submitting InfrastructurePending", "Crashed"),
    "died while its code was loaded": ("validate-dataset", f"Pending Submitting {PULLED}", "Crashed"),
    "died before its first heartbeat": ("validate-dataset", "Pending Submitting Running", "AwaitingRetry"),
    "died later": ("validate-dataset", f"Pending Submitting Running {BEAT} {BEAT}", "AwaitingRetry"),
    "a rollout died": ("deploy-model", f"Pending Submitting Running {BEAT} {BEAT}", "AwaitingRetry"),
    "died in a second attempt": ("validate-dataset", f"Pending Running {BEAT} Pending Rerunning", "AwaitingRetry"),
    "died in a retry": ("validate-dataset", f"Pending Running {BEAT} AwaitingRetry Retrying", "AwaitingRetry"),
    "a training died": ("train-model", f"Pending Submitting Running {BEAT}", "AwaitingRetry"),
    "an inference died": ("run-inference", "Pending Submitting Running", "AwaitingRetry"),
    "cancelled, its worker is gone": ("train-model", f"Pending Running {BEAT} Cancelling", "Cancelled"),
    "cancelled, and died late": ("train-model", f"Pending Running Cancelling {BEAT}", "Cancelled"),
    "cancelled before it began": ("train-model", "Pending Submitting Cancelling", "Cancelled"),
    "for later": ("train-model", "Scheduled", "Scheduled"),
    "nobody takes it": ("train-model", "Scheduled Late", "Late"),
    "nobody takes it again": ("train-model", "Pending Running Crashed AwaitingRetry", "AwaitingRetry"),
    "suspended": ("train-model", f"Pending Running {BEAT} Suspended", "Suspended"),
    "suspended, and left later": ("train-model", f"Pending Running Suspended {BEAT} {LEFT}", "Suspended"),
    "a deployment waits for approval": ("deploy-model", f"Pending Running {BEAT} Suspended {LEFT}", "Suspended"),
    "suspended, somebody else sends its heartbeat": (
        "deploy-model",
        f"Pending Running Suspended {LEFT} {BEAT}",
        "Suspended",
    ),
    "completed, somebody else sends its heartbeat": ("train-model", f"Pending Running Completed {BEAT}", "Completed"),
    "completed, somebody else says that it crashed": (
        "train-model",
        f"Pending Running Completed {CRASHED}",
        "Completed",
    ),
    "nobody resumes it": ("train-model", f"Pending Running Suspended {LEFT} Resuming", "Resuming"),
}


def automations() -> list[dict[str, Any]]:
    """What the file says."""
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text())
    return found


def of_flow(name: str) -> dict[str, str]:
    return {
        "prefect.resource.id": f"prefect.flow.{name}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": name,
    }


# ---- by Prefect's own rules of what begins and what satisfies a trigger ----------------------------------------------


def trigger_of(automation: dict[str, Any]) -> EventTrigger:
    return EventTrigger.model_validate(automation["trigger"])


def fires(trigger: EventTrigger, flow: str, steps: list[str], began: int = 0) -> bool:
    """Whether nothing came that the trigger expects, since it began to wait; the run `began` so often before."""
    attempts = began + sum(TYPES.get(step) == StateType.RUNNING for step in steps)
    if not trigger.covers_resources(
        Resource({"prefect.resource.id": "prefect.flow-run.x", "prefect.run-count": str(attempts)}),
        [RelatedResource(of_flow(flow))],
    ):
        return False
    waits = False
    for step in steps:
        event = f"prefect.flow-run.{step}" if step[0].isupper() else step
        waits = trigger.starts_after(event) or (waits and not trigger.expects(event))
    return waits


def ended(flow: str, steps: list[str]) -> str:
    """The state of a run after all that automations do about it."""
    for automation in automations():
        (action,) = automation["actions"]
        new = action.get("name") or action["state"].title()
        state = [step for step in steps if step[0].isupper()][-1]
        if TYPES[state].value not in states_of(trigger_of(automation)):
            continue  # the action refuses it
        if fires(trigger_of(automation), flow, steps):
            return ended(flow, [*steps, new])
    return [step for step in steps if step[0].isupper()][-1]


def test_all_flows_of_ours_are_looked_after_and_no_others() -> None:
    """Those of others on the same server may send heartbeats less often, or none."""
    ours = {path.stem.replace("_", "-") for path in (ROOT / "flows").glob("[a-z]*.py")}
    for automation in automations():
        names = set(automation["trigger"]["match_related"]["prefect.resource.name"])
        assert names == ours
    assert ended("somebody-elses", ["Pending", "Running", BEAT]) == "Running"


@pytest.mark.parametrize("name", STOPPED)
def test_each_way_to_stop_has_its_automation(name: str) -> None:
    flow, steps, end = STOPPED[name]
    assert ended(flow, steps.split()) == end


@pytest.mark.parametrize(
    ("state", "end"),
    [("Pending", "Crashed"), ("Running", "Crashed"), ("Cancelling", "Cancelled"), ("Crashed", "AwaitingRetry")],
)
def test_a_run_whose_events_were_lost_has_its_automation_all_the_same(state: str, end: str) -> None:
    told = f"studio.flow-run.{state.lower()}"
    began = {"Pending": 0}.get(state, 1)
    (act,) = [each for each in automations() if fires(trigger_of(each), "train-model", [told], began)]
    (action,) = act["actions"]
    assert (action.get("name") or action["state"].title()) == end
    for each in automations():
        assert not fires(trigger_of(each), "train-model", [told, "studio.flow-run.changed"], began)
        assert not fires(trigger_of(each), "train-model", [told, "Cancelled"], began)


# ---- on the server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(client: SyncPrefectClient) -> Iterator[dict[str, UUID]]:
    """A run for each way to stop, of deployments that no worker looks at."""
    flows = {flow for flow, _, _ in STOPPED.values()}
    mark = uuid4().hex[:8]
    later: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))
    made = {flow: client.create_deployment(client.create_flow_from_name(flow), f"{flow}-{mark}") for flow in flows}
    yield {
        name: client.create_flow_run_from_deployment(made[flow], state=later).id
        for name, (flow, _, _) in STOPPED.items()
    }
    for deployment in made.values():
        client.delete_deployment(deployment)


@pytest.fixture
def quick(client: SyncPrefectClient, runs: dict[str, UUID]) -> Iterator[None]:
    """The automations of the file with the shortest time, for these runs alone."""
    made = []
    for wanted in automations():
        trigger = wanted["trigger"]
        match = trigger["match"] | {"prefect.resource.id": [f"prefect.flow-run.{run}" for run in runs.values()]}
        body = wanted | {"name": str(uuid4()), "trigger": trigger | {"within": SHORTEST_S, "match": match}}
        made.append(client.request("POST", "/automations/", json=body).json()["id"])
    yield
    for automation in made:
        client.request("DELETE", f"/automations/{automation}")  # type: ignore[arg-type]


def take(client: SyncPrefectClient, run: UUID, flow: str, step: str, ahead: timedelta = timedelta()) -> None:
    """What a worker or a process tells the server, whose clock may be ahead of the server's."""
    if step in TYPES:
        later: State[Any] = State(type=TYPES[step], name=step)
        later.state_details = StateDetails(
            scheduled_time=datetime.now(UTC) + timedelta(hours=1)
        )  # or it would be called Late
        client.set_flow_run_state(run, later, force=True)
        return
    event = {
        "id": str(uuid4()),
        "occurred": (datetime.now(UTC) + ahead).isoformat(),
        "event": step,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [of_flow(flow)],
    }
    client.request("POST", "/events", json=[event])


@pytest.mark.heavy
def test_a_run_that_stopped_is_brought_to_an_end_and_one_that_waits_is_let_alone(
    client: SyncPrefectClient,
    runs: dict[str, UUID],
    quick: None,  # noqa: ARG001
) -> None:
    for name, (flow, steps, _) in STOPPED.items():
        for step in steps.split():
            take(client, runs[name], flow, step)
    settled = time.monotonic() + 3.5 * SHORTEST_S  # a crash and a retry later
    expected = {name: end for name, (_, _, end) in STOPPED.items()}

    def states() -> dict[str, str | None]:
        return {name: client.read_flow_run(run).state_name for name, run in runs.items()}

    with contextlib.suppress(AssertionError):  # the comparison below says which run differs
        eventually(lambda: time.monotonic() > settled and states() == expected, "every run has its state", DEADLINE_S)
    assert states() == expected


@pytest.mark.heavy
def test_runs_whose_events_the_server_lost_are_brought_to_an_end(
    client: SyncPrefectClient, runs: dict[str, UUID], request: pytest.FixtureRequest
) -> None:
    """Their states were set before the automations were there, which is as if a server had died with their events."""
    lost = {
        "a training died": ("Pending Running", "AwaitingRetry"),
        "taken by a worker that died": ("Pending", "Crashed"),
        "cancelled, its worker is gone": ("Pending Running Cancelling", "Cancelled"),
        "an inference died": ("Pending Running Crashed", "AwaitingRetry"),
        "suspended": ("Pending Running Suspended", "Suspended"),
    }
    for name, (steps, _) in lost.items():
        for step in steps.split():
            take(client, runs[name], STOPPED[name][0], step)
    time.sleep(1)  # what the server does with these states is done before the automations are made
    request.getfixturevalue("quick")
    began = time.monotonic()
    patrol.announce_active_runs()

    def states() -> dict[str, str | None]:
        return {name: client.read_flow_run(runs[name]).state_name for name in lost}

    expected = {name: end for name, (_, end) in lost.items()}
    eventually(lambda: time.monotonic() - began > SHORTEST_S and states() == expected, "their states", DEADLINE_S)


@pytest.mark.heavy
def test_a_run_that_changes_while_it_is_announced_is_let_alone(
    client: SyncPrefectClient,
    runs: dict[str, UUID],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is suspended after it was read as Running, and before its event is there: nobody waits for its heartbeat."""
    run = runs["suspended"]
    take(client, run, "train-model", "Running")
    time.sleep(1)
    request.getfixturevalue("quick")

    def suspend(outgoing: httpx.Request) -> None:
        if outgoing.url.path.endswith("/events"):
            events.append(outgoing)
        if len(events) == 1:
            take(client, run, "train-model", "Suspended")

    events: list[httpx.Request] = []
    with monkeypatch.context() as patched:
        patched.setattr(fail_fast_client()._client, "event_hooks", {"request": [suspend]})
        patrol.announce_active_runs()
    assert len(events) == 2
    time.sleep(1.5 * SHORTEST_S)
    assert client.read_flow_run(run).state_name == "Suspended"


@pytest.mark.heavy
@pytest.mark.usefixtures("quick")
def test_a_machine_with_a_wrong_clock_loses_no_run_that_lives_and_hides_none_that_died(
    client: SyncPrefectClient, runs: dict[str, UUID]
) -> None:
    clocks = {"died later": timedelta(hours=-1), "a training died": timedelta(hours=1)}
    flows = {name: STOPPED[name][0] for name in clocks}
    for name, flow in flows.items():
        for step in ("Pending", "Running"):
            take(client, runs[name], flow, step)

    def states() -> set[str | None]:
        return {client.read_flow_run(runs[name]).state_name for name in clocks}

    for _ in range(8):  # over more than twice the time without one
        for name, ahead in clocks.items():
            take(client, runs[name], flows[name], BEAT, ahead)
        time.sleep(SHORTEST_S / 3)
        assert states() == {"Running"}
    eventually(lambda: states() == {"AwaitingRetry"}, "both are noticed", DEADLINE_S)
