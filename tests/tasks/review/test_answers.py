"""What a tool says about the images of a round, also if it says something odd."""

from typing import Any

import pytest

from tasks.review.answers import LONGEST_S, ReviewTask, sort_answers

DRAWN: dict[str, Any] = {"result": []}


def _task(entry: str, *annotations: dict[str, Any], skipped: int = 0) -> ReviewTask:
    return ReviewTask(entry=entry, annotations=annotations, skipped=skipped)


def test_each_image_is_submitted_skipped_or_open() -> None:
    """One that was skipped and then submitted is submitted; an image of no round is none of ours."""
    tasks = [_task("a", DRAWN), _task("b", skipped=1), _task("c", DRAWN, skipped=1), _task("d"), _task("x", DRAWN)]
    answers = sort_answers(["a", "b", "c", "d", "e"], {task.entry: task for task in tasks})
    assert [task.entry for task in answers.submitted] == ["a", "c"]
    assert (answers.skipped_entries, answers.skipped, answers.still_open) == (("b",), 1, 2)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ([4.5, 2], 6.5),
        ([None], None),
        ([], None),
        (["12"], None),
        ([-1.0, float("nan"), float("inf")], None),
        ([1e9], LONGEST_S),
    ],
)
def test_seconds_are_told_if_they_can_be(told: list[object], seconds: float | None) -> None:
    assert _task("a", *({"lead_time": each} for each in told)).seconds == seconds
