"""The page of a round: what was changed, as bars and as pictures."""

import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.review.answers import Answers
from tasks.review.change_pictures import draw_changes
from tasks.review.comparison import compare_with_archive
from tasks.review.page import review_page
from tasks.review.report import ReviewReport
from tests.tasks.review.rounds import CLASS_NAMES, Results, returned, review_round

KEPT, EMPTIED, RECLASSED = ENTRIES = ("media/kept.jpg", "media/emptied.jpg", "media/reclassed.jpg")
HOSTILE = "s3://media/<script>alert(1)</script>\udcff.jpg"


def _edit(entry: str, results: Results) -> Results:
    """Leave the first image as it is, and the second empty; the objects of the third get the first class."""
    if entry == EMPTIED:
        return []
    for each in results:
        kind = each["type"]
        if entry == RECLASSED and kind in each["value"] and kind != "keypointlabels":
            each["value"] = each["value"] | {kind: [CLASS_NAMES[0]]}
    return results


def _page(task: str, folder: Path, seconds: dict[str, float]) -> tuple[str, list[str]]:
    """The page of such a round, and what it says of its pictures."""
    review = review_round(task, *ENTRIES)
    images = tuple(replace(image, source=HOSTILE) for image in review.images)
    review = replace(review, model_name="<b>", images=images, limits=("Kept from <i>0.5</i>.",))
    summary = returned(folder, review, _edit)
    compared = compare_with_archive(folder / "back.zip", review, summary.class_names, seconds, "RUN")
    pictures = draw_changes(folder / "back.zip", compared.most_changed, review.class_names)
    report = ReviewReport(
        archive="<u>.zip",
        run="RUN",
        review=review,
        answers=Answers(
            submitted={}, seconds={}, skipped_entries=("a.jpg", "b.jpg"), set_aside_entries=(RECLASSED,), still_open=1
        ),
        totals=compared.totals,
        summary=summary,
        check="valid <q>",
        check_page="http://page",
    )
    return review_page(report, pictures), [each.words for each in pictures]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("detect", ["2 deleted, 9 s", "1 reclassed"]),
        ("segment", ["1 deleted, 9 s"]),
        ("obb", ["2 deleted, 9 s"]),
        ("pose", ["1 deleted, 9 s"]),
    ],
)
def test_the_most_changed_images_are_drawn_as_suggested_and_as_corrected(
    task: str, words: list[str], tmp_path: Path
) -> None:
    page, told = _page(task, tmp_path, {EMPTIED: 9.4})
    assert told == words
    suggested, corrected = [_decode(uri) for uri in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)[:2]]
    dashes = np.count_nonzero((corrected > 245).all(axis=2)) - np.count_nonzero((suggested > 245).all(axis=2))
    assert dashes > 50  # pixels of what was deleted


def test_classes_of_whole_images_are_named_on_them(tmp_path: Path) -> None:
    page, told = _page("classify", tmp_path, {})
    assert told[0].endswith(("1 reclassed", "1 deleted"))
    assert page.count("<img ") == 2 * len(told)


def _decode(text: str) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR))


def test_the_page_has_bars_and_what_is_not_in_the_archive_and_no_markup_of_others(tmp_path: Path) -> None:
    page, _ = _page("detect", tmp_path, {KEPT: 4, EMPTIED: 6})
    for told in (
        '<rect class="accepted" x="0.0"',
        '<rect class="deleted"',
        "2 skipped images, 1 that were set aside, as an object is missing, and 1 that nobody has submitted",
        "<code>studio review &#39;&lt;b&gt;&#39; run:RUN &#39;&lt;u&gt;-drawn.zip&#39;",
        "Kept from &lt;i&gt;0.5",
        "<dd>5</dd>",  # seconds an image
    ):
        assert told in page
    for markup in ("<script>", "<b>", "<i>", "<u>", "<q>", " style="):
        assert markup not in page
