"""200 damaged archives of `python -m tests.benchmarks.fuzz_archives`; and damaged checks, to see that it sees."""

import os
import time
from pathlib import Path

import pytest

from tasks.dataset.findings import Verdict
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import Inspection, inspect_dataset
from tests.benchmarks.fuzz_archives import Job, Outcome, fuzz
from tests.benchmarks.mutants import mutant

MUTANTS = 200


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return list(fuzz(Job(MUTANTS)))


@pytest.mark.slow
def test_no_damaged_archive_harms_the_check(outcomes: list[Outcome]) -> None:
    """No crash, no hang, no write, no growing memory; always a report that survives JSON, with known codes."""
    assert [outcome for outcome in outcomes if outcome.failure] == []
    assert [outcome.index for outcome in outcomes] == list(range(MUTANTS))


@pytest.mark.slow
def test_the_damage_reaches_every_part_of_the_check(outcomes: list[Outcome]) -> None:
    """Mutants that all end as 'no zip' would prove nothing."""
    found = {code for outcome in outcomes for code in outcome.codes}
    assert {code.partition("-")[0] for code in found} >= {"archive", "yaml", "split", "image", "label", "class"}
    verdicts = [outcome.verdict for outcome in outcomes]
    assert MUTANTS / 20 < len([verdict for verdict in verdicts if verdict != Verdict.INVALID]) < MUTANTS * 0.95
    unreadable = [outcome for outcome in outcomes if outcome.codes == ("archive-unreadable",)]
    assert len(unreadable) < MUTANTS / 2


def test_a_mutant_is_the_same_bytes_each_time() -> None:
    assert [mutant(3, index) for index in range(20)] == [mutant(3, index) for index in range(20)]
    assert len({mutant(seed, index) for seed in range(3) for index in range(20)}) == 60


FAULTS = ("OSError: no such thing", "soon gone", "in _hang", "Fatal Python error: Aborted")


def ill(path: Path, archive: str, digest: str, policy: ValidationPolicy) -> Inspection:
    """A check that does another wrong thing with each of the first mutants."""
    fault = [mutant(0, index) for index in range(len(FAULTS))].index(path.read_bytes())
    (_raise, _write, _hang, os.abort)[fault]()
    return inspect_dataset(path, archive, digest, policy)


def _raise() -> None:
    raise OSError("no such thing")


def _write() -> None:
    Path("soon gone").touch()
    Path("soon gone").unlink()


def _hang() -> None:
    time.sleep(60)


@pytest.mark.slow
def test_a_check_that_raises_writes_hangs_or_aborts_is_reported() -> None:
    """Proves that the first test can fail, and that after a hang the next mutant has its turn."""
    outcomes = list(fuzz(Job(len(FAULTS), check=ill, limit_s=2)))

    assert [outcome.index for outcome in outcomes] == list(range(len(FAULTS)))
    for outcome, fault in zip(outcomes, FAULTS, strict=True):
        assert fault in (outcome.failure or "")
