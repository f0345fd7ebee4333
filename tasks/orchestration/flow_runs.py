"""What a run shows in the Prefect UI: artifacts, progress, and how it ends."""

import atexit
import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import ParamSpec
from uuid import UUID, uuid4

from prefect import get_run_logger, runtime
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate, LogCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkQueueFilter,
    WorkQueueFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, Pause
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled as CancelledState
from prefect.states import Cancelling, Completed, Failed

from tasks.dataset.findings import Report
from tasks.errors import Cancelled, StudioError, Superseded
from tasks.orchestration.repetition import run_periodically
from tasks.orchestration.run_log import EngineNoiseFilter
from tasks.parameter_form import add_parameter_docs
from tasks.training.events import EpochResult

P = ParamSpec("P")
API_TIMEOUT_S = 5.0
CHECK_INTERVAL_S = 5.0
LATE_S = 15  # when Prefect calls a run Late
LEFT_EVENT = "studio.flow-run.left"  # the automation that looks for dead runs waits for nothing after it
STEPS_ALONE = EngineNoiseFilter()


def fail_flow_with_message(story: Callable[P, State]) -> Callable[P, State]:
    """End a flow Failed, with the reason as its message, on an error that a person can act on.

    The message of its end is the last line of the log, in which the steps are told in words. A flow run that another
    process has taken over ends without a word: its state is the other's to tell. One that is suspended stays so.
    """

    @functools.wraps(story)
    def told(*args: P.args, **kwargs: P.kwargs) -> State:
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(STEPS_ALONE)
        try:
            with notify_waiting_runs():
                ended = story(*args, **kwargs)
        except StudioError as error:
            ended = Failed(message=str(error))
        except Pause:
            log_step("suspended: this process ends, and what it kept is there when the run is resumed")
            atexit.register(_emit_left_event, flow_run_id(), str(runtime.flow_run.flow_name))
            raise
        except (Superseded, Cancelled) as reason:
            get_run_logger().warning("%s", reason)
            os._exit(0)  # a return, an exception and any other status would all change the state of the run
        get_run_logger().log(logging.ERROR if ended.is_failed() else logging.INFO, "%s: %s", ended.name, ended.message)
        return ended

    told.__doc__ = add_parameter_docs(story)
    return told


def _emit_left_event(flow_run: str, flow: str) -> None:
    """The last word of a process that leaves a run which is not over: it sends no heartbeats from now on."""
    of_flow = {
        "prefect.resource.id": f"prefect.flow.{flow}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": flow,
    }
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": LEFT_EVENT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run}"},
        "related": [of_flow],
    }
    with contextlib.suppress(Exception):  # Prefect's own way to send events has come to its end by now
        fail_fast_client().request("POST", "/events", json=[event])


def log_step(step: str, *values: object) -> None:
    """Tell a step of the story in the log of the run, a line in words, as logging does."""
    get_run_logger().info(step, *values)


def flow_run_name() -> str:
    """The name that the Prefect UI shows for the flow run, for other UIs to show too."""
    return str(runtime.flow_run.name)


def flow_run_id() -> str:
    """The id of the flow run that is under way; checkpoints and results are keyed by it."""
    return str(runtime.flow_run.id)


def first_attempt_start() -> float | None:
    """When this flow run began, in seconds since 1970, where it is tried again; None in its first attempt."""
    if runtime.flow_run.run_count <= 1:
        return None
    with get_client(sync_client=True) as client:
        began = client.read_flow_run(UUID(flow_run_id())).start_time
    return began.timestamp() if began else None


def flow_run_is_final(flow_run: str) -> bool:
    """Whether a flow run has ended; one that this server does not know may be another server's, and alive."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run)).state
        except (ObjectNotFound, ValueError):
            return False
    return state is not None and state.is_final()


def cancel_flow_run(flow_run: str) -> bool:
    """Cancel a flow run that this one cannot wait for, and say whether it was.

    One of the same flow is waited for, and so is one that this server does not know: nobody can cancel it.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(UUID(flow_run))
        except (ObjectNotFound, ValueError):
            return False
        same = client.read_flow(found.flow_id).name == runtime.flow_run.flow_name
        if same or (found.state is not None and found.state.is_final()):
            return False
        get_run_logger().warning("cancelling flow run %s, which is in the way", found.name)
        at_work = found.state is not None and (found.state.is_running() or found.state.is_cancelling())
        end = Cancelling if at_work else CancelledState  # what no process works on, no worker cancels
        client.set_flow_run_state(found.id, end(message=f"{flow_run_name()} could not wait for it"), force=not at_work)
    return True


