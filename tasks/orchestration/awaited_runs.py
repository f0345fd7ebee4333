"""The runs of other flows that a flow run starts, waits for and cancels; each is started once, in whichever attempt.

While such a run is suspended, the one that waits is, too, and holds no place of a worker; `infra/patrol.py` resumes it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tasks.errors import REFUSED, VERSION_REFUSED, StudioError
from tasks.orchestration import child_runs, deployed_flows
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.current_run import flow_run_id, flow_run_name, log_step
from tasks.orchestration.flow_runs import may_continue
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.orchestration.run_history import begun_at
from tasks.orchestration.step import SERVICE_RESTART
from tasks.orchestration.suspension import can_be_suspended, suspend
from tasks.settings import Settings

POLL_S = 2.0
_MAX_NAME = 100


class AwaitedRunError(StudioError):
    """A run that another has started did not do its work, or was deleted."""


class AwaitedRunRefusedError(AwaitedRunError):
    """A person refused what a run asked for that another has started."""

    declined = True


class AwaitedVersionRefusedError(AwaitedRunError):
    """A gate refused the version that a run was about to deploy which another has started."""

    failed_name = VERSION_REFUSED


class AwaitedRuns:
    """The runs that this flow run has started, by their ids: `titles` say what for, `states` what is known of each.

    `on_change` is called when one was started, and when they were looked at. Each gets these `tags`.
    """

    def __init__(self, on_change: Callable[[], object] = lambda: None, tags: Collection[str] = ()) -> None:
        self.titles: dict[UUID, str] = {}
        self.states: dict[UUID, RunState] = {}
        self._on_change = on_change
        self._run = flow_run_id()
        self._began = begun_at()
        self._tags = [child_runs.child_tag(child_runs.PIPELINE, self._run), *tags]
        self._may_continue = may_continue()

    def do(self, title: str, flow: str, parameters: Mapping[str, Any], key: str) -> RunState:
        """Start a run, or find the one of this key of this flow run, and return it when it has completed.

        Raises:
            Pause: It is suspended, and so is this run until it goes on.
            AwaitedRunError: It has not completed.
            AwaitedRunRefusedError: A person refused what it asked for.
            StudioError: The server refuses it.
        """
        run = self.start(title, flow, parameters, f"{self._run}-{key}")
        while not self.is_over(run):
            if self.states[run].is_paused and can_be_suspended():
                suspend(f"Goes on when flow run '{self.states[run].name}' does ({run}).", awaited=run)
            self.poll()
        ended = self.states[run]
        if ended.state == REFUSED:
            raise AwaitedRunRefusedError(f"{title}: {ended.message}")
        if not ended.completed:
            page = Settings().addresses.flow_run(str(run))
            failure = AwaitedVersionRefusedError if ended.state == VERSION_REFUSED else AwaitedRunError
            raise failure(
                f"Expected the run '{title}' to complete, found it {ended.state}: {ended.message} ({page}) "
                f"`studio retry {self._run}` tries it again."
            )
        return ended

    def start(self, title: str, flow: str, parameters: Mapping[str, Any], key: str, *, exact: bool = False) -> UUID:
        """Start a run, or find the one of this key; what had failed when this run was begun is tried again.

        A key that others know, too, is `exact`: theirs has to be a run with the same parameters.

        Raises:
            AwaitedRunError: The run was deleted.
            StudioError: The server refuses it, or the run of this key has other parameters.
        """
        self._may_continue()
        plain = {name: _to_json(value) for name, value in parameters.items()}
        run = SERVICE_RESTART.call(
            lambda: deployed_flows.start(
                flow,
                plain,
                name=f"{title}, {flow_run_name()}"[:_MAX_NAME],
                idempotency_key=key,
                tags=self._tags,
            )
        )
        if exact:
            SERVICE_RESTART.call(lambda: deployed_flows.require_parameters(flow, run, plain))
        state = SERVICE_RESTART.call(lambda: child_runs.read_runs([run])).get(run)
        if state is None:
            raise AwaitedRunError(self._deleted([title]))
        if state.is_over(self._began) and state.can_be_retried and state.since < self._began:
            log_step("flow run '%s' was %s: it is tried again", state.name, state.state)
            deployed_flows.retry(run, f"Flow run '{flow_run_name()}' needs it.")
            state = SERVICE_RESTART.call(lambda: child_runs.read_runs([run]))[run]
        log_step("%s: flow run '%s'", title, state.name)
        self.titles[run] = title
        self.states[run] = state
        self._on_change()
        return run

    def know(self, titles: Mapping[UUID, str]) -> None:
        """Look at runs that somebody else has started; one that was deleted is not known."""
        self.states |= SERVICE_RESTART.call(lambda: child_runs.read_runs(titles.keys()))
        self.titles |= {run: title for run, title in titles.items() if run in self.states}

    def is_over(self, run: UUID) -> bool:
        """Return whether a run has ended for good, as far as is known."""
        return self.states[run].is_over(datetime.now(UTC))

    def are_over(self, runs: Iterable[UUID]) -> bool:
        """Return whether all of these have ended for good."""
        return all(map(self.is_over, runs))

    def poll(self) -> None:
        """Wait a little, and look at the runs that go on; a server that is away is asked again.

        Raises:
            AwaitedRunError: A run was deleted.
        """
        time.sleep(POLL_S)
        self._may_continue()
        active = [run for run in self.states if not self.is_over(run)]
        try:
            newest = child_runs.read_runs(active)
        except PrefectUnavailableError:
            return
        if missing := [self.titles[run] for run in active if run not in newest]:
            raise AwaitedRunError(self._deleted(missing))
        self.states |= newest
        self._on_change()

    def cancel(self) -> None:
        """Cancel the runs that this one has started, in whichever attempt; a run of somebody else goes on."""
        child_runs.cancel_children({UUID(self._run): datetime.now(UTC)})

    def _deleted(self, titles: Iterable[str]) -> str:
        named = ", ".join(titles)
        return f"Expected the runs {named}, found that they were deleted. `studio retry {self._run}` starts them again."


def _to_json(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
