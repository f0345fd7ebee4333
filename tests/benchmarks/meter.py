"""Rates beside what they cost: wall-clock lies on a machine that others use too, processor time much less."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import psutil
import torch

from infra import supervisord
from infra.stack_settings import StackSettings
from tests.benchmarks.results import Measure, busy_s

CORES = os.cpu_count() or 1
GPU = torch.cuda.is_available()
DEVICE = torch.cuda.get_device_name(0) if GPU else "cpu"
QUIET = 0.1  # of the machine taken by others: where it is more, the ratio of an idle machine is judged
FLOOR = 0.8  # of the limit: what a row must reach whose goal is higher
GROUPS = {"triton": "triton", "object-store": "store"}  # services by whom their time counts for; the others are "rest"


class Done(NamedTuple):
    """What a block of work did; `work_rate` is what a run itself says, from its first picture to its last.

    `ended` is when it was done by `time.perf_counter`, where it returned later.
    """

    pictures: int
    work_rate: float = 0.0
    ended: float | None = None


Work = Callable[[], Done]


@dataclass(frozen=True)
class Measured:
    """So many pictures in so many seconds; `spent` are seconds of processor time by group.

    `work_rate` is that of `Done`, `foreign` the share of the machine that others took meanwhile.
    """

    pictures: int
    seconds: float
    spent: Mapping[str, float]
    foreign: float
    work_rate: float = 0.0

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds


class Meter:
    """Measures a block of work, with what it costs this process and the services of the stack."""

    def __init__(self, settings: StackSettings) -> None:
        with supervisord.connect(settings) as supervisor:
            self._services = {each["name"]: psutil.Process(each["pid"]) for each in supervisor.getAllProcessInfo()}

    def __call__(self, work: Work) -> Measured:
        """Do it once."""
        busy, spent, began = busy_s(), self._spent(), time.perf_counter()
        done = work()
        seconds = time.perf_counter() - began
        now = self._spent()
        used = {group: now[group] - spent[group] for group in now}
        foreign = (busy_s() - busy - sum(used.values())) / (seconds * CORES)
        return Measured(done.pictures, (done.ended or began + seconds) - began, used, max(foreign, 0.0), done.work_rate)

    @contextmanager
    def own_cores(self) -> Iterator[None]:
        """In the block Triton has one half of the cores, and everything else the other."""
        cores = sorted(os.sched_getaffinity(0))
        half = len(cores) // 2
        before = {thread: os.sched_getaffinity(thread) for _, thread in self._threads()}
        try:
            for name, thread in self._threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, cores[:half] if GROUPS.get(name) == "triton" else cores[half:])
            yield
        finally:
            for _, thread in self._threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, before.get(thread, cores))

    def _threads(self) -> Iterator[tuple[str, int]]:
        """The threads of this process and of the services, with the name of the service."""
        for name, service in [("", psutil.Process()), *self._services.items()]:
            with suppress(psutil.Error):
                for process in [service, *service.children(recursive=True)]:
                    yield from ((name, thread.id) for thread in process.threads())

    def _spent(self) -> dict[str, float]:
        spent = {"client": _seconds(psutil.Process()), **dict.fromkeys(["triton", "store", "rest"], 0.0)}
        for name, service in self._services.items():
            with suppress(psutil.Error):
                family = [service, *service.children(recursive=True)]
                spent[GROUPS.get(name, "rest")] += sum(map(_seconds, family))
        return spent


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


@dataclass(frozen=True)
class Side:
    """One side of a comparison, over all rounds; `serial` for one that asks for a picture after the other."""

    rounds: Sequence[Measured]
    serial: bool = False

    @property
    def rate(self) -> float:
        return statistics.median(each.rate for each in self.rounds)

    @property
    def work_rate(self) -> float:
        return statistics.median(each.work_rate for each in self.rounds)

    @property
    def foreign(self) -> float:
        return max(each.foreign for each in self.rounds)

    @property
    def cost(self) -> dict[str, float]:
        """Milliseconds of processor time a picture, by group."""
        pictures = sum(each.pictures for each in self.rounds)
        groups = ("client", "triton", "store", "rest")
        return {name: 1000 * sum(each.spent.get(name, 0.0) for each in self.rounds) / pictures for name in groups}

    @property
    def idle_rate(self) -> float:
        """Pictures a second on a machine with nothing else to do.

        Whoever asks for one after the other has only Triton's model on all cores, and everything else on one. That is
        still kind to it: Triton's own part is not parallel either.
        """
        cost = self.cost
        alone = sum(cost.values()) - cost["triton"] if self.serial else 0.0
        return 1000 / (alone + (sum(cost.values()) - alone) / CORES)


class Cells(NamedTuple):
    """A line of the table; a cell that means nothing for it stays empty."""

    what: str
    against: str
    device: str = DEVICE
    rate: str = ""
    work: str = ""
    their_rate: str = ""
    cost: str = ""
    their_cost: str = ""
    others: str = ""
    ratio: str = ""
    work_ratio: str = ""
    idle: str = ""
    limit: str = ""
    goal: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """What is compared with what. `least` is the processor time a picture, in ms, of what nobody can leave out."""

    what: str
    against: str
    ours: Side
    theirs: Side
    goal: float
    least: float

    @property
    def ratio(self) -> float:
        pairs = zip(self.ours.rounds, self.theirs.rounds, strict=True)
        return statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)

    @property
    def idle(self) -> float:
        return self.ours.idle_rate / self.theirs.idle_rate

    @property
    def limit(self) -> float:
        """The ratio of a worker that does what nobody can leave out, on all cores, and nothing else."""
        return 1000 * CORES / self.least / self.theirs.idle_rate

    @property
    def foreign(self) -> float:
        return max(self.ours.foreign, self.theirs.foreign)

    @property
    def judged(self) -> float:
        """The ratio that counts."""
        return self.idle if self.foreign > QUIET and not GPU else self.ratio

    @property
    def floor(self) -> float:
        """What the ratio must be at least; processor time gives no limit where a GPU does the arithmetic."""
        return self.goal if GPU else min(self.goal, FLOOR * self.limit)

    @property
    def verdict(self) -> str:
        if self.judged >= self.goal:
            return "met"
        return "out of reach" if self.goal > self.limit and not GPU else "MISSED"

    def measures(self) -> list[Measure]:
        """Pictures a second, and what a picture costs in processor time, as a run of all benches keeps them."""
        name, groups = f"{self.what}, beside {self.against}", ("client", "triton", "store", "rest")
        rates = [[each.rate for each in side.rounds] for side in (self.ours, self.theirs)]
        costs = [
            [1000 * sum(each.spent.get(group, 0.0) for group in groups) / each.pictures for each in side.rounds]
            for side in (self.ours, self.theirs)
        ]
        return [
            Measure(
                name=name,
                unit="images/s",
                better="more",
                ours=rates[0],
                beside=self.against,
                theirs=rates[1],
                goal=self.goal,
            ),
            Measure(
                name=f"{name}, processor time",
                unit="ms an image",
                better="less",
                ours=costs[0],
                beside=self.against,
                theirs=costs[1],
            ),
        ]

    def cells(self) -> Cells:
        ours, theirs = self.ours, self.theirs
        return Cells(
            what=self.what,
            against=self.against,
            rate=f"{ours.rate:.1f}",
            work=f"{ours.work_rate:.1f}",
            their_rate=f"{theirs.rate:.1f}",
            cost=_cost(ours),
            their_cost=_cost(theirs),
            others=f"{self.foreign:.0%}",
            ratio=f"{self.ratio:.2f}",
            work_ratio=f"{ours.work_rate / theirs.rate:.2f}",
            idle="" if GPU else f"{self.idle:.2f}",
            limit="" if GPU else f"{self.limit:.2f}",
            goal=f"{self.goal:g}",
            verdict=self.verdict,
        )


HEAD = Cells(
    what="measure",
    against="against",
    device="device",
    rate="images/s",
    work="work",
    their_rate="theirs",
    cost="ms of CPU an image",
    their_cost="theirs",
    others="others",
    ratio="ratio",
    work_ratio="work",
    idle="idle",
    limit="limit",
    goal="goal",
)
LEGEND = f"""\
device is what the model ran on. images/s is end to end, work is from the first picture to the last as summary.json
says. CPU is this process + Triton + object store + the other services. others is the share of the machine that was not
ours. idle is the ratio by processor time, as on a machine with nothing else to do; it is what counts where others took
more than a tenth. limit is the same for a worker that decodes, asks and (for films) encodes, and does nothing else: a
goal above it is out of reach. The bench fails where what counts is below the goal and below {FLOOR:g} of the limit,
too. On a GPU processor time says little: idle and limit are empty, ratio alone counts, and the bench fails where it is
below the goal."""


def _cost(side: Side) -> str:
    cost = side.cost
    return f"{sum(cost.values()):.1f}=" + "+".join(f"{cost[name]:.1f}" for name in cost)


def told(rows: Sequence[Cells]) -> str:
    """The table as text."""
    lines = [HEAD, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD))]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join([*table, LEGEND])