def flow_run_accepts_helpers(flow_run: str) -> bool:
    """Whether a flow run that others share the work of goes on: one that crashed is given back to a worker.

    One that is suspended does not. No answer is no reason to stop.
    """
    try:
        state = fail_fast_client().read_flow_run(UUID(flow_run)).state
    except Exception:  # noqa: BLE001 - whatever the client raises
        return True
    return state is None or state.is_crashed() or not (state.is_final() or state.is_paused())


def throttle(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Return `ask` for a loop that turns quickly: its answer holds for `ASKED_EVERY_S` seconds."""
    answer, until = False, -1.0

    @functools.wraps(ask)
    def asked() -> bool:
        nonlocal answer, until
        if time.monotonic() >= until:
            answer = ask()
            until = time.monotonic() + CHECK_INTERVAL_S
        return answer

    return asked


def fail_fast_client() -> SyncPrefectClient:
    """A client that fails at once where the server is away; that of the run would try for more than a minute.

    It is for all threads of this process, until that ends.
    """
    # Making one takes 30 ms of processor time, nearly all of it for certificates.
    return _fail_fast_client(PREFECT_API_URL.value(), os.getpid())


@functools.lru_cache(maxsize=1)
def _fail_fast_client(_server: str | None, _process: int) -> SyncPrefectClient:
    client = get_client(sync_client=True, httpx_settings={"timeout": API_TIMEOUT_S})
    atexit.register(client.__exit__, None, None, None)
    return client.__enter__()


class OwnershipGuard:
    """Called now and then, raises Superseded once another process has been given this flow run.

    That happens to a run whose heartbeats did not arrive, though its process lives: the machine slept, or the server
    was away. The run was then marked Crashed and retried, and two would train on one GPU. The same goes for a run that
    was cancelled when no worker was there to end its process.
    """

    def __init__(self) -> None:
        self._flow_run, self._attempt = UUID(flow_run_id()), runtime.flow_run.run_count

    def __call__(self) -> None:
        """Ask the server; no answer is no reason to stop."""
        found = self._ask()
        state = found.state if found else None
        if found is None or state is None:
            return
        if state.is_scheduled() or state.is_pending() or found.run_count > self._attempt:
            raise Superseded(f"flow run {self._flow_run} was given to another process, this one ends")
        if state.is_cancelled():
            raise Cancelled(f"flow run {self._flow_run} is Cancelled, this process ends")

    def stop_if_suspended(self, *_: object) -> None:
        """Leave the run where somebody suspended it: called when what was done is kept."""
        found = self._ask()
        if found and found.state and found.state.is_paused():
            raise Pause(state=found.state)

    def _ask(self) -> FlowRun | None:
        try:
            return fail_fast_client().read_flow_run(self._flow_run)
        except Exception:  # noqa: BLE001 - whatever the client raises, the training is worth more
            return None


class QueueNotice:
    """Called now and then, tells runs that are late in the same work queue whom they wait for: in their logs, once."""

    def __init__(self) -> None:
        self._own = flow_run_id()
        self._told: set[UUID] = set()

    def __call__(self) -> None:
        """Look who waits; never raises, for a line in another's log is not worth a run."""
        with contextlib.suppress(Exception):
            own = fail_fast_client().read_flow_run(UUID(self._own))
            waiting = _list_late_runs(own.work_queue_id) - self._told
            if not waiting:
                return
            told = f"waiting behind run '{own.name}', which began at {own.start_time:%H:%M} UTC"
            line = LogCreate(name="prefect.flow_runs", level=logging.INFO, message=told, timestamp=datetime.now(UTC))
            fail_fast_client().create_logs([line.model_copy(update={"flow_run_id": run}) for run in waiting])
            self._told |= waiting


def notify_waiting_runs() -> contextlib.AbstractContextManager[None]:
    """Tell runs that wait for this one that they do, while the block lasts."""
    return run_periodically(QueueNotice(), LATE_S, name="telling the late", last_s=API_TIMEOUT_S)


def _list_late_runs(work_queue: UUID | None) -> set[UUID]:
    """Runs that no worker has taken though they were due longer ago than one asks for work.

    What waits in a queue without a limit does not wait for another of that queue.
    """
    if work_queue is None or fail_fast_client().read_work_queue(work_queue).concurrency_limit is None:
        return set()
    late = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
            before_=datetime.now(UTC) - timedelta(seconds=LATE_S)
        ),
    )
    same = WorkQueueFilter(id=WorkQueueFilterId(any_=[work_queue]))
    return {run.id for run in fail_fast_client().read_flow_runs(flow_run_filter=late, work_queue_filter=same)}


