"""What a tool says about the images of a round, also if it says something odd."""

import pytest

from tasks.review.answers import LONGEST_S, ReviewTask, sort_answers
from tasks.review.label_studio_format import to_task


def test_each_image_is_submitted_skipped_or_open() -> None:
    """One that was skipped and then submitted is submitted; an image of no round is none of ours."""
    tasks = [
        ReviewTask(entry="a", submitted="{}", seconds=2.0),
        ReviewTask(entry="b", skipped=True, seconds=3.0),
        ReviewTask(entry="c", submitted="", skipped=True),
        ReviewTask(entry="d"),
        ReviewTask(entry="x", submitted="{}"),
    ]
    answers = sort_answers(["a", "b", "c", "d", "e"], {task.entry: task for task in tasks})
    assert answers.submitted == {"a": "{}", "c": ""}
    assert (answers.skipped_entries, answers.still_open, answers.seconds) == (("b",), 2, {"a": 2.0})


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
    task = to_task("a", [{"lead_time": each} for each in told], skipped=False)
    assert (task.seconds, task.submitted is None) == (seconds, not told)
