"""What a bench measured, as people read it and in the JSON file of a run of `make bench`.

A bench says each measure once, with `record`. It is printed, and kept in the file of `make bench` at once, so a bench
that is killed leaves what it had. The file has, by bench, machine, versions and measures; `docs/operations.md` says how
two files are compared.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import psutil
import pynvml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from infra.stack_settings import ROOT, StackSettings
from tests.benchmarks.resampling import Interval, ratio_interval

RESULTS, BENCH = "BENCH_RESULTS", "BENCH_NAME"  # set by `make bench`: the file, and whose measures come
MOST_BYTES = 10_000_000
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,200}$")]  # a terminal shows it as it is
Rounds = Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1, max_length=1000)]


class ResultFileError(Exception):
    """A file of results cannot be read; the message says what was expected, what was found and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Measure(_Strict):
    """Numbers of one kind, one for each round; `theirs` are those of `beside` in the same rounds.

    `goal` is of ours / theirs, or of ours where nothing stands beside; `better` says on which side of it is good. For
    seconds that stand alone `yardstick` has those of `work_a_yardstick` in the same rounds: two runs are compared by
    how often it fits in.
    """

    name: Text
    unit: Text
    better: Literal["less", "more"]
    ours: Rounds
    beside: Text | None = None
    theirs: Rounds | None = None
    yardstick: Rounds | None = None
    goal: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.beside is None) is not (self.theirs is None):
            raise ValueError("expected `beside` and `theirs`, or neither")
        if self.theirs is not None and self.yardstick is not None:
            raise ValueError("expected `theirs` or `yardstick`, found both")
        for others in filter(None, (self.theirs, self.yardstick)):
            if len(others) != len(self.ours):
                raise ValueError(f"expected as many rounds of both, found {len(self.ours)} and {len(others)}")
        return self

    @property
    def ratios(self) -> list[float]:
        """Ours / theirs in each round, or ours."""
        return _divide(self.ours, self.theirs)

    @property
    def compared(self) -> list[float]:
        """What is left of each round if the machine is slower: ours in the measure of what was beside it."""
        return _divide(self.ours, self.theirs or self.yardstick)

    @property
    def ratio(self) -> Interval:
        """The median of `ratios`, and between what it lies."""
        return ratio_interval(self.ratios)

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached, or there is none."""
        if self.goal is None:
            return True
        return self.ratio.value <= self.goal if self.better == "less" else self.ratio.value >= self.goal

    def __str__(self) -> str:
        """One line for people."""
        told = f"{self.name}: {number(statistics.median(self.ours))} {self.unit}"
        if self.theirs is not None:
            told += f", {self.beside} {number(statistics.median(self.theirs))}, ratio {self.ratio}"
        if self.goal is not None:
            limit = "at most" if self.better == "less" else "at least"
            told += f" (goal: {limit} {self.goal:g}, {'met' if self.is_met else 'MISSED'})"
        return told


class Machine(_Strict):
    """What a bench ran on; `load` is that of the last minute when it began."""

    cpu: Text
    cores: int = Field(gt=0)
    memory_mib: int = Field(gt=0)
    gpu: Text | None
    kernel: Text
    load: float = Field(ge=0, allow_inf_nan=False)

    @property
    def kind(self) -> tuple[str, int, str | None]:
        """Figures of machines of one kind can be compared."""
        return self.cpu, self.cores, self.gpu


class Versions(_Strict):
    """What a bench ran; `dirty` if files other than docs differ from the commit."""

    python: Text
    torch: Text | None
    openvino: Text | None
    commit: Text
    dirty: bool


class BenchRun(_Strict):
    """One run of one bench; `exit_code` is None until it has ended, and negative if a signal ended it.

    `foreign` is the share of the machine that others took meanwhile, services of a stack among them.
    """

    began: datetime = Field(strict=False)
    machine: Machine
    versions: Versions
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    exit_code: int | None = None
    foreign: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    measures: list[Measure] = []

    @model_validator(mode="after")
    def _names(self) -> Self:
        if len({measure.name for measure in self.measures}) < len(self.measures):
            raise ValueError("expected a name for each measure, found one twice")
        return self


class ResultFile(_Strict):
    """What a file holds: runs by the name of the bench."""

    format: Literal[1] = 1
    benches: dict[Text, BenchRun] = {}


class Taken(NamedTuple):
    """Numbers of two ways in the same rounds."""

    ours: list[float]
    theirs: list[float]


def record(measure: Measure) -> Measure:
    """Print a measure and, in a run of `make bench`, keep it in the file; returns it."""
    print(measure, flush=True)
    if path := os.environ.get(RESULTS):
        bench, held = os.environ[BENCH], load(Path(path))
        run = held.benches[bench]
        save(Path(path), held, bench, BenchRun.model_validate({**dict(run), "measures": [*run.measures, measure]}))
    return measure


def processor_s() -> float:
    """Return the processor time of this process, and of the programs that it has run to their end, in seconds."""
    usages = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def busy_s() -> float:
    """Return the processor time that all programs of this machine have taken together, in seconds."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Do each way once a round, each round beginning with another; returns the seconds of each by `clock`.

    What `prepare` takes, before each, does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        first = turn % len(ways)
        for name in (*[*ways][first:], *[*ways][:first]):
            prepare()
            began = clock()
            ways[name]()
            taken[name].append(clock() - began)
    return taken


