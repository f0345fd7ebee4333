"""Lines in the logs of runs that wait in the work queue of this one."""

import contextlib
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    WorkQueueFilter,
    WorkQueueFilterId,
)
from prefect.client.schemas.objects import StateType

from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.prefect_client import API_TIMEOUT_S, fail_fast_client, in_state
from tasks.orchestration.repetition import run_periodically

LATE_S = 15  # when Prefect calls a run Late


class QueueNotice:
    """Writes into the log of each late run of the same work queue, once, which run it waits for."""

    def __init__(self) -> None:
        self._own = UUID(flow_run_id())
        self._notified: set[UUID] = set()

    def __call__(self) -> None:
        """Write to those that are new; never raises, for a line in another's log is not worth a run."""
        with contextlib.suppress(Exception):
            own = fail_fast_client().read_flow_run(self._own)
            waiting = _list_late_runs(own.work_queue_id) - self._notified
            if not waiting:
                return
            text = f"waiting behind run '{own.name}', which began at {own.start_time:%H:%M} UTC"
            line = LogCreate(name="prefect.flow_runs", level=logging.INFO, message=text, timestamp=datetime.now(UTC))
            fail_fast_client().create_logs([line.model_copy(update={"flow_run_id": run}) for run in waiting])
            self._notified |= waiting


def notify_waiting_runs() -> contextlib.AbstractContextManager[None]:
    """Notify runs that wait for this one while the block lasts."""
    return run_periodically(QueueNotice(), LATE_S, name="queue notice", last_s=API_TIMEOUT_S)


def _list_late_runs(work_queue: UUID | None) -> set[UUID]:
    """Runs that no worker has taken in time; in a queue without a limit no run waits for another."""
    if work_queue is None or fail_fast_client().read_work_queue(work_queue).concurrency_limit is None:
        return set()
    late = FlowRunFilter(
        state=in_state(StateType.SCHEDULED),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
            before_=datetime.now(UTC) - timedelta(seconds=LATE_S)
        ),
    )
    same = WorkQueueFilter(id=WorkQueueFilterId(any_=[work_queue]))
    return {run.id for run in fail_fast_client().read_flow_runs(flow_run_filter=late, work_queue_filter=same)}