def show_markdown(key: str, markdown: str, description: str | None = None) -> None:
    """Attach a page of markdown to the run."""
    create_markdown_artifact(markdown, key=key, description=description)


def show_link(key: str, link: str, text: str) -> None:
    """Attach a link to the run."""
    create_link_artifact(link, link_text=text, key=key)


def emit_dataset_event(report: Report) -> None:
    """Emit the event `dataset.validated`, which automations can start from; it names archive, digest and verdict."""
    facts = {"name": report.archive, "digest": report.digest, "verdict": report.verdict.value}
    resource = {"prefect.resource.id": f"dataset.{report.archive}", "prefect.resource.name": report.archive, **facts}
    emit_event("dataset.validated", resource, payload={**facts, "counts": report.counts})


def completed(message: str, name: str | None = None) -> State:
    """End a flow well, with what it did as the message."""
    return Completed(message=message, name=name)


def failed(message: str) -> State:
    """End a flow that did its work but must not count as well done."""
    return Failed(message=message)


class EpochProgress:
    """Shows each epoch: a progress bar in the UI and one line in the log."""

    def __init__(self, key: str) -> None:
        self._artifact: UUID = create_progress_artifact(0.0, key=key, description="Getting ready")  # type: ignore[assignment]
        self._seconds: list[float] = []

    def __call__(self, epoch: EpochResult) -> None:
        """Show one finished epoch; those of an earlier attempt have been shown before."""
        if epoch.restored:
            return
        self._seconds = [*self._seconds[-9:], epoch.seconds]  # the last ones count: they close mosaic, or were halved
        left = sum(self._seconds) / len(self._seconds) * (epoch.total_epochs - epoch.number)
        then = "now evaluating the best epoch" if epoch.is_last else f"{format_duration(left)} left"
        told = f"epoch {epoch.number}/{epoch.total_epochs}  {format_metrics(epoch.metrics)}  {then}"
        get_run_logger().info("%s", told)
        shown = ArtifactUpdate(data=100 * epoch.number / epoch.total_epochs, description=told)
        fail_fast_client().update_artifact(self._artifact, shown)


class RunProgress:
    """Shows how much of a run is done: a progress bar in the UI, with its rate and the time that is left."""

    def __init__(self, what: str) -> None:
        self._what, self._began, self._first = what, time.monotonic(), -1.0
        self._artifact: UUID = create_progress_artifact(0.0, description="Getting ready")  # type: ignore[assignment]

    def __call__(self, share: float, done: int) -> None:
        """Show the share (0 to 1) of all the work, and how many were done since this began; never raises."""
        self._first = share if self._first < 0 else self._first
        seconds, own = time.monotonic() - self._began, share - self._first
        left = f", {format_duration(seconds * (1 - share) / own)} left" if own > 0 and share < 1 else ""
        told = f"{done} {self._what}, {done / max(seconds, 1e-9):.1f} a second{left}"
        # A progress bar is never worth a run.
        with contextlib.suppress(Exception):
            fail_fast_client().update_artifact(
                self._artifact, ArtifactUpdate(data=round(100 * share, 1), description=told)
            )


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Losses, mean average precision and accuracy, the figures that people follow."""
    followed = [name for name in metrics if name.startswith("train/") or "mAP" in name or "accuracy" in name]
    return "  ".join(f"{name.rpartition('/')[2]} {metrics[name]:.3f}" for name in followed)


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
