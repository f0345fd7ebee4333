"""Runs of our deployments: how one is started, found and awaited."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Cancelling

from tasks.errors import REFUSED, StudioError, safe_repr
from tasks.orchestration.prefect_client import patient_client
from tasks.orchestration.run_log import is_routine
from tasks.orchestration.starters import starter_tags

DEPLOYMENT = "gpu"  # of every flow
POLL_S = 1.0
_LINES_PER_REQUEST = 200  # the most that the server gives
# A process sends its lines every 2 s, and the last ones when it exits, after the server knows its final state.
_QUIET_S = 3.0
_LAST_LINES_S = 10.0


@dataclass(frozen=True, kw_only=True)
class DeployedFlow:
    """A deployment: its id, what its flow is for, and the JSON schema of its parameters."""

    id: UUID
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line of the log of a run; `level` is that of Python's logging. Prefect has a routine line in every log."""

    time: datetime
    level: int
    text: str
    is_routine: bool = False


def start(
    flow: str,
    parameters: Mapping[str, Any],
    *,
    name: str | None = None,
    idempotency_key: str | None = None,
    tags: Collection[str] = (),
    queue: str | None = None,
) -> UUID:
    """Start a run of deployment `<flow>/gpu`, such as `train-model/gpu`; returns its id.

    It waits in work queue `queue`, or else in that of the deployment. With an `idempotency_key` that a run of this
    deployment has already, that run is returned and none is started. Its tags say for which person it is started, if
    for one (`starters.py`).

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: There is no such deployment, or the server refuses the parameters.
    """
    with _known(flow), patient_client() as client:
        deployment = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
        return client.create_flow_run_from_deployment(
            deployment.id,
            parameters=dict(parameters),
            name=name,
            idempotency_key=idempotency_key,
            tags=[*tags, *starter_tags()],
            work_queue_name=queue,
        ).id


def require_parameters(flow: str, flow_run: UUID, asked: Mapping[str, Any]) -> None:
    """Check that a run of a flow, found by an idempotency key that others know, too, does what was asked for.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: It has other parameters, or there is no such run or deployment.
    """
    run = require(flow_run)
    fields: Mapping[str, Any] = describe(flow).schema.get("properties", {})
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    wanted, found = (_completed(defaults, each) for each in (asked, run.parameters))
    others = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if others:
        raise StudioError(
            f"Expected that flow run {run.name} ({run.id}), which has the idempotency key of this one, has its "
            f"parameters, found another value of {', '.join(map(safe_repr, others))}. See who has started it, delete "
            f"it, and try again."
        )


