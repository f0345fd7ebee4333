"""The lines in which the page shows runs: what each is about, how far it is, and the runs that it has started."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import StateType

from tasks.catalogue import run_pages
from tasks.dataset_watch.checks import INVALID
from tasks.orchestration import run_list
from tasks.orchestration.artifacts import format_duration
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.run_list import ListedRun, Progress, RunChoice
from tasks.promotion.rules import REFUSED
from tasks.tracking.mlflow_client import DATASETS, INFERENCE, SERVING, TRAINING

EXPERIMENTS = {
    "train-model": TRAINING,
    "register-model": TRAINING,
    "validate-dataset": DATASETS,
    "deploy-model": SERVING,
    "rollback-model": SERVING,
    "undeploy-model": SERVING,
    "run-inference": INFERENCE,
}
PARENTS = ("run-pipeline", "close-loop", "run-inference", "review-images")  # the flows that start runs
MOST_CHILDREN = 20
MOST_NAMED = 3
_AT_WORK = frozenset({StateType.RUNNING, StateType.CANCELLING})
_LATE = "Late"  # the log of such a run says which run it waits for
_WORDS = {
    "Scheduled": "waits for a worker",
    _LATE: "waits for a worker",
    "AwaitingRetry": "is tried again soon",
    "Pending": "is being started",
    "Submitting": "is being started",
    "InfrastructurePending": "is being started",
    "Suspended": "waits for a person",
    "Paused": "waits for a person",
    "Resuming": "goes on soon",
    "Cancelling": "is being cancelled",
}


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A line of the list: a run, what it does in a few words, and how far it is.

    `review` is the run whose round it waits for: itself, or one that it has started.
    """

    run: ListedRun
    progress: Progress | None
    newest: str
    review: UUID | None = None
    children: tuple["RunLine", ...] = ()
    more_children: bool = False

    @property
    def subject(self) -> str:
        """What the run is about."""
        return subject_of(self.run.parameters)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, for good or not."""
        return self.run.state.has_stopped

    @property
    def took(self) -> str:
        """For how long it has gone on, or did; empty if it has not begun."""
        seconds = self.run.state.seconds(datetime.now(UTC))
        return "" if seconds is None else format_duration(seconds)

    @property
    def is_tracked(self) -> bool:
        """Whether MLflow may have a run of it."""
        return self.run.flow in EXPERIMENTS and self.run.state.began is not None

    @property
    def has_pages(self) -> bool:
        """Whether it is likely to have left a page; asking the store about each line would be a request a line."""
        flow, state = self.run.flow, self.run.state
        has_one = REFUSED in state.message if flow == "register-model" else flow in run_pages.FLOWS
        # What was imported, labelled or reviewed and is invalid: the message has the address of its report.
        is_told = f"{self.run.id}/report.html" in state.message
        return has_one and (state.completed or state.state == INVALID or is_told)


def run_lines(choice: RunChoice, runs: list[ListedRun], parents: Collection[UUID] | None) -> list[RunLine]:
    """Return the lines of runs; below each are those that it has started, unless the list is of a choice.

    A run is no line of its own if its parent is one of `parents`; None stands for all that Prefect knows.

    Raises:
        PrefectUnavailableError: Prefect does not answer.
    """
    if choice.flows or choice.types:
        relatives: list[ListedRun] = []
    else:
        relatives = run_list.read_relatives([run for run in runs if run.parent or run.flow in PARENTS])
        known = {run.id for run in relatives} if parents is None else parents
        runs = [run for run in runs if run.parent not in known]
    children: dict[UUID | None, list[ListedRun]] = {}
    for run in relatives:
        children.setdefault(run.parent, []).append(run)
    shown = [*runs, *(child for run in runs for child in children.get(run.id, []))]
    followed = [run.id for run in shown if run.state.type in _AT_WORK or run.state.state == _LATE]
    progress, logs = run_list.read_progress(followed), run_list.read_newest_lines(followed)
    waiting = run_list.find_waiting([run.state for run in shown])

    def line(run: ListedRun) -> RunLine:
        below = children.get(run.id, [])
        waits = waiting.get(run.id)
        return RunLine(
            run=run,
            progress=progress.get(run.id),
            newest=logs[run.id].text if run.id in logs else _words(waits or run.state),
            review=waits.id if waits and waits.place else None,
            children=tuple(line(child) for child in below[:MOST_CHILDREN][::-1]),
            more_children=len(below) > MOST_CHILDREN,
        )

    return [line(run) for run in runs]


def _words(state: RunState) -> str:
    """What there is to say of a run without a log line: what it says of its end or its wait, or its state in words."""
    if state.has_stopped or (state.is_paused and state.message):
        return state.message
    return _WORDS.get(state.state, state.message)


def subject_of(parameters: Mapping[str, Any]) -> str:
    """Return what the run with these parameters is about: `shapes version 3`, `shapes: a.zip, b.zip`."""
    model, version, run = (parameters.get(name) for name in ("model_name", "version", "run"))
    who = f"{model or ''}{f' version {version}' if version else ''}".strip()
    things = [parameters.get(name) for name in ("source", "weights", "archive", "archives", "inputs")]
    named = [str(each) for thing in things if thing for each in (thing if isinstance(thing, list) else [thing])]
    named += [str(run)] if run else []
    more = [f"{len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
    return ": ".join(filter(None, [who, ", ".join([*named[:MOST_NAMED], *more])]))
