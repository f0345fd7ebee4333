"""Runs of deployments that a flow run starts and waits for, found again when it is tried again."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Self
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType

from tasks.errors import REFUSED, StudioError
from tasks.orchestration import deployed_flows
from tasks.orchestration.current_run import run_logger
from tasks.orchestration.prefect_client import in_state, list_flow_runs, patient_client, read_flow_runs
from tasks.orchestration.suspension import awaited_run, place_of

# An automation gives a crashed run back to a worker after 15 s; the rest is for servers under load.
CRASH_GRACE_S = 90.0
ENDED = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED})  # for good
PIPELINE, SHARES = "pipeline", "shares"  # what a run starts others for
_CHILD_TAG = re.compile(rf"({PIPELINE}|{SHARES}):(?P<parent>[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})")


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A flow run as the server knows it: the type and the name of its state, its message, and when each came.

    `began` is None until a worker has begun it. `awaited` is the run for which it is suspended, `place` where people do
    what it is suspended for; None without such.
    """

    id: UUID
    name: str
    type: StateType
    state: str
    message: str
    since: datetime
    began: datetime | None
    awaited: UUID | None = None
    place: str | None = None

    @classmethod
    def of(cls, run: FlowRun) -> Self:
        """Return what a run is now."""
        state = run.state
        return cls(
            id=run.id,
            name=run.name,
            type=state.type if state else StateType.SCHEDULED,
            state=(state.name if state else None) or "Scheduled",
            message=(state.message if state else None) or "",
            since=(state.timestamp if state else None) or datetime.now(UTC),
            began=run.start_time,
            awaited=awaited_run(state) if state else None,
            place=place_of(state) if state else None,
        )

    @property
    def completed(self) -> bool:
        """Whether it did its work."""
        return self.type is StateType.COMPLETED

    @property
    def is_cancelled(self) -> bool:
        """Whether a person, or a run of another, has ended it."""
        return self.type is StateType.CANCELLED

    @property
    def is_paused(self) -> bool:
        """Whether it waits, without a process if it is suspended, until it is resumed."""
        return self.type is StateType.PAUSED

    @property
    def has_stopped(self) -> bool:
        """Whether it has ended, for good or not."""
        return self.type in ENDED or self.type is StateType.CRASHED

    @property
    def can_be_retried(self) -> bool:
        """Whether a worker would carry it on: it has stopped, its work is not done, and no person has refused it."""
        return self.has_stopped and not self.completed and self.state != REFUSED

    def is_over(self, now: datetime) -> bool:
        """Return whether it has ended for good: a crashed run is first given some time to be tried again."""
        if self.type is StateType.CRASHED:
            return (now - self.since).total_seconds() > CRASH_GRACE_S
        return self.has_stopped

    def seconds(self, now: datetime) -> float | None:
        """Return for how long it has gone on, or did; None if it has not begun."""
        if self.began is None:
            return None
        return max(0.0, ((self.since if self.has_stopped else now) - self.began).total_seconds())


def child_tag(purpose: str, parent: str | UUID) -> str:
    """Return the tag of the runs that flow run `parent` starts for a purpose."""
    return f"{purpose}:{parent}"


def tags_of_children(parent: UUID) -> list[str]:
    """Return the tags that the runs have which `parent` may have started."""
    return [child_tag(purpose, parent) for purpose in (PIPELINE, SHARES)]


def started_by(tags: Collection[str]) -> UUID | None:
    """Return the flow run that has started the one with these tags; None if no run has."""
    found = next(filter(None, map(_CHILD_TAG.fullmatch, tags)), None)
    return UUID(found["parent"]) if found else None


def read_runs(runs: Collection[UUID]) -> dict[UUID, RunState]:
    """Return these runs as they are now; one that was deleted is missing.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    return {run.id: RunState.of(run) for run in read_flow_runs(runs)}


def cancel_children(ended: Mapping[UUID, datetime]) -> None:
    """Cancel the runs of pipelines that have not ended; never raises: a warning says what could not be cancelled.

    One that had ended and was started again after its pipeline had ended goes on: a person wants it.

    Args:
        ended: When each pipeline ended.
    """
    chosen = FlowRunFilter(
        tags=FlowRunFilterTags(any_=[child_tag(PIPELINE, pipeline) for pipeline in ended]),
        state=in_state(*set(StateType) - ENDED),
    )
    try:
        runs = list(list_flow_runs(chosen))
    except StudioError as error:
        run_logger().warning("the runs of this one go on: %s", error)
        return
    for run in runs:
        try:
            with patient_client() as client:
                restarted = last_restart(client.read_flow_run_states(run.id))
            pipeline = started_by(run.tags)
            if pipeline and (restarted is None or restarted < ended[pipeline]):
                deployed_flows.cancel(run.id, "Its pipeline was cancelled.")
        except StudioError as error:
            run_logger().warning("flow run %s could not be cancelled: %s", run.name, error)


def last_restart(states: Sequence[State[Any]]) -> datetime | None:
    """Return when a run that has had these states, the oldest first, was started again after it had ended for good."""
    restarts = (
        after.timestamp for before, after in pairwise(states) if before.type in ENDED and after.type not in ENDED
    )
    return max(restarts, default=None)
