"""What is slower in one run of `make bench` than in another: `make bench-compare A=before.json B=after.json`.

Each measure is compared by what it is beside something else in the same round, so a machine that is slower as a whole
changes nothing. What stands alone is compared by a yardstick, and only if both runs had the machine for themselves. It
is worse, or better, if the interval of (b of B) / (a of A) is on one side of 1 and the change is at least `MARGIN`. The
level of the intervals is 5 % divided by the measures that are compared (Bonferroni), half of it on each side: of forty
pairs of runs of the same code, one says that anything at all is worse. A bench that ended well in A and fails in B, as
it does where a goal is missed, is worse, too.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.resampling import LEAST_ROUNDS, LEVEL, Interval, drift_interval
from tests.benchmarks.results import BenchRun, Measure, ResultFile, ResultFileError, load

QUIET = 0.1  # of the machine taken by others: where it is more, a yardstick is slowed down by less than other work
MARGIN = 0.03  # of itself: less is what a run of the same code has, of where its files and pages came to lie


@dataclass(frozen=True)
class Change:
    """A measure of both files, and how many times its figure of A its figure of B is."""

    bench: str
    measure: Measure
    drift: Interval

    @property
    def is_worse(self) -> bool:
        """Whether it is, beyond noise."""
        return self._is_beyond(less_is_worse=self.measure.better == "more")

    @property
    def is_better(self) -> bool:
        """Whether it is, beyond noise."""
        return self._is_beyond(less_is_worse=self.measure.better == "less")

    def _is_beyond(self, *, less_is_worse: bool) -> bool:
        value, low, high = self.drift
        if less_is_worse:
            return high is not None and high < 1 and value <= 1 / (1 + MARGIN)
        return low is not None and low > 1 and value >= 1 + MARGIN

    def __str__(self) -> str:
        """One line."""
        return f"{self.bench}: {self.measure.name}: x {self.drift}"


@dataclass(frozen=True)
class Comparison:
    """What two files say; all but `changes` are lines for people."""

    changes: Sequence[Change]
    failed: Sequence[str] = field(default=())
    missing: Sequence[str] = field(default=())
    incomparable: Sequence[str] = field(default=())

    @property
    def worse(self) -> list[Change]:
        """What became worse."""
        return [change for change in self.changes if change.is_worse]

    @property
    def exit_code(self) -> int:
        """1 if something is worse or fails now, 2 if nothing could be compared."""
        return 1 if self.worse or self.failed else 0 if self.changes else 2

    def __str__(self) -> str:
        """Everything, by sections."""
        better = [change for change in self.changes if change.is_better]
        worse = [*self.failed, *self.worse]
        sections: dict[str, Sequence[object]] = {
            "worse": worse,
            "better": better,
            "missing": self.missing,
            "not compared": self.incomparable,
        }
        lines = [f"{title}:\n" + "\n".join(f"  {each}" for each in found) for title, found in sections.items() if found]
        alike = len(self.changes) - len(self.worse) - len(better)
        level = LEVEL / max(1, len(self.changes))
        told = f"{len(self.changes)} measures compared at a level of {level:.2%} each, {alike} as before within noise"
        return "\n".join([*lines, told])


def compare(before: ResultFile, after: ResultFile) -> Comparison:
    """Return what became of each measure."""
    missing = [f"{bench}: not in B" for bench in before.benches.keys() - after.benches.keys()]
    missing += [f"{bench}: not in A" for bench in after.benches.keys() - before.benches.keys()]
    failed: list[str] = []
    incomparable: list[str] = []
    pairs: list[tuple[str, Measure, Measure]] = []
    for bench in sorted(before.benches.keys() & after.benches.keys()):
        a, b = before.benches[bench], after.benches[bench]
        for name, run in (("A", a), ("B", b)):
            if run.exit_code is None or run.exit_code < 0:
                incomparable.append(f"{bench}: did not come to its end in {name}")
        if a.exit_code == 0 and (b.exit_code or 0) > 0:
            failed.append(f"{bench}: ended well in A, with {b.exit_code} in B")
        if a.machine.kind != b.machine.kind:
            kinds = [", ".join(f"{part}" for part in each.machine.kind) for each in (a, b)]
            incomparable.append(f"{bench}: the machines differ: A has {kinds[0]}; B has {kinds[1]}")
            continue
        own = {measure.name: measure for measure in b.measures}
        missing += [f"{bench}: {name}: not in A" for name in own.keys() - {each.name for each in a.measures}]
        for measure in a.measures:
            if measure.name not in own:
                missing.append(f"{bench}: {measure.name}: not in B")
            elif why := _difference(measure, own[measure.name]) or _noise(measure, a, b):
                incomparable.append(f"{bench}: {measure.name}: {why}")
            else:
                pairs.append((bench, measure, own[measure.name]))
    level = LEVEL / max(1, len(pairs))
    changes = [Change(bench, a, drift_interval(a.compared, b.compared, level)) for bench, a, b in pairs]
    return Comparison(changes, failed, sorted(missing), incomparable)


def _difference(a: Measure, b: Measure) -> str:
    """Why two measures of one name cannot be compared, or nothing."""
    for what in ("unit", "better", "beside"):
        if getattr(a, what) != getattr(b, what):
            return f"{what} is {getattr(a, what)} in A, {getattr(b, what)} in B"
    if (a.yardstick is None) is not (b.yardstick is None):
        return "only one has a yardstick"
    if (rounds := min(len(a.ours), len(b.ours))) < LEAST_ROUNDS:
        return f"expected {LEAST_ROUNDS} rounds or more, found {rounds}"
    return ""


def _noise(measure: Measure, a: BenchRun, b: BenchRun) -> str:
    """Why a yardstick says nothing, or nothing: caches and memory that others use slow down each work differently."""
    if measure.yardstick is None:
        return ""
    for name, run in (("A", a), ("B", b)):
        if run.foreign is None:
            return f"it stands alone, and how much of the machine others took in {name} is not known"
        if run.foreign > QUIET:
            return f"it stands alone, and others took {run.foreign:.0%} of the machine in {name}, more than {QUIET:.0%}"
    return ""


def _heads(name: str, held: ResultFile) -> Iterator[str]:
    """What a file is of, a line for each commit and machine."""
    seen = dict.fromkeys((run.versions, run.machine.kind) for run in held.benches.values())
    for versions, kind in seen:
        cpu, cores, gpu = kind
        of = f"{versions.commit}{' with changes' if versions.dirty else ''}"
        libraries = f"Python {versions.python}, torch {versions.torch}, OpenVINO {versions.openvino}"
        yield f"{name}: {of}, {libraries}, {cores} cores of {cpu}, GPU: {gpu}"


def main() -> int:
    """Print what changed; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.comparison", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    try:
        before, after = load(given.before), load(given.after)
    except ResultFileError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    print("\n".join([*_heads("A", before), *_heads("B", after)]))
    comparison = compare(before, after)
    print(comparison)
    if not comparison.changes:
        print("nothing could be compared")
    return comparison.exit_code


if __name__ == "__main__":
    sys.exit(main())
