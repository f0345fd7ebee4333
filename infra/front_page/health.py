"""The tab Health: what is wrong, what goes on now, and the last day, for those without Grafana.

What goes on now is what `/metrics` says. The last day is Prometheus' own, after `make up METRICS=1`; without it, it is
the runs that Prefect knows.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.front_page.graphs import Graph, format_value
from infra.front_page.pages import render
from infra.metrics.dashboards import DASHBOARDS, PIPELINES
from infra.metrics.exposition import UP, Exposition
from infra.metrics.prefect_source import ENDED
from infra.metrics.prometheus_history import DAY_S, Line, PrometheusClient
from infra.metrics.worker_token_source import WARNED
from tasks.errors import StudioError
from tasks.orchestration import run_figures

LEAST_DISK = 0.1  # share that is free; as in rules.yml
LONGEST_WAIT_S = 1800.0
LONGEST_STALL_S = 600.0
_MOST_ENDED = 2000  # runs of a day that are looked at
_PATIENT = {"training", "pipelines"}  # queues in which waiting for hours is ordinary


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Values of metrics, by name and then by the values of their labels."""

    values: Mapping[str, Mapping[tuple[str, ...], float]] = field(default_factory=dict)

    @classmethod
    def of(cls, exposition: Exposition) -> "Figures":
        """Return what the exposition says now."""
        values: dict[str, dict[tuple[str, ...], float]] = {}
        for metric in exposition.collect():
            for sample in metric.samples:
                values.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return cls(values=values)

    def by(self, name: str) -> Mapping[str, float]:
        """Return the values of a metric by its first label; none if its source is away."""
        return {labels[0] if labels else "": value for labels, value in self.values.get(name, {}).items()}

    def one(self, name: str) -> float | None:
        """Return the value of a metric without labels; None if its source is away."""
        return self.by(name).get("")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A figure in words; `level` is `bad` or `warn` if it is not well."""

    name: str
    value: str
    level: str = ""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong, and what to do."""

    text: str
    level: str = "bad"


def show_tab(request: Request) -> Response:
    """Return the tab, which asks nobody."""
    return render(request, "health.html")


def show_now(request: Request) -> Response:
    """Return what is wrong, and the figures of now."""
    figures = Figures.of(request.app.state.exposition)
    areas = {"Pipelines": _pipelines(figures), "Serving": _serving(figures), "Machine": _machine(figures)}
    return render(request, "health_now.html", problems=_problems(figures), areas=areas)


def show_day(request: Request) -> Response:
    """Return graphs of the last day."""
    prometheus = PrometheusClient.of_environment()
    if prometheus is None:
        ended = [Graph.of(PIPELINES.panels[0], _ended_by_hour(), time.time() - DAY_S, DAY_S)]
        return render(request, "health_day.html", areas={PIPELINES.title: ended}, has_prometheus=False, span="day")
    began = prometheus.began()
    seconds = time.time() - began
    areas = {
        each.title: [
            Graph.of(panel, lines, began, seconds)
            for panel, lines in prometheus.read((panel for panel in each.panels if panel.summary), began)
        ]
        for each in DASHBOARDS
    }
    span = "day" if seconds >= DAY_S else format_value(seconds, "s")
    return render(request, "health_day.html", areas=areas, has_prometheus=True, span=span)


def _problems(figures: Figures) -> list[Problem]:
    """The alerts of Prometheus; without it, what can be seen now."""
    prometheus = PrometheusClient.of_environment()
    if prometheus is None:
        return sorted(_seen_now(figures), key=lambda problem: problem.level)
    try:
        firing = prometheus.firing()
    except StudioError as error:
        return [Problem(text=str(error)), *sorted(_seen_now(figures), key=lambda problem: problem.level)]
    return [Problem(text=alert.summary, level="bad" if alert.severity == "critical" else "warn") for alert in firing]


def _seen_now(figures: Figures) -> Iterable[Problem]:
    for source, is_up in figures.by(UP).items():
        if not is_up:
            yield Problem(text=f"{source} does not answer. `studio status` says why, and `studio up` starts it.")
    if figures.one("studio_workers_online") == 0:
        yield Problem(text="No worker takes runs: they wait. Start one on a machine with `make up`.")
    for model, version in _not_served(figures).items():
        yield Problem(
            text=f"Version {version:.0f} of {model} is the champion, and Triton does not serve it. Deploy it."
        )
    yield from _seen_on_the_machine(figures)
    for queue, seconds in figures.by("studio_queue_oldest_wait_seconds").items():
        if queue not in _PATIENT and seconds > LONGEST_WAIT_S:
            waits = format_value(seconds, "s")
            yield Problem(text=f"A run of queue {queue} is due for {waits}. Start another worker.", level="warn")


def _seen_on_the_machine(figures: Figures) -> Iterable[Problem]:
    for place, share in _free_disk(figures).items():
        if share < LEAST_DISK:
            yield Problem(text=f"The disk of {place} has {share:.0%} left. Start clean-up, or add a disk.")
    age, is_too_old = _backup_age(figures)
    if age is not None and is_too_old:
        yield Problem(text=f"The last backup is {format_value(age, 's')} old. Take one: `studio backup FOLDER`.")
    yield from _ending_tokens(figures)
    stalled = figures.one("studio_key_rotation_stalled_seconds") or 0
    if stalled > LONGEST_STALL_S:
        waits = format_value(stalled, "s")
        yield Problem(
            text=f"A rotation of the keys has not gone on for {waits}: until it ends, the former passwords and keys "
            "open the doors, too. End it: `studio rotate-keys`."
        )


