"""Automations change the state of a run that is in the state for which they wait, and of no other.

Prefect's server is stood in here for by what it answers; `test_automations.py` asks a real one.
"""

import asyncio
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.server.events import actions
from prefect.server.events.schemas.automations import Automation, TriggeredAction
from prefect.server.schemas.responses import OrchestrationResult
from prefect.types._datetime import now

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
    """A client of Prefect's server, which knows one run."""

    def __init__(self, state: str | None) -> None:
        self.state = state
        self.wanted: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read_flow_run_raw(self, run: UUID) -> httpx.Response:
        assert run == RUN
        return httpx.Response(200, json={"state_type": self.state}) if self.state else httpx.Response(404)

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
    """The states that an automation of the file gives a run in this one."""
    server = Server(state)

    async def client(*_: object) -> Server:
        return server

    monkeypatch.setattr(actions.ChangeFlowRunState, "orchestration_client", client)
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
    return server.wanted


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_a_run_in_another_state_than_the_one_waited_for_keeps_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an event of a worker elsewhere about a run that has completed, or waits for people."""
    (action,) = AUTOMATIONS[name]["actions"]
    for state in (*TYPES, None):
        expected = [action["state"]] if state == WAITED_FOR[name] else []
        assert acts(name, state, monkeypatch) == expected, state


def test_an_automation_of_somebody_else_acts_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acts("retry-crashed-runs", "FAILED", monkeypatch, after=["prefect.flow-run.Failed"]) == ["SCHEDULED"]
