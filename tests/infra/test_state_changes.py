"""Automations change the state of a run that is in the state for which they wait, and of no other.

Prefect's server is stood in here for by what it answers; `test_automations.py` asks a real one.
"""

import asyncio
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.server.database.orm_models import FlowRun
from prefect.server.events import actions
from prefect.server.events.schemas.automations import Automation, TriggeredAction
from prefect.server.schemas.responses import OrchestrationResult
from prefect.server.schemas.states import StateType
from prefect.types._datetime import now

from infra import state_changes
from infra.stack_settings import ROOT
from infra.state_changes import act_on_present_states

RUN = uuid4()
AUTOMATIONS = {each["name"]: each for each in yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text())}
WAITED_FOR = {
    "crash-runs-that-never-begin": "PENDING",
    "crash-silent-flow-runs": "RUNNING",
    "cancel-runs-whose-worker-is-gone": "CANCELLING",
    "retry-crashed-runs": "CRASHED",
}
TYPES = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Server:
    """A client of Prefect's API, which gives one run other states."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def set_flow_run_state(self, run: UUID, state: Any, force: bool) -> httpx.Response:
        assert (run, force) == (RUN, False)
        self.wanted.append(state.type.value)
        accepted = OrchestrationResult(state=None, status="ACCEPT", details={"type": "accept_details"})
        return httpx.Response(201, json=accepted.model_dump(mode="json"))


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions.FlowRunStateChangeAction, "act", actions.FlowRunStateChangeAction.act)  # is put back
    act_on_present_states()


def acts(name: str, state: str | None, monkeypatch: pytest.MonkeyPatch, **trigger: object) -> list[str]:
    """The states that an automation of the file gives a run in this one; None: there is no such run."""
    clients: list[Server] = []

    async def client(*_: object) -> Server:
        clients.append(Server())
        return clients[-1]

    async def read_flow_run(_: object, run: UUID) -> FlowRun | None:
        assert run == RUN
        return FlowRun(state_type=StateType(state)) if state else None

    monkeypatch.setattr(actions.ChangeFlowRunState, "orchestration_client", client)
    monkeypatch.setattr(state_changes, "read_flow_run", read_flow_run)
    wanted = AUTOMATIONS[name]
    automation = Automation.model_validate(wanted | {"trigger": wanted["trigger"] | trigger})
    (action,) = automation.actions
    triggered = TriggeredAction(
        automation=automation,
        triggered=now("UTC"),
        triggering_labels={"prefect.resource.id": f"prefect.flow-run.{RUN}"},
        triggering_event=None,
        action=action,
    )
    try:
        asyncio.run(action.act(triggered))
    except actions.ActionFailed as error:
        assert "Expected a flow run that is" in str(error)  # noqa: PT017
    assert len(clients) <= 1  # to make one takes 0.1 s of the server's time
    return [state for each in clients for state in each.wanted]


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_a_run_in_another_state_than_the_one_waited_for_keeps_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an event of a worker elsewhere about a run that has completed, or waits for people."""
    (action,) = AUTOMATIONS[name]["actions"]
    for state in (*TYPES, None):
        expected = [action["state"]] if state == WAITED_FOR[name] else []
        assert acts(name, state, monkeypatch) == expected, state


def test_an_automation_of_somebody_else_acts_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acts("retry-crashed-runs", "FAILED", monkeypatch, after=["prefect.flow-run.Failed"]) == ["SCHEDULED"]