def _ending_tokens(figures: Figures) -> Iterable[Problem]:
    for machine, end in figures.by("studio_worker_token_end_timestamp_seconds").items():
        if (left := end - time.time()) < WARNED.total_seconds():
            ends = f"ends in {format_value(left, 's')}" if left > 0 else "has ended"
            text = f"The token of worker {machine} {ends}: bring it the file of `studio worker-env {machine}`."
            yield Problem(text=text, level="warn" if left > 0 else "bad")


def _backup_age(figures: Figures) -> tuple[float | None, bool]:
    """The age of the last backup in seconds, if there is one, and whether it is too old."""
    taken, limit = (figures.one(f"studio_{name}_seconds") for name in ("last_backup_timestamp", "backup_limit"))
    age = None if taken is None else max(0.0, time.time() - taken)
    return age, age is not None and limit is not None and age > limit


def _not_served(figures: Figures) -> dict[str, float]:
    """Champions that Triton does not serve, if it answers."""
    if not figures.by(UP).get("triton"):
        return {}
    served = figures.by("studio_served_version")
    return {model: own for model, own in figures.by("studio_champion_version").items() if served.get(model) != own}


def _free_disk(figures: Figures) -> dict[str, float]:
    free, size = (figures.by(f"studio_disk_{name}_bytes") for name in ("free", "size"))
    return {place: free[place] / size[place] for place in size if size[place]}


def _pipelines(figures: Figures) -> list[Fact]:
    if not figures.by(UP).get("prefect"):
        return [Fact(name="Prefect", value="does not answer", level="bad")]
    states = Counter[str]()
    for (_, state), count in figures.values["studio_flow_runs"].items():
        states[state] += int(count)
    wait = max(figures.by("studio_queue_oldest_wait_seconds").values(), default=0)
    workers = figures.one("studio_workers_online") or 0
    trainings = figures.by("studio_training_progress_timestamp_seconds")
    epochs = figures.by("studio_training_epoch")
    scores = figures.values.get("studio_training_score_ratio", {})
    return [
        *(
            Fact(name=f"Runs that are {state}", value=f"{states[state]}")
            for state in ("running", "waiting", "suspended")
        ),
        Fact(name="Longest wait in a queue", value=format_value(wait, "s")),
        Fact(name="Workers", value=f"{workers:.0f}", level="" if workers else "bad"),
        *(
            Fact(
                name=f"Training of {model}",
                value=f"epoch {epochs.get(model, 0):.0f}"
                + "".join(f", {score} {value:.2f}" for (of, score), value in scores.items() if of == model),
            )
            for model in trainings
        ),
    ]


def _serving(figures: Figures) -> list[Fact]:
    if not figures.by(UP).get("triton"):
        return [Fact(name="Triton", value="does not answer", level="bad")]
    served, since = figures.by("studio_served_version"), figures.by("studio_champion_since_timestamp_seconds")
    wrong = _not_served(figures)
    scores = {
        model: value
        for (model, name), value in figures.values.get("studio_champion_score_ratio", {}).items()
        if name == "mAP50-95"
    }
    facts = []
    for model in sorted({*served, *wrong}):
        parts = [f"version {served[model]:.0f}" if model in served else "not served"]
        if model in since:
            parts.append(f"champion for {format_value(time.time() - since[model], 's')}")
        if model in scores:
            parts.append(f"mAP50-95 {scores[model]:.2f}")
        facts.append(Fact(name=model, value=", ".join(parts), level="bad" if model in wrong else ""))
    return facts


def _machine(figures: Figures) -> list[Fact]:
    memory, available = (figures.one(f"studio_machine_memory{name}_bytes") for name in ("", "_available"))
    facts = [Fact(name="Memory that is free", value=f"{available / memory:.0%}")] if memory and available else []
    free = figures.by("studio_disk_free_bytes")
    for place, share in _free_disk(figures).items():
        text = f"{share:.0%}, {format_value(free[place], 'bytes')}"
        facts.append(Fact(name=f"Disk of {place} that is free", value=text, level="bad" if share < LEAST_DISK else ""))
    if figures.by(UP).get("backup"):
        age, is_too_old = _backup_age(figures)
        text = "none is known" if age is None else f"{format_value(age, 's')} old"
        facts.append(Fact(name="Last backup", value=text, level="bad" if is_too_old else ""))
    used, total = (figures.by(f"studio_gpu_memory{name}_bytes") for name in ("_used", ""))
    busy = figures.by("studio_gpu_busy_ratio")
    facts += [
        Fact(name=f"GPU {gpu}", value=f"{busy.get(gpu, 0):.0%} busy, {used[gpu] / total[gpu]:.0%} of its memory taken")
        for gpu in total
    ]
    return facts


def _ended_by_hour() -> list[Line]:
    """The runs of the last day by state, in 24 hours that end now; without Prometheus nobody keeps more."""
    now = datetime.now(UTC)
    counts: dict[str, Counter[int]] = {state: Counter() for state in ENDED.values()}
    for run in islice(run_figures.list_ended(now - timedelta(days=1)), _MOST_ENDED):
        if run.ended is not None:
            counts[ENDED[run.type]][int((now.timestamp() - run.ended) // 3600)] += 1
    return [
        Line(name=state, points=[(now.timestamp() - 3600 * hour, by_hour[hour]) for hour in range(23, -1, -1)])
        for state, by_hour in counts.items()
        if by_hour
    ]


ROUTES = [
    Route("/health", show_tab),
    Route("/health/now", show_now),
    Route("/health/day", show_day),
]
