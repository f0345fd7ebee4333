"""What a tool says about the images of a round, also if it says something odd."""

import pytest

from tasks.review.answers import LONGEST_S, ReviewTask, sort_answers
from tasks.review.label_studio_format import to_task


def test_each_image_is_submitted_skipped_set_aside_or_open() -> None:
    """One that was skipped and then submitted is submitted; an image of no round is none of ours."""
    tasks = [
        ReviewTask(entry="a", submitted="{}", seconds=2.0),
        ReviewTask(entry="b", skipped=True, seconds=3.0),
        ReviewTask(entry="c", submitted="", skipped=True),
        ReviewTask(entry="d"),
        ReviewTask(entry="f", set_aside=True),
        ReviewTask(entry="x", submitted="{}"),
    ]
    answers = sort_answers(["a", "b", "c", "d", "e", "f"], {task.entry: task for task in tasks})
    assert answers.submitted == {"a": "{}", "c": ""}
    assert (answers.skipped_entries, answers.set_aside_entries) == (("b",), ("f",))
    assert (answers.still_open, answers.seconds) == (2, {"a": 2.0})


def test_a_round_keeps_nothing_when_each_image_has_an_answer_and_none_has_labels() -> None:
    tasks = {"a": ReviewTask(entry="a", skipped=True), "b": ReviewTask(entry="b", set_aside=True)}
    assert sort_answers(["a", "b"], tasks).keep_nothing
    assert not sort_answers(["a", "b", "open"], tasks).keep_nothing
    assert not sort_answers(["a", "b"], tasks | {"b": ReviewTask(entry="b", submitted="{}")}).keep_nothing


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
