"""What a run of label-images holds to, and how its page tells it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.inference.results.summary import Failure
from tasks.labelling import plan
from tasks.labelling.labelled_archive import (
    ASKED,
    BACKGROUND,
    FAILED,
    LABELLED,
    LEARNT,
    NOTHING_FOUND,
    UNCERTAIN,
    VIDEO,
    Labelling,
)
from tasks.labelling.page import LabellingReport, labelling_markdown, labelling_page
from tasks.labelling.pictures import Doubt, DrawnImage
from tasks.parameters import LabellingParams
from tests.tasks.labelling.test_thresholds import ladder
from tests.tasks.tracked_evaluation.test_subjects import subject

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The version that is the champion; each was right in 100 of 130 labels of its own."""
    stored: dict[str, bytes] = {}
    now = [2]
    store: Any = type("Store", (), {"get": stored.get, "put": stored.__setitem__})
    monkeypatch.setattr(plan, "_RUNS", store)
    monkeypatch.setattr(plan, "flow_run_id", lambda: "run")
    monkeypatch.setattr(plan, "find_subjects", lambda _, numbers: [subject(number, 64) for number in numbers or now])
    monkeypatch.setattr(plan, "find_validation", lambda version: ladder(100 * version.version, 30))
    monkeypatch.setattr(plan, "override_thresholds", lambda computed, *_: computed)
    return now


def test_a_run_that_is_tried_again_keeps_its_version_and_its_thresholds(champion: list[int], tmp_path: Path) -> None:
    first, planned = plan.open_or_plan("m", LabellingParams(), tmp_path)
    champion[0] = 3
    again, kept = plan.open_or_plan("m", LabellingParams(precision=0.5), tmp_path)
    assert (first.version.version, again.version.version, planned.version) == (2, 2, 2)
    assert kept == planned
    assert kept.thresholds[0].labels == 200
    assert kept.expected.overall.precision is not None


