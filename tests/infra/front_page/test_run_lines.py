"""What a line of the list of runs says; with runs of the server: test_runs.py."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import StateType

from infra.front_page.run_lines import EXPERIMENTS, PARENTS, RunLine, subject_of
from infra.front_page.runs import FLOWS
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.run_list import ListedRun

RUN = UUID(int=7)


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


@pytest.mark.parametrize(
    ("flow", "state", "message", "has_one"),
    [
        ("import-dataset", StateType.COMPLETED, "a.zip: 10 images", True),
        ("import-dataset", StateType.FAILED, f"Fix it; every finding is at http://x/runs/{RUN}/report.html?y=z", True),
        ("import-dataset", StateType.FAILED, "Expected a new name, found 'a.zip'", False),
        ("train-model", StateType.FAILED, f"every finding is at http://x/runs/{RUN}/datasets/d1.html", False),
        ("undeploy-model", StateType.COMPLETED, "", False),
    ],
)
def test_a_run_that_has_left_a_page_leads_to_it_also_if_what_it_made_is_invalid(
    flow: str, state: StateType, message: str, has_one: bool
) -> None:
    now = datetime.now(UTC)
    ended = RunState(id=RUN, name="x", type=state, state=state.title(), message=message, since=now, began=now)
    run = ListedRun(state=ended, flow=flow, parameters={}, ended=now, parent=None)
    assert RunLine(run=run, progress=None, newest="").has_pages is has_one


def test_each_flow_that_is_named_is_there() -> None:
    assert set(FLOWS) >= {*EXPERIMENTS, *PARENTS, "train-model"}
