"""The line of champions: who comes after whom, and who is gone back to."""

import json

import pytest

from tasks.tracking.champion_history import dump_history, history_after_deploy, history_after_rollback, parse_history


@pytest.mark.parametrize(
    ("tag", "alias", "line"),
    [
        (None, None, []),
        (None, 3, [3]),
        ("[1, 2]", 2, [1, 2]),
        ("[1, 2]", None, [1, 2]),  # undeployed models keep their line
        ("[1, 2]", 3, [1, 2, 3]),  # killed between alias and tag, or moved by a person
        ("[1, 2, 3]", 2, [1, 2]),
    ],
)
def test_the_champion_alias_overrides_the_recorded_history(tag: str | None, alias: int | None, line: list[int]) -> None:
    assert parse_history(tag, alias) == line


@pytest.mark.parametrize(
    ("line", "version", "after"), [([], 1, [1]), ([1], 1, [1]), ([1], 2, [1, 2]), ([1, 2], 1, [1, 2, 1])]
)
def test_a_deployment_goes_on(line: list[int], version: int, after: list[int]) -> None:
    assert history_after_deploy(line, version) == after


@pytest.mark.parametrize(
    ("line", "version", "after"),
    [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1]), ([1, 2, 1, 3], 1, [1, 2, 1]), ([1, 2], 7, [1, 2, 7]), ([], 1, [1])],
)
def test_a_roll_back_forgets_what_came_after(line: list[int], version: int, after: list[int]) -> None:
    assert history_after_rollback(line, version) == after


def test_rolling_back_again_goes_further_back() -> None:
    line = [1, 2, 3]
    for expected in (2, 1):
        assert line[-2] == expected
        line = history_after_rollback(line, line[-2])


def test_a_long_line_keeps_its_end_and_fits_a_tag() -> None:
    line = list(range(1, 5001))
    tag = dump_history(line)
    assert len(tag) < 5000
    assert json.loads(tag)[-1] == 5000
