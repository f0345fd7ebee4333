"""Automations that end runs or give them back do so only to a run that is in the state for which they wait.

An automation knows a run by events, which may be late, and which a worker elsewhere may send of runs that it has not:
heartbeats. What a run is, Prefect knows. So those of `deployments/automations.yaml`, each of which waits for
`studio.flow-run.<state>`, too, look at it before they act.
"""

from prefect.server.events.actions import ActionFailed, FlowRunStateChangeAction
from prefect.server.events.schemas.automations import EventTrigger, TriggeredAction

from tasks.orchestration.events import OF_STATES


def act_on_present_states() -> None:
    """Have each action that changes the state of a run fail if the run is in another state than its trigger names."""
    act = FlowRunStateChangeAction.act

    async def act_in_state(self: FlowRunStateChangeAction, triggered_action: TriggeredAction) -> None:
        states = states_of(_trigger_of(triggered_action))
        if states:
            run = await self.flow_run(triggered_action)
            async with await self.orchestration_client(triggered_action) as client:
                answer = await client.read_flow_run_raw(run)
            present = answer.json()["state_type"] if answer.is_success else f"status {answer.status_code}"
            if present not in states:
                raise ActionFailed(f"Expected a flow run that is {' or '.join(sorted(states))}, found {present}.")
        await act(self, triggered_action)

    FlowRunStateChangeAction.act = act_in_state  # type: ignore[method-assign]  # Prefect has no other way in


def states_of(trigger: object) -> set[str]:
    """Return the types of state in which a run is for which a trigger waits; none: it names no state."""
    after = trigger.after if isinstance(trigger, EventTrigger) else set[str]()
    return {event.removeprefix(OF_STATES).upper() for event in after if event.startswith(OF_STATES)}


def _trigger_of(triggered_action: TriggeredAction) -> object:
    return triggered_action.firing.trigger if triggered_action.firing else triggered_action.automation.trigger