def work_a_yardstick() -> None:
    """Do a fixed piece of work, of Python, NumPy and C, in 0.3 s; if it changes, no old result can be compared."""
    text = json.dumps([{"number": number, "name": f"entry {number}"} for number in range(40_000)])
    for _ in range(2):
        json.loads(text)
    for _ in range(20):
        hashlib.sha256(text.encode()).digest()
    values = np.arange(1_000_000, dtype=np.float64)[::-1].copy()
    for _ in range(8):
        np.sort(np.sin(values))


def number(value: float) -> str:
    """Return three digits that mean something, and all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def load(path: Path) -> ResultFile:
    """Return what a file holds.

    Raises:
        ResultFileError: It is not there, too large, or no results.
    """
    advice = f"Write one with `make bench TO={path}`."
    try:
        with path.open("rb") as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise ResultFileError(f"Expected results in {path}, found: {exc.strerror}. {advice}") from None
    if len(body) > MOST_BYTES:
        raise ResultFileError(f"Expected at most {MOST_BYTES} bytes of results, {path} has more. {advice}")
    try:
        return ResultFile.model_validate_json(_without_ratios(body))
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, ValidationError):
            first = exc.errors(include_url=False, include_input=False)[0]
            found = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        else:
            found = str(exc)
        raise ResultFileError(f"Expected results in {path}, found {found!r}. {advice}") from None


def save(path: Path, held: ResultFile, bench: str, run: BenchRun) -> ResultFile:
    """Write the file anew with this run of the bench, whole or not at all; returns what it then holds."""
    now = ResultFile(benches={**held.benches, bench: run})
    content = now.model_dump(mode="json")
    for name, each in now.benches.items():
        for measure, written in zip(each.measures, content["benches"][name]["measures"], strict=True):
            written["ratio"] = measure.ratio._asdict()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", suffix=".json", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            part.chmod(0o644)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return now


def describe_machine() -> Machine:
    """Return what this machine is, and how busy."""
    fields = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    cpu = next((value.strip() for name, _, value in fields if name.strip() == "model name"), platform.machine())
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        memory_mib=psutil.virtual_memory().total >> 20,
        gpu=_gpu(),
        kernel=platform.release(),
        load=round(os.getloadavg()[0], 2),
    )


def describe_versions() -> Versions:
    """Return what is measured."""
    commit, changes = (
        _git("rev-parse", "--short=12", "HEAD"),
        _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"),
    )
    served = f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    return Versions(
        python=platform.python_version(),
        torch=_version("torch"),
        openvino=_version("openvino", str(StackSettings().triton_venv / "lib" / served)),
        commit=commit or "unknown",
        dirty=bool(changes),
    )


def begin() -> BenchRun:
    """Return the run of a bench that begins now."""
    return BenchRun(began=datetime.now(UTC), machine=describe_machine(), versions=describe_versions())


def _divide(ours: Sequence[float], others: Sequence[float] | None) -> list[float]:
    return [*ours] if others is None else [a / b for a, b in zip(ours, others, strict=True)]


def _without_ratios(body: bytes) -> bytes:
    """Leave out what is written for others, and follows from the rounds."""
    content = json.loads(body, parse_constant=partial(_refuse, "a finite number"))
    with suppress(AttributeError, TypeError, KeyError):  # the models say what is wrong
        for run in content["benches"].values():
            for measure in run["measures"]:
                measure.pop("ratio", None)
    return json.dumps(content).encode()


def _refuse(expected: str, found: str) -> None:
    raise ValueError(f"expected {expected}, found {found}")


def _version(package: str, *path: str) -> str | None:
    found = importlib.metadata.distributions(name=package, path=[*path] or sys.path)
    return next((each.version for each in found), None)


def _git(*arguments: str) -> str:
    """What git says of this tree; nothing where it is no checkout."""
    with suppress(OSError):
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def _gpu() -> str | None:
    with suppress(pynvml.NVMLError):  # no driver here
        pynvml.nvmlInit()
        if pynvml.nvmlDeviceGetCount():
            return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    return None
