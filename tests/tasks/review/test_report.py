"""The page of a round says what people did, and what became of the rest."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from studio.commands.options import merge_settings
from tasks.importing.importer import ImportSummary
from tasks.parameters import ReviewParams
from tasks.review.answers import Answers
from tasks.review.changes import Change, ObjectChange, ReviewTotals
from tasks.review.report import (
    ReviewReport,
    drawing_command,
    nothing_markdown,
    nothing_sentence,
    review_markdown,
    review_sentence,
    waiting_markdown,
)
from tasks.review.rounds import ToolName
from tests.tasks.review.rounds import review_round

SUMMARY = ImportSummary(
    format="label-studio",
    task="detect",
    class_names=("cell",),
    images={"train": 2},
    objects={"cell": 2},
    changes={"left out: a brush, which YOLO has no labels for": 3},
    places={},
    notes=(),
)


NO_ANSWERS = Answers(submitted={}, seconds={}, skipped_entries=(), still_open=0)


def _change(change: Change, overlap: float = 0) -> ObjectChange:
    return ObjectChange(change=change, class_name="cell", suggestion=0, label=0, overlap=overlap)


def test_the_page_has_what_was_drawn_beside_all_by_hand_and_what_is_missing() -> None:
    totals = ReviewTotals()
    totals.add([_change(Change.ACCEPTED), _change(Change.MOVED, 0.8), _change(Change.DELETED)], 30)
    totals.add([_change(Change.ADDED), _change(Change.ACCEPTED)], 60)
    review = replace(review_round("detect", *"afg"), left_out={"a video": 4})
    report = ReviewReport(
        archive="x.zip",
        run="RUN",
        review=review,
        answers=replace(NO_ANSWERS, skipped_entries=tuple("abcde"), set_aside_entries=("f", "g"), still_open=6),
        totals=totals,
        summary=SUMMARY,
        check="valid",
        check_page="http://page",
    )
    page = review_markdown(report)
    sentence = "x.zip: 2 images, 2 of 4 objects drawn by hand, 5 skipped, 2 set aside, 6 without an answer"
    assert review_sentence("x.zip", totals, report.answers) == sentence
    assert review_sentence("x.zip", totals, NO_ANSWERS) == "x.zip: 2 images, 2 of 4 objects drawn by hand"
    for expected in (
        "| with the suggestions | 4 | 2 (50%) |",
        "| all by hand | 4 | 4 |",
        "| cell | 2 | 1 | 0 | 1 | 1 |",
        "overlaps its suggestion by 80%",
        "open for 45 s (median), all of them for 2 minutes",
        "5 skipped images, 2 that were set aside, as an object is missing, and 6 that nobody has submitted",
        "studio review cells run:RUN x-drawn.zip --set review.tool=label-studio",
        "**4** a video",
        "3 times left out: a brush",
    ):
        assert expected in page


@pytest.mark.parametrize(
    ("archive", "new"),
    [
        ("a b.ZIP", "'a b-drawn.ZIP'"),
        ("loops/cells/1a2b-reviewed.zip", "loops/cells/1a2b-drawn-reviewed.zip"),  # a later loop trains on it, too
    ],
)
def test_who_has_set_images_aside_is_told_how_they_are_drawn(archive: str, new: str) -> None:
    review = replace(review_round("detect", "a.jpg", "b.jpg"), left_out={"a video": 4})
    answers = replace(NO_ANSWERS, skipped_entries=("b.jpg",), set_aside_entries=("a.jpg",))
    assert nothing_sentence("x.zip", answers) == "x.zip: nothing to keep, as 1 images were skipped and 1 set aside"
    page = nothing_markdown(archive, "RUN", review, answers)
    assert f"studio review cells run:RUN {new} --set review.tool=label-studio" in page
    assert "**4** a video" in page
    assert "studio review" not in nothing_markdown(archive, "RUN", review, NO_ANSWERS)


def test_who_draws_what_is_missing_does_it_with_the_parameters_of_the_round() -> None:
    asked = ReviewParams(tool="front-page", confidence=0.1, val=0.2, groups=("clip{group}-*.jpg",))
    kept = {"confidence": 0.1, "val": 0.2, "groups": ["clip{group}-*.jpg"]}
    review = replace(review_round("detect", "a.jpg"), parameters=kept)
    command = drawing_command("x.zip", "RUN", review, replace(NO_ANSWERS, set_aside_entries=("a.jpg",)))
    *_, archive = shlex.split(command.partition(" --set ")[0])
    settings = shlex.split(command)[6::2]
    drawn = ReviewParams.model_validate(merge_settings({}, settings)["review"])
    assert (archive, drawn) == ("x-drawn.zip", asked.model_copy(update={"tool": "label-studio"}))


def test_images_that_were_set_aside_in_a_round_of_an_earlier_release_are_counted() -> None:
    """It does not know where they were read, so no later round finds them."""
    review = review_round("detect", "a.jpg", "b.jpg")
    known, unknown = review.images
    review = replace(review, images=(known, replace(unknown, media=None)))
    answers = replace(NO_ANSWERS, set_aside_entries=("a.jpg", "b.jpg"))
    page = nothing_markdown("x.zip", "RUN", review, answers)
    assert "1 of those that were set aside are not listed, as an earlier release has opened this round" in page
    assert "studio review" in page
    gone = nothing_markdown("x.zip", "RUN", review, replace(answers, set_aside_entries=("b.jpg",)))
    assert "studio review" not in gone, "its list is empty"


def test_who_waits_is_told_where_and_until_when() -> None:
    review = replace(review_round("detect", "a.jpg"), limits=("Kept from 0.5.",))
    page = waiting_markdown(review, "http://labels/7", datetime(2026, 12, 1, 8, tzinfo=UTC))
    assert "[1 images wait for a person](http://labels/7)" in page
    assert "2026-12-01 08:00 UTC" in page
    assert "- Kept from 0.5." in page
    assert "submit it" in page


@pytest.mark.parametrize(
    ("tool", "advice"),
    [
        (ToolName.CVAT, "images of each job, and finish it"),
        (ToolName.LABEL_STUDIO, "Correct each image and submit it"),
        (ToolName.FRONT_PAGE, "Nothing can be drawn there"),
    ],
)
def test_people_are_told_what_they_can_do_in_their_tool(tool: ToolName, advice: str) -> None:
    review = review_round("detect", "a.jpg", tool=tool)
    assert advice in waiting_markdown(review, "http://tool/7", datetime(2026, 12, 1, 8, tzinfo=UTC))
