"""What a line of the list of runs says; with runs of the server: test_runs.py."""

from typing import Any

import pytest

from infra.front_page.run_lines import EXPERIMENTS, PARENTS, subject_of
from infra.front_page.runs import FLOWS


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ""),
        ({"model_name": "shapes"}, "shapes"),
        ({"model_name": "shapes", "version": 3, "serving": {"parity": None}}, "shapes version 3"),
        ({"model_name": "shapes", "version": None}, "shapes"),
        ({"model_name": "shapes", "archives": ["a.zip", "b.zip"]}, "shapes: a.zip, b.zip"),
        ({"model_name": "shapes", "archives": list("abcde"), "inputs": ["x/"]}, "shapes: a, b, c, 3 more"),
        ({"archive": "a.zip", "force": True}, "a.zip"),
        ({"run": "7c9e"}, "7c9e"),
        ({"model_name": ["odd"], "archives": {"odd": 1}, "inputs": 5}, "['odd']: {'odd': 1}, 5"),
    ],
)
def test_a_run_is_described_by_what_it_works_on(parameters: dict[str, Any], expected: str) -> None:
    assert subject_of(parameters) == expected


def test_each_flow_that_is_named_is_there() -> None:
    assert set(FLOWS) >= {*EXPERIMENTS, *PARENTS, "train-model"}
