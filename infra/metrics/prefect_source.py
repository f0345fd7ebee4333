"""Metrics of Prefect: runs that go on, wait and have ended, and the workers.

What has ended is counted here from the moment at which this process began, as Prometheus expects of a counter: the
server would have to count its whole past at each scrape. A run that ends while this process is away is not counted.
"""

import time
from collections import Counter as Tally
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.objects import StateType
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily

from infra.metrics.activity import Activity
from infra.metrics.exposition import OTHER
from tasks.dataset.findings import Verdict
from tasks.errors import VERSION_REFUSED
from tasks.orchestration import run_figures
from tasks.orchestration.run_figures import RunFigures
from tasks.validation.steps import STATE_NAMES

POOL = "gpu"
GOING_ON = {
    StateType.SCHEDULED: "waiting",
    StateType.PENDING: "waiting",
    StateType.PAUSED: "suspended",
    StateType.RUNNING: "running",
    StateType.CANCELLING: "running",
}
ENDED = {each: each.value.lower() for each in (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED)} | {
    StateType.CANCELLED: "cancelled"
}
KINDS = ("Failed", "Crashed", "TimedOut", VERSION_REFUSED, STATE_NAMES[Verdict.INVALID])  # states of failures
OVERLAP = timedelta(minutes=2)  # a state may reach the server after the moment that it names
LONGEST_GAP = timedelta(hours=1)  # without a scrape; what ended before is not counted
_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)


class PrefectSource:
    """Runs of these flows and queues, each of which has its series from the beginning: a first failure is an increase.

    `activity` is told which runs MLflow knows more about.
    """

    name = "prefect"

    def __init__(self, flows: Collection[str], queues: Collection[str], activity: Activity) -> None:
        self._flows, self._queues, self._activity = flows, queues, activity
        self._counted: dict[tuple[str, float | None], datetime] = {}
        self._began = self._last = datetime.now(UTC)
        self._registry = registry = CollectorRegistry()
        self._ended = Counter(
            "studio_flow_runs_ended", "Flow runs that have ended.", ["flow", "state"], registry=registry
        )
        self._failures = Counter(
            "studio_flow_run_failures", "Flow runs that failed or crashed.", ["flow", "kind"], registry=registry
        )
        self._retries = Counter(
            "studio_flow_run_retries", "Attempts after the first of runs that have ended.", ["flow"], registry=registry
        )
        self._duration = Histogram(
            "studio_flow_run_duration_seconds",
            "Time in state Running of runs that have ended.",
            ["flow"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._wait = Histogram(
            "studio_flow_run_queue_wait_seconds",
            "Time from when a run was due to its first start, of runs that have ended.",
            ["queue"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._checks = Counter("studio_archive_checks", "Checks of archives.", ["verdict"], registry=registry)
        self._make_series()

    def _make_series(self) -> None:
        for flow in (*self._flows, OTHER):
            for state in ENDED.values():
                self._ended.labels(flow, state)
            for kind in (*KINDS, OTHER):
                self._failures.labels(flow, kind)
            self._retries.labels(flow)
            self._duration.labels(flow)
        for queue in (*self._queues, OTHER):
            self._wait.labels(queue)
        for verdict in Verdict:
            self._checks.labels(verdict.value)

    def read(self) -> Iterable[Metric]:
        """Return the metrics of Prefect.

        Raises:
            PrefectUnavailableError: Its server does not answer.
        """
        now = datetime.now(UTC)
        due = run_figures.list_due()
        self._count_ended(now)
        self._note_trainings(due)
        return [*self._registry.collect(), *self._going_on(due), *self._queued(due), self._workers()]

    def _count_ended(self, now: datetime) -> None:
        since = max(self._last - OVERLAP, self._began, now - LONGEST_GAP)
        found = [run for run in run_figures.list_ended(since) if (run.id, run.ended) not in self._counted]
        for run in found:
            self._counted[run.id, run.ended] = now
            self._count(run)
        self._last = now
        self._counted = {key: at for key, at in self._counted.items() if at > now - 2 * LONGEST_GAP}
        self._note_trainings(found)
        self._activity.note_inferences(found)

    def _count(self, run: RunFigures) -> None:
        flow = self._flow(run)
        self._ended.labels(flow, ENDED[run.type]).inc()
        if run.type in {StateType.FAILED, StateType.CRASHED}:
            self._failures.labels(flow, run.state if run.state in KINDS else OTHER).inc()
        self._retries.labels(flow).inc(max(0, run.attempts - 1))
        if run.started is not None and run.attempts:  # one that is cancelled before it begins has a start, too
            self._duration.labels(flow).observe(run.run_seconds)
            if run.due is not None:
                self._wait.labels(self._queue(run)).observe(max(0.0, run.started - run.due))
        verdicts = {name: verdict for verdict, name in STATE_NAMES.items()}
        if run.flow == "validate-dataset" and run.state in verdicts:
            self._checks.labels(verdicts[run.state].value).inc()

    def _note_trainings(self, runs: Iterable[RunFigures]) -> None:
        self._activity.note_trainings(run for run in runs if run.flow == "train-model")

    def _going_on(self, due: Iterable[RunFigures]) -> Iterable[Metric]:
        count = Tally((self._flow(run), GOING_ON[run.type]) for run in due)
        described = f"Flow runs that are due and have not ended; at most {run_figures.MOST_DUE} are looked at."
        family = GaugeMetricFamily("studio_flow_runs", described, labels=["flow", "state"])
        for flow in (*self._flows, OTHER):
            for state in sorted(set(GOING_ON.values())):
                family.add_metric([flow, state], count[flow, state])
        yield family

    def _queued(self, due: Iterable[RunFigures]) -> Iterable[Metric]:
        now = time.time()
        waits: dict[str, list[float]] = {queue: [] for queue in (*self._queues, OTHER)}
        for run in due:
            if run.type is StateType.SCHEDULED and run.due is not None and run.due <= now:
                waits[self._queue(run)].append(now - run.due)
        backlog = GaugeMetricFamily(
            "studio_queue_backlog", "Runs that are due and that no worker has taken.", labels=["queue"]
        )
        oldest = GaugeMetricFamily(
            "studio_queue_oldest_wait_seconds",
            "For how long the oldest of them is due; 0 if none is.",
            labels=["queue"],
        )
        for queue, seconds in waits.items():
            backlog.add_metric([queue], len(seconds))
            oldest.add_metric([queue], max(seconds, default=0))
        return backlog, oldest

    def _workers(self) -> Metric:
        online = run_figures.count_workers_online(POOL)
        return GaugeMetricFamily("studio_workers_online", f"Workers of pool {POOL} that are there.", value=online)

    def _flow(self, run: RunFigures) -> str:
        return run.flow if run.flow in self._flows else OTHER

    def _queue(self, run: RunFigures) -> str:
        return run.queue if run.queue in self._queues else OTHER
