"""What neither Prefect's server nor its automations do by themselves, done beside the server once a minute."""

import logging
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterNextScheduledStartTime,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry

from tasks.deployment.approval_form import unanswered
from tasks.errors import StudioError
from tasks.orchestration import child_runs, events, questions
from tasks.orchestration.events import Resource
from tasks.orchestration.prefect_client import in_state, list_flow_runs, patient_client, read_flow_runs
from tasks.orchestration.suspension import awaited_run, place_of
from tasks.review import deadlines
from tasks.review.rounds import ToolName
from tasks.review.tools import tool_of

EVERY_S = 60.0
CRASHED_SINCE = timedelta(hours=1)  # an older one was left to a person
CANCELLED_SINCE = timedelta(days=1)  # longer than the server is away
SOON = timedelta(minutes=10)
GIVEN_BACK = "The process of this run died. Carrying on from what it had done."  # in deployments/automations.yaml
CHANGED = "changed"
ASKING_S = 10.0  # for which a tool may think, while nobody else is visited
REVIEWS = "review-images"
_ACTIVE = in_state(StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def patrol(api: str, auth: str | None) -> None:
    """Go round once, and never raise: what fails is tried again a minute later.

    Args:
        api: Address of Prefect's API.
        auth: `user:password`, if it asks for one.
    """
    with temporary_settings({PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: auth}):
        for action in (
            announce_active_runs,
            hasten_given_back_runs,
            answer_unanswered,
            resume_pipelines,
            resume_reviews,
            cancel_left_runs,
        ):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whatever a client raises
                logging.getLogger(__name__).warning("%s: %s", action.__name__, error)


def announce_active_runs() -> None:
    """Send an event for each run that is active, or has crashed of late.

    The server holds events, and what automations are about to do, in memory for a moment: if it ends then, nobody waits
    for the heartbeat of a run whose process has died meanwhile. `deployments/automations.yaml` begins to wait with
    these events, too, if it does not wait already. A run may change before its event is there. So they are read again,
    and an event takes back what was wrong.

    Raises:
        StudioError: The server does not answer.
    """
    since = FlowRunFilterEndTime(after_=datetime.now(UTC) - CRASHED_SINCE)
    crashed = FlowRunFilter(state=in_state(StateType.CRASHED), end_time=since)
    runs = [*list_flow_runs(FlowRunFilter(state=_ACTIVE)), *list_flow_runs(crashed)]
    if not runs:
        return
    chosen = FlowFilter(id=FlowFilterId(any_=list({run.flow_id for run in runs})))
    with patient_client() as client:
        names = {flow.id: flow.name for flow in client.read_flows(flow_filter=chosen)}
    events.post(_event(run, StateType(run.state_type).value.lower(), names[run.flow_id]) for run in runs)
    now = {run.id: run.state_type for run in read_flow_runs([run.id for run in runs])}
    events.post(_event(run, CHANGED, names[run.flow_id]) for run in runs if now.get(run.id) != run.state_type)


def _event(run: FlowRun, name: str, flow: str) -> dict[str, Any]:
    resource = Resource(
        id=f"prefect.flow-run.{run.id}", name=run.name, labels={"prefect.run-count": str(run.run_count)}
    )
    of_flow = Resource(id=f"prefect.flow.{run.flow_id}", name=flow)
    return events.build(f"{events.OF_STATES}{name}", resource, [of_flow.to_json("flow")])


def hasten_given_back_runs() -> None:
    """Have the runs begin now that automations have given back to a worker for a time that is not soon.

    They do so for the moment, so the clock of the server has gone back since: one that jumped on by an hour has each
    run at work crash, and they would wait for that hour.

    Raises:
        StudioError: The server does not answer.
    """
    now = datetime.now(UTC)
    later = FlowRunFilterNextScheduledStartTime(after_=now + SOON)
    waiting = FlowRunFilter(state=in_state(StateType.SCHEDULED), next_scheduled_start_time=later)
    for run in list_flow_runs(waiting):
        if run.state and run.state.message == GIVEN_BACK:
            with patient_client() as client:
                client.set_flow_run_state(run.id, AwaitingRetry(scheduled_time=now, message=GIVEN_BACK))


def answer_unanswered(now: datetime | None = None) -> None:
    """Give the answer of nobody, which refuses, to each question whose time is over.

    Prefect would fail such a run without starting it again, and nobody would hear why its version is not served. One
    that a person has just answered is let alone by the server.

    Raises:
        StudioError: The server does not answer.
    """
    now = now or datetime.now(UTC)
    for run in list_flow_runs(FlowRunFilter(state=in_state(StateType.PAUSED))):
        deadline = questions.deadline_of(run.state) if run.state else None
        if deadline and deadline <= now:
            with patient_client() as client:
                client.resume_flow_run(run.id, unanswered(deadline).model_dump())


def resume_pipelines() -> None:
    """Resume the suspended runs that wait for one which is suspended no longer: it goes on, has ended or was deleted.

    Raises:
        StudioError: The server does not answer.
    """
    suspended = list_flow_runs(FlowRunFilter(state=in_state(StateType.PAUSED)))
    waiting = {run.id: child for run in suspended if run.state and (child := awaited_run(run.state))}
    paused = {run.id for run in read_flow_runs(set(waiting.values())) if run.state and run.state.is_paused()}
    for run, child in waiting.items():
        if child not in paused:
            with patient_client() as client:
                client.resume_flow_run(run)


def resume_reviews(now: datetime | None = None) -> None:
    """Resume the reviews that wait for people if each of their images was submitted or skipped, or their time is over.

    The run itself reads what was answered, and waits again if it finds an image that is open.

    Raises:
        StudioError: The server does not answer.
    """
    now = now or datetime.now(UTC)
    paused = FlowRunFilter(state=in_state(StateType.PAUSED))
    found = list_flow_runs(paused, flows=FlowFilter(name=FlowFilterName(any_=[REVIEWS])))
    waiting = [(deadline, run) for run in found if run.state and (deadline := deadlines.deadline_of(run.state))]
    for deadline, run in sorted(waiting, key=itemgetter(0)):  # those whose time is over need no answer of the tool
        tool = place_of(run.state) if run.state else None
        if deadline <= now or not _waits_for_people(str(run.id), tool):
            with patient_client() as client:
                client.resume_flow_run(run.id)


def _waits_for_people(run: str, place: str | None) -> bool:
    """Return whether something is open where people answer; a tool that is away lets those of another go on."""
    try:
        return tool_of(ToolName(place or ToolName.LABEL_STUDIO)).is_open(run, ASKING_S)
    except (StudioError, ValueError) as error:
        logging.getLogger(__name__).warning("review %s: %s", run, error)
        return True


def cancel_left_runs() -> None:
    """Cancel the runs of pipelines and reviews that were cancelled without a process to do so: suspended, or Scheduled.

    A run that a person has started again since goes on.

    Raises:
        StudioError: The server does not answer.
    """
    since = FlowRunFilterEndTime(after_=datetime.now(UTC) - CANCELLED_SINCE)
    cancelled = FlowRunFilter(state=in_state(StateType.CANCELLED), end_time=since)
    pipelines = FlowFilter(name=FlowFilterName(any_=["run-pipeline", "close-loop", REVIEWS]))
    found = list_flow_runs(cancelled, flows=pipelines)
    if ended := {run.id: run.end_time for run in found if run.end_time}:
        child_runs.cancel_children(ended)