def test_an_archive_to_compare_with_is_measured_under_the_names_of_the_training(
    champion: list[int],  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    joined = {(2, "c.zip"): ladder(300, 0)}
    monkeypatch.setattr(plan, "fetch_images", lambda names, *_: names)
    monkeypatch.setattr(plan, "join_as_trained", lambda version, sets: (version.version, *sets[0]))
    monkeypatch.setattr(plan, "match_images", lambda _, data, *__: joined[data])
    _, planned = plan.open_or_plan("m", LabellingParams(compare="c.zip"), tmp_path)
    assert planned.measured
    assert planned.measured.images == 300


@pytest.mark.parametrize(
    ("right", "missed", "why"),
    [
        (13, 0, "'cell' no label is taken: 13 validation labels, 19 needed"),
        (60, 0, "'cell' no label is taken: 60 validation labels, 90 needed"),
        (80, 40, "'cell' no label is taken: found 80 right of 120 validation labels, 90 needed"),
    ],
)
def test_where_nothing_is_taken_the_report_says_why_and_what_helps(
    champion: list[int],  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    right: int,
    missed: int,
    why: str,
) -> None:
    """It does not say which share is right of labels that are not there."""
    monkeypatch.setattr(plan, "find_validation", lambda _: ladder(right, 30, missed))
    _, planned = plan.open_or_plan("m", LabellingParams(), tmp_path)
    labelling = Labelling()
    labelling.images.update({UNCERTAIN: 13, LEARNT: 2})
    report = LabellingReport(
        archive="a.zip", model_name="m", class_names=("cell",), plan=planned, labelling=labelling, compare=None
    )
    assert report.sentence == (
        f"m version 2 is sure of none of 13 images in which it finds something (of {why}), so there is no a.zip; "
        "13 uncertain: listed for review, 2 left out: the version was trained on it"
    )
    assert report.ways_out[0].startswith(f"Of {why}. To have more taken, evaluate the version on more")
    assert "the same thresholds take no label, and leave" in report.expectation
    for told in (labelling_page(report), labelling_markdown(report, "run-1").replace("\\", "")):
        assert "or lower labelling.precision." in told
        assert "To leave fewer images uncertain, evaluate the version on more labelled images" in told
        assert "or lower labelling.recall." in told
        assert "select-images and review-images take them" in told
        assert "right, expected" not in told
        assert "unknown right labels" not in told


@pytest.mark.parametrize(
    ("images", "kinds", "fix"),
    [
        ({LEARNT: 90, VIDEO: 10}, "90 left out: the version was trained on it, 10 left out: a video", "name others"),
        ({ASKED: 100}, "100 left out: people were asked about it in a loop", "name others"),
        ({FAILED: 100}, "100 left out: it could not be read (it has no end)", "name others"),
        ({NOTHING_FOUND: 100}, "100 nothing was found: listed for review", ""),
        ({BACKGROUND: 100}, "100 background, of which alone nothing can be learnt", ""),
    ],
)
def test_a_version_is_not_said_to_doubt_images_that_it_was_not_asked_about(
    champion: list[int],  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    images: dict[str, int],
    kinds: str,
    fix: str,
) -> None:
    monkeypatch.setattr(plan, "find_validation", lambda _: ladder(400, 5))
    _, planned = plan.open_or_plan("m", LabellingParams(), tmp_path)
    labelling = Labelling()
    if FAILED in images:
        labelling.fail([Failure(source="a.png", reason="it has no end")] * images[FAILED])
    else:
        labelling.images.update(images)
    report = LabellingReport(
        archive="a.zip", model_name="m", class_names=("cell",), plan=planned, labelling=labelling, compare=None
    )
    assert report.sentence == f"m version 2 has nothing to label in 100 images, so there is no a.zip; {kinds}"
    assert fix in " ".join(report.ways_out)


def test_the_report_tells_what_is_expected_and_what_was_measured(champion: list[int], tmp_path: Path) -> None:  # noqa: ARG001
    _, planned = plan.open_or_plan("m", LabellingParams(), tmp_path)
    labelling = Labelling()
    labelling.images[UNCERTAIN] = 3
    doubts = [Doubt(HOSTILE, [0.9, 0.3], 0.2, None if number else 0.95) for number in range(5)]
    labelling.exhibits[UNCERTAIN].append(DrawnImage(HOSTILE, "data:,", doubts))
    report = LabellingReport(
        archive="a.zip", model_name="m", class_names=(HOSTILE,), plan=planned, labelling=labelling, compare=None
    )
    assert report.sentence == (
        "m version 2 is sure of none of 3 images in which it finds something, so there is no a.zip; "
        "3 uncertain: listed for review"
    )
    assert report.ways_out[0].startswith("In each uncertain image something lies between the two thresholds")
    assert "On 230 validation images" in report.expectation
    assert "find 100.0% of the objects, in the 93.0% of the images" in report.expectation
    page, markdown = labelling_page(report), labelling_markdown(report, "run-1")
    assert HOSTILE not in page + markdown
    assert "below 0.20 dropped, from 0.95 taken" in page
    assert "below 0.20 dropped, never taken" in page
    assert "and 2 more classes" in page
    assert '<rect class="here" x="89.2"' in page
    assert "<b>0.90</b> and 1 less sure" in page
    assert "`run:run-1`" in markdown


def test_the_report_says_that_the_images_are_unlike_those_of_validation(champion: list[int], tmp_path: Path) -> None:  # noqa: ARG001
    """The more so as it is a state message, which a loop that goes on leaves behind."""
    _, planned = plan.open_or_plan("m", LabellingParams(), tmp_path)
    labelling = Labelling(images=Counter({LABELLED: 40}), confidences=[0.4] * 40)
    report = LabellingReport(
        archive="a.zip", model_name="m", class_names=("cell",), plan=planned, labelling=labelling, compare=None
    )
    for told in (report.sentence, labelling_page(report), labelling_markdown(report, "run-1")):
        assert "less sure in these images than in those of validation" in told
    labelling.confidences[:] = planned.confidences
    assert not report.shift
