"""Where the check says that a file is valid, Ultralytics takes it with every row, and changes neither."""

from pathlib import Path

import pytest

from tests.benchmarks.loader_agreement import compare, portions

# Ultralytics leaves files open that Pillow refuses, and Pillow warns of much that is odd.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::UserWarning")
# Each was taken by the check once, and by Ultralytics not or in another way.
SEEN = (736, 3893)


def test_the_loader_takes_what_the_check_takes(tmp_path: Path) -> None:
    outcome = compare([*range(100), *SEEN], 0, tmp_path)
    assert outcome.disagreements == []
    assert outcome.valid > outcome.mutants / 6


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_the_loader_takes_what_the_check_takes_of_ten_thousand(tmp_path: Path) -> None:
    outcomes = [compare(portion, 0, tmp_path / str(portion.start)) for portion in portions(10_000)]
    assert [line for outcome in outcomes for line in outcome.disagreements] == []
    valid = sum(outcome.valid for outcome in outcomes)
    print(f"10,000 mutants, {valid} of them taken by the check, all of these by Ultralytics")
