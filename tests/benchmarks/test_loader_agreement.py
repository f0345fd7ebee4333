"""Where the check says that a file is valid, Ultralytics takes it with every row, and changes neither."""

from pathlib import Path

import pytest

from tests.benchmarks.loader_agreement import compare, outcomes, scanned_tree, through_a_zip, told
from tests.benchmarks.loader_mutants import kinds, kinds_of, mutant

# Ultralytics leaves files open that Pillow refuses, and Pillow warns of much that is odd.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::UserWarning",
    "ignore::PIL.Image.DecompressionBombWarning",
)
# Each was taken by the check once, and by Ultralytics not or in another way.
SEEN = (736, 3893, 32747)


def test_the_loader_takes_what_the_check_takes(tmp_path: Path) -> None:
    """Of each task, each ending and each change there is a mutant; one goes the whole way through a zip."""
    indices = [*range(100), *SEEN]
    assert kinds() == {kind for index in indices for kind in kinds_of(mutant(0, index))}
    outcome = compare(indices, 0, tmp_path, scanned_tree)
    assert outcome.disagreements == []
    assert len(outcome.taken) > outcome.mutants / 6
    labelled = next(each for each in outcome.taken if each.mutant.task == "segment" and each.rows)
    assert list(through_a_zip(labelled, tmp_path / "whole")) == []


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_the_loader_takes_ten_thousand_that_the_check_takes(tmp_path: Path) -> None:
    seen = list(outcomes(10_000, 0, tmp_path))
    assert [line for outcome in seen for line in outcome.disagreements] == []
    print(told(seen))
