"""Loops side by side on the stack's worker."""

from pathlib import Path
from uuid import UUID

import pytest

from tasks.deletion.archives import find_obstacles
from tasks.orchestration import deployed_flows
from tasks.pipelines.steps import loop_archive
from tests.chaos.steps import read, until
from tests.flows import loops
from tests.flows.pipelines import children

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def test_two_loops_at_one_time_both_come_to_their_reviews(name: str, tmp_path: Path) -> None:
    """They fill queue `pipelines`; a person who cancels them has both reviews cancelled.

    While a loop waits, what it has made counts as read.
    """
    loops.store_data(name, tmp_path)
    both = [loops.start(name), loops.start(name)]
    for loop in both:
        until(lambda loop=loop: loops.waits(loop), "the loop waits for people")  # type: ignore[misc]
        assert reviews(loop, name) == "Suspended"
        reasons = [each.reason for each in find_obstacles(loop_archive(name, str(loop), "labelled.zip"), "")]
        assert reasons == [f"Unfinished runs read it: {read(loop).name}."]
    for loop in both:
        assert deployed_flows.cancel(loop) == "Cancelled"
    for loop in both:
        until(lambda loop=loop: reviews(loop, name) == "Cancelled", "nobody is asked any longer")  # type: ignore[misc]
        assert read(loop).state_name == "Cancelled"
        assert len(children(loop)) == 3


def reviews(loop: UUID, name: str) -> str | None:
    found = loops.part(loop, f"review for {name}")
    return found.state_name if found else None
