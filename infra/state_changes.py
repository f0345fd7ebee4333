"""Automations that end runs or give them back do so only to a run that is in the state for which they wait.

An automation knows a run by events, which may be late, and which a worker elsewhere may send of runs that it has not:
heartbeats. What a run is, Prefect knows. So those of `deployments/automations.yaml`, each of which waits for
`studio.flow-run.<state>`, too, look at it before they act.
"""

from uuid import UUID

from prefect.server.database import provide_database_interface
from prefect.server.events.actions import ActionFailed, FlowRunStateChangeAction
from prefect.server.events.schemas.automations import EventTrigger, TriggeredAction
from prefect.server.models.flow_runs import read_flow_run

from tasks.orchestration.events import OF_STATES


def act_on_present_states() -> None:
    """Have each action that changes the state of a run fail if the run is in another state than its trigger names."""
    act = FlowRunStateChangeAction.act

    async def act_in_state(self: FlowRunStateChangeAction, triggered_action: TriggeredAction) -> None:
        states = states_of(_trigger_of(triggered_action))
        if states:
            present = await _present_state(await self.flow_run(triggered_action))
            if present not in states:
                raise ActionFailed(f"Expected a flow run that is {' or '.join(sorted(states))}, found {present}.")
        await act(self, triggered_action)

    FlowRunStateChangeAction.act = act_in_state  # type: ignore[method-assign]  # Prefect has no other way in


def states_of(trigger: object) -> set[str]:
    """Return the types of state in which a run is for which a trigger waits; none: it names no state."""
    after = trigger.after if isinstance(trigger, EventTrigger) else set[str]()
    return {event.removeprefix(OF_STATES).upper() for event in after if event.startswith(OF_STATES)}


async def _present_state(run: UUID) -> str:
    """The type of the state of a run, from the database: a client of Prefect's API makes a whole application first."""
    async with provide_database_interface().session_context() as session:
        found = await read_flow_run(session, run)  # type: ignore[attr-defined]  # its decorator hides what it returns
    return found.state_type.value if found and found.state_type else "none"


def _trigger_of(triggered_action: TriggeredAction) -> object:
    return triggered_action.firing.trigger if triggered_action.firing else triggered_action.automation.trigger
