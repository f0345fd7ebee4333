"""What a bench leaves, whatever happens to it, and what a comparison makes of two runs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import __main__ as runner
from tests.benchmarks.comparison import Comparison, compare
from tests.benchmarks.resampling import drift_interval, ratio_interval, slope_interval
from tests.benchmarks.results import BENCH, RESULTS, Measure, ResultFile, ResultFileError, begin, load, record, save

MEASURES = 8
ROUNDS = 7


def measure(name: str = "merge", ours: Sequence[float] = (2.0, 2.2, 2.1), **fields: Any) -> Measure:
    return Measure(name=name, unit="s", ours=[*ours], **{"better": "less", **fields})


def results(*measures: Measure, **changes: Any) -> ResultFile:
    run = begin().model_copy(update={"measures": [*measures], "exit_code": 0, "foreign": 0.0, **changes})
    return ResultFile(benches={"bench_merge": run})


def drawn(seed: int, factors: Sequence[float], *, noise: float = 0.02, better: str = "less") -> ResultFile:
    """Measures whose ratios are `factors`, with noise of each round, on a machine that is up to twice as slow."""
    rng = np.random.default_rng(seed)
    made = []
    for number, factor in enumerate(factors):
        theirs = rng.uniform(1, 2, ROUNDS) * 10
        ours = theirs * factor * np.exp(rng.normal(0, noise, ROUNDS))
        made.append(measure(f"part {number}", ours.tolist(), theirs=theirs.tolist(), beside="unzip", better=better))
    return results(*made)


def drifted(seed: int, factor: float, noise: float) -> Comparison:
    """What is said of two runs, in the second of which the first measure is `factor` times that of the first."""
    before = drawn(2 * seed, [1.0] * MEASURES, noise=noise)
    return compare(before, drawn(2 * seed + 1, [factor, *[1.0] * (MEASURES - 1)], noise=noise))


def test_a_file_compared_with_itself_shows_nothing() -> None:
    held = drawn(0, [0.5, 1.0, 2.0])
    found = compare(held, held)
    assert (found.worse, found.missing, found.incomparable, found.exit_code) == ([], [], [], 0)


def test_a_drift_of_a_tenth_is_found_and_noise_alone_is_not() -> None:
    """The bound on false alarms is 2.5 % of all pairs of runs; docs/operations.md has what 400 pairs gave."""
    assert sum(bool(drifted(seed, 1.0, 0.05).worse) for seed in range(15)) <= 1
    slower = [drifted(seed, 1.1, 0.02) for seed in range(15)]
    found = [[change.measure.name for change in each.worse] for each in slower]
    assert sum("part 0" in names for names in found) >= 13
    assert all(each.exit_code == 1 for each in slower if each.worse)


@pytest.mark.parametrize(("better", "factor"), [("less", 1.2), ("more", 1 / 1.2)])
def test_which_way_is_worse_is_the_measures_own(better: str, factor: float) -> None:
    one, other = drawn(1, [1.0], better=better), drawn(2, [factor], better=better)
    forth, back = compare(one, other), compare(other, one)
    assert (len(forth.worse), forth.exit_code) == (1, 1)
    assert (back.worse, back.exit_code, back.changes[0].is_better) == ([], 0, True)


def test_a_machine_that_is_slower_as_a_whole_is_no_change() -> None:
    alone = measure(ours=[2.0, 2.1, 2.2], yardstick=[1.0, 1.05, 1.1])
    slow = measure(ours=[4.0, 4.2, 4.41], yardstick=[2.0, 2.1, 2.2])
    assert compare(results(alone), results(slow)).worse == []


@pytest.mark.parametrize(("foreign", "reason"), [(0.5, "took 50% of the machine in B"), (None, "is not known")])
def test_what_stands_alone_is_not_compared_with_a_run_on_a_busy_machine(foreign: float | None, reason: str) -> None:
    alone, paired = (
        measure("alone", yardstick=[1.0, 1.0, 1.0]),
        measure("paired", theirs=[1.0, 1.0, 1.0], beside="unzip"),
    )
    found = compare(results(alone, paired), results(alone, paired, foreign=foreign))
    assert [change.measure.name for change in found.changes] == ["paired"]
    assert reason in found.incomparable[0]


def test_exact_figures_that_differ_are_found_without_any_noise() -> None:
    same, more = measure(ours=[100.0] * 3), measure(ours=[104.0] * 3)
    assert len(compare(results(same), results(more)).worse) == 1


def test_what_only_one_file_has_is_named() -> None:
    found = compare(results(measure("a"), measure("b")), results(measure("b"), measure("c")))
    assert found.missing == ["bench_merge: a: not in B", "bench_merge: c: not in A"]
    assert compare(results(measure()), ResultFile()).missing == ["bench_merge: not in B"]


def test_what_cannot_be_compared_is_named_with_its_reason() -> None:
    machine = begin().machine.model_copy(update={"cpu": "another"})
    other = compare(results(measure()), results(measure(), machine=machine))
    assert other.exit_code == 2
    assert "the machines differ" in other.incomparable[0]
    for changed, reason in (
        (measure(ours=[2.0, 2.1]), "3 rounds or more"),
        (measure(better="more"), "better is less in A, more in B"),
        (measure(theirs=[1.0, 1.0, 1.0], beside="unzip"), "beside is None in A, unzip in B"),
        (measure(yardstick=[1.0, 1.0, 1.0]), "only one has a yardstick"),
    ):
        assert reason in compare(results(measure()), results(changed)).incomparable[0]


def test_a_bench_that_did_not_end_well_is_named_and_its_measures_count() -> None:
    found = compare(results(measure()), results(measure(), exit_code=-9))
    assert found.incomparable == ["bench_merge: did not come to its end in B"]
    assert len(found.changes) == 1


def test_a_bench_that_misses_a_goal_now_is_worse() -> None:
    found = compare(results(measure()), results(measure(), exit_code=1))
    assert (found.failed, found.exit_code) == (["bench_merge: ended well in A, with 1 in B"], 1)
    assert compare(results(measure(), exit_code=1), results(measure(), exit_code=1)).exit_code == 0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.json"
    monkeypatch.setenv(RESULTS, str(path))
    monkeypatch.setenv(BENCH, "bench_merge")
    save(path, ResultFile(), "bench_merge", begin())
    return path


def test_each_measure_is_in_the_file_as_soon_as_it_is_said(file: Path) -> None:
    for name in ("first", "second"):
        record(measure(name))
    assert [each.name for each in load(file).benches["bench_merge"].measures] == ["first", "second"]
    (written, _) = json.loads(file.read_text())["benches"]["bench_merge"]["measures"]
    assert written["ratio"]["value"] == 2.1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda _: "", "Expecting value"),
        (lambda text: text.partition('"cores"')[0], "Expecting property name"),
        (lambda _: "[" * 100_000, "recursion"),
        (lambda _: "[]", "the whole"),
        (lambda text: text.replace("2.1875", "NaN"), "finite"),
        (lambda text: text.replace("2.1875", "1e999"), "finite"),
        (lambda text: text.replace("2.1875", "-2"), "greater than 0"),
        (lambda text: text.replace("2.1875", '"2.1875"'), "valid number"),
        (lambda text: text.replace('"merge"', '"\\u001b[2J"'), "pattern"),
        (lambda text: text.replace('"less"', '"sideways"'), "'less' or 'more'"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format"),
        (lambda text: text.replace('"unit": "s",', '"unit": "s", "extra": 1,'), "Extra inputs"),
        (lambda text: text.replace('"theirs": null', '"theirs": [1.0]'), "beside"),
        (lambda _: " " * 10_000_001, "has more"),
    ],
)
def test_a_hostile_or_half_file_gives_an_error_that_says_what_to_do(
    file: Path, spoil: Callable[[str], str], found: str
) -> None:
    record(measure(ours=[2.0, 2.1875, 2.0]))
    text = spoil(file.read_text())
    file.write_text(text)
    with pytest.raises(ResultFileError, match=r"(?s)Expected .*make bench TO=") as caught:
        load(file)
    assert found in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_measure_with_two_lengths_of_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="as many rounds"):
        measure(theirs=[1.0], beside="unzip")


def test_what_is_no_bench_is_refused_by_name() -> None:
    assert runner.chosen("bench_labels, bench_merge") == ["bench_labels", "bench_merge"]
    with pytest.raises(ResultFileError, match=r"found bench_marge. There are bench_validation"):
        runner.chosen("bench_marge")


def test_every_bench_is_known_to_the_runner() -> None:
    """Those that take an hour, and those that simulate what no machine here is, are started by themselves."""
    alone = {"bench_loop", "bench_monitoring", "bench_label_bounds", "bench_many_machines"}
    assert {path.stem for path in Path(__file__).parent.glob("bench_*.py")} == {*runner.BENCHES, *alone} - {
        "fuzz_archives"
    }


SAYS = """
from tests.benchmarks.results import Measure, record
record(Measure(name="{}", unit="s", better="less", ours=[1]))
"""


def test_a_bench_that_is_killed_leaves_what_it_had_and_the_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    modules = {"good": SAYS.format("whole"), "killed": SAYS.format("half") + "import os; os.kill(os.getpid(), 9)"}
    for name, text in modules.items():
        (tmp_path / f"{name}_bench.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        assert runner.run("good", path, ("good_bench",)) == 0
        assert runner.run("killed", path, ("killed_bench",)) == -signal.SIGKILL
    held = load(path).benches
    assert {name: ([each.name for each in run.measures], run.exit_code) for name, run in held.items()} == {
        "good": (["whole"], 0),
        "killed": (["half"], -signal.SIGKILL),
    }


def test_the_command_ends_with_1_if_something_is_worse(tmp_path: Path) -> None:
    for name, factor in (("a", 1.0), ("b", 1.3)):
        held = drawn(ord(name), [factor])
        save(tmp_path / f"{name}.json", held, "bench_merge", held.benches["bench_merge"])

    def compared(*files: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.benchmarks.comparison", *(str(tmp_path / file) for file in files)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    forth = compared("a.json", "b.json")
    assert forth.returncode == 1, forth.stderr
    assert "worse:\n  bench_merge: part 0: x 1.3" in forth.stdout
    assert compared("b.json", "a.json").returncode == 0
    gone = compared("a.json", "c.json")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "No such file" in gone.stderr


def test_an_interval_holds_what_it_says() -> None:
    """Of 200 runs of 7 rounds each, at most a tenth misses the truth at a level of 5 %."""
    rng = np.random.default_rng(0)
    missed = {"ratio": 0, "drift": 0, "slope": 0}
    for _ in range(200):
        rounds = np.exp(rng.normal(0, 0.05, (2, 7)))
        ratio, drift = ratio_interval(rounds[0].tolist()), drift_interval(rounds[0].tolist(), rounds[1].tolist(), 0.05)
        slope = slope_interval(range(20), (3.0 + 0.5 * np.arange(20) + rng.normal(0, 2, 20)).tolist())
        for name, truth, each in (("ratio", 1, ratio), ("drift", 1, drift), ("slope", 0.5, slope)):
            assert each.low is not None
            assert each.high is not None
            missed[name] += not each.low <= truth <= each.high
    assert max(missed.values()) <= 20, missed
    assert ratio_interval([1.0, 2.0]).low is None