def _completed(default: Any, given: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(default, Mapping) or not isinstance(given, Mapping):
        return given
    return {**default, **{name: _completed(default.get(name), value) for name, value in given.items()}}


def describe(flow: str) -> DeployedFlow:
    """Return deployment `<flow>/gpu`.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: There is no such deployment.
    """
    with _known(flow), patient_client() as client:
        deployment = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
    return DeployedFlow(
        id=deployment.id, description=deployment.description or "", schema=deployment.parameter_openapi_schema or {}
    )


@contextlib.contextmanager
def _known(flow: str) -> Iterator[None]:
    try:
        yield
    except ObjectNotFound as error:
        raise StudioError(
            f"Expected deployment {flow}/{DEPLOYMENT} on Prefect's server, found none. `studio up` registers it."
        ) from error


def find(flow_run: UUID) -> FlowRun | None:
    """Return a flow run; None if there is none of this id.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    try:
        with patient_client() as client:
            return client.read_flow_run(flow_run)
    except ObjectNotFound:
        return None


def wait(flow_run: UUID, timeout_s: float | None = None, *, follow: Callable[[], object] | None = None) -> State[Any]:
    """Return the state in which a flow run ends; waits for `timeout_s` seconds, None for ever.

    `follow` is called about once a second until then, and once more.

    Raises:
        StudioError: There is no such run, or it goes on after that time.
        PrefectUnavailableError: The server does not answer.
    """
    deadline = inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        run = require(flow_run)
        if follow:
            follow()
        if run.state is not None and run.state.is_final():
            return run.state
        if time.monotonic() > deadline:
            found = run.state.name if run.state else "without a state"
            raise StudioError(f"Expected flow run {run.name} to end within {timeout_s:g} s, found it {found}.")
        time.sleep(POLL_S)


def cancel(flow_run: UUID, reason: str | None = None) -> str:
    """Cancel a flow run; returns the name of its state now.

    A crashed one is cancelled as well, or it would be given back to a worker.

    Raises:
        StudioError: There is no such run, or it has ended.
        PrefectUnavailableError: The server does not answer.
    """
    run = require(flow_run)
    state = run.state
    if state and state.is_final() and not state.is_crashed():
        raise StudioError(f"Expected flow run {run.name} to go on, found it {state.name}: there is nothing to cancel.")
    if state and state.is_cancelling():
        return str(state.name)
    wanted = Cancelling if state and state.is_running() else Cancelled  # no worker cancels a run that has no process
    return _set_state(flow_run, wanted(message=reason))


def resume(flow_run: UUID) -> None:
    """Have a suspended run go on; one that is not suspended is left alone.

    Raises:
        StudioError: There is no such run, or Prefect does not answer.
    """
    state = require(flow_run).state
    if state and state.is_paused():
        with patient_client() as client:
            client.resume_flow_run(flow_run)


def retry(flow_run: UUID, reason: str | None = None) -> str:
    """Give a flow run that has ended back to a worker, which carries it on; returns the name of its state now.

    Raises:
        StudioError: There is no such run, it goes on, it has completed, or a person has refused what it asked for.
        PrefectUnavailableError: The server does not answer.
    """
    run = require(flow_run)
    if run.state is None or not run.state.is_final() or run.state.is_completed():
        found = run.state.name if run.state else "without a state"
        raise StudioError(f"Expected flow run {run.name} to be Failed, Crashed or Cancelled, found it {found}.")
    if run.state.name == REFUSED:
        raise StudioError(
            f"Expected flow run {run.name} to be Failed, Crashed or Cancelled, found it {REFUSED}: the answer of a "
            f"person is final for a run. Start a new one, which asks again."
        )
    return _set_state(flow_run, AwaitingRetry(scheduled_time=datetime.now(UTC), message=reason))


def require(flow_run: UUID) -> FlowRun:
    """Return a flow run.

    Raises:
        StudioError: There is none of this id.
        PrefectUnavailableError: The server does not answer.
    """
    run = find(flow_run)
    if run is None:
        raise StudioError(f"Expected a flow run {flow_run}, found none. The Prefect UI lists all runs.")
    return run


def _set_state(flow_run: UUID, state: State[Any]) -> str:
    with patient_client() as client:
        answer = client.set_flow_run_state(flow_run, state)
    if answer.state is None or answer.status is not SetStateStatus.ACCEPT:
        raise StudioError(f"Prefect refused {state.name}: {getattr(answer.details, 'reason', None) or answer.status}")
    return str(answer.state.name)


def read_log(flow_run: UUID, offset: int = 0) -> list[LogLine]:
    """Return the lines of a run and of its steps in order of time, without the first `offset`.

    The last lines of a run come after its final state. So of one that has just ended, this returns when no line has
    come for 3 s, and at the latest 10 s after that state.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    run = find(flow_run)
    lines = _read_lines(flow_run, offset)
    if run is None or run.state is None or not run.state.is_final():
        return lines
    now = time.monotonic()
    latest = now + _LAST_LINES_S - max(0.0, (datetime.now(UTC) - run.state.timestamp).total_seconds())
    quiet_at = now + _QUIET_S
    while time.monotonic() < min(quiet_at, latest):
        time.sleep(POLL_S / 2)
        newest = _read_lines(flow_run, offset)
        if len(newest) > len(lines):
            quiet_at = time.monotonic() + _QUIET_S
        lines = newest
    return lines


def _read_lines(flow_run: UUID, offset: int) -> list[LogLine]:
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
    lines: list[LogLine] = []
    with patient_client() as client:
        while True:
            page = client.read_logs(
                chosen, limit=_LINES_PER_REQUEST, offset=offset + len(lines), sort=LogSort.TIMESTAMP_ASC
            )
            lines += [
                LogLine(
                    time=each.timestamp,
                    level=each.level,
                    text=each.message,
                    is_routine=is_routine(each.name, each.level, each.message),
                )
                for each in page
            ]
            if len(page) < _LINES_PER_REQUEST:
                return lines
