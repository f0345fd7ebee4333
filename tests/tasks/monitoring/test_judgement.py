"""What is told of a window: of the tables of a run, of dark pictures, and on the page."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.dataset.image_stats import check_image
from tasks.inference.results.chunk_reader import PICTURES, PREDICTIONS
from tasks.inference.results.parquet import IMAGES_SCHEMA, schema, to_image_table, to_table
from tasks.monitoring.judgement import Judgement, judge_window
from tasks.monitoring.page import (
    monitoring_facts,
    monitoring_heading,
    monitoring_markdown,
    monitoring_metrics,
    monitoring_page,
    monitoring_sentence,
    told_state,
)
from tasks.monitoring.profiles import looks_of
from tasks.monitoring.reference import Reference
from tasks.monitoring.score_estimate import ScoreEstimate
from tasks.monitoring.window import LookedAt, Window, read_found
from tasks.parameters import MonitoringParams
from tasks.vision.detections import Detections
from tests.tasks.evaluation.pictures import SIDE, detections
from tests.tasks.inference.results.examples import MODEL
from tests.tasks.monitoring.test_score_estimate import CLASSES, judged, reference

NAMES = ("<b>cat", "dog")
HOSTILE = "s3://media/<script>alert(1)</script>.jpg"


def found(count: int) -> list[Detections]:
    """What a version finds in images that it is right on."""
    profile = judged(0, 7, count).profile
    side = SIDE * profile.size
    return [
        replace(
            detections(
                np.stack([0 * side[own], 0 * side[own], side[own], side[own]], axis=1),
                profile.class_id[own],
                profile.confidence[own],
            ),
            source=HOSTILE,
        )
        for own in profile.rows_of(np.arange(count))
    ]


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Window:
    """Images that are as before in all but their brightness."""
    path = tmp_path_factory.mktemp("pictures") / "dark.jpg"
    noise = np.random.default_rng(0).normal(20, 5, (SIDE, SIDE, 3))
    cv2.imwrite(str(path), np.clip(noise, 0, 255).astype(np.uint8))
    stats, _ = check_image(path.read_bytes(), path.name)
    assert stats is not None
    looked_at = {number: LookedAt(path=path, looks=looks_of(stats)) for number in range(60)}
    return Window(found=tuple(found(80)), least=np.full(CLASSES, 0.25), runs=2, looked_at=looked_at)


@pytest.fixture(scope="module")
def judgement(window: Window) -> Judgement:
    return judge_window(reference(), window, "detect", MonitoringParams())


def test_what_looks_different_is_told_and_what_does_not_is_not(judgement: Judgement) -> None:
    assert {"brightness", "contrast"} <= set(judgement.drifted)
    assert not {"classes", "confidence", "objects an image"} & set(judgement.drifted)
    assert judgement.estimate is not None
    assert judgement.estimate.low <= judgement.estimate.score <= judgement.estimate.high
    assert len(judgement.unusual) == 60


def test_the_page_shows_names_as_they_are_and_the_most_unusual_images(judgement: Judgement, window: Window) -> None:
    page = monitoring_page("cats version 1", judgement, window, NAMES)
    assert "<script>alert" not in page
    assert "&lt;b&gt;cat" in page
    assert page.count("<figure>") == 12
    assert "brightness drifted" in page
    brightness = next(test for test in judgement.tests if test.trait == "brightness")
    assert f"<bdi>below {brightness.edges[0]:.3g}</bdi><bdi>from {brightness.edges[-1]:.3g} on</bdi>" in page
    assert "<bdi>&lt;b&gt;cat</bdi><bdi>dog</bdi>" in page
    assert f"{brightness.edges[0]:.3g} to {brightness.edges[1]:.3g} lately" in page
    assert "estimated as " in monitoring_markdown(judgement, window)
    assert "beside its validation images, from confidence 0.25 on" in page
    assert "Compared from confidence 0.25 on." in monitoring_markdown(judgement, window)
    assert "brightness, contrast" in monitoring_sentence("cats version 1", judgement)
    assert json.loads(json.dumps(monitoring_facts(judgement)))["images"] == 80
    assert monitoring_metrics(judgement)["drifted"] == len(judgement.drifted)


@pytest.mark.parametrize(
    ("score", "told", "state", "drifted"),
    [
        (0.50, "mAP50 has fallen: estimated as 0.50 (90 % interval 0.40 to 0.60); 0.69 on the", "Drifted", ("mAP50",)),
        (0.62, "mAP50 may have fallen: estimated as 0.62 (90 % interval 0.52 to 0.72)", "May have fallen", ()),
        (0.66, "mAP50 is estimated as 0.66 (90 % interval 0.56 to 0.76)", None, ()),
    ],
)
def test_a_fall_is_sure_if_the_interval_does_not_hold_the_score_of_the_validation(
    judgement: Judgement, window: Window, score: float, told: str, state: str | None, drifted: tuple[str, ...]
) -> None:
    """One that is only possible is told, and by no event."""
    estimate = ScoreEstimate(score=score, low=score - 0.1, high=score + 0.1, expected=0.69)
    alone = replace(judgement, estimate=estimate, tests=tuple(replace(test, drifted=False) for test in judgement.tests))
    assert (told_state(alone), alone.drifted) == (state, drifted)
    sentence = monitoring_sentence("cats version 1", alone)
    assert sentence.startswith(
        "cats version 1 on 80 images, from confidence 0.25 on: traits as on the validation images; "
    )
    for text in (sentence, monitoring_page("cats", alone, window, NAMES)):
        assert told in text
    assert any(told in each for each in alone.reasons) == (state is not None)
    assert monitoring_facts(alone)["estimate"]["has_fallen"] == bool(drifted)


def test_what_was_not_compared_is_not_told_to_be_as_before(window: Window) -> None:
    """Such as the looks of images that have gone."""
    unseen = judge_window(reference(), replace(window, looked_at={}), "detect", MonitoringParams())
    same = replace(unseen, tests=tuple(replace(test, drifted=False) for test in unseen.tests))
    missing = "too few images to compare brightness, contrast, sharpness"
    assert f": other traits as on the validation images; {missing}; " in monitoring_sentence("cats", same)
    assert monitoring_heading(same) == "No drift in what was compared"
    drifted = replace(same, tests=tuple(replace(test, drifted=test.trait == "classes") for test in same.tests))
    assert f": classes drifted; {missing}; " in monitoring_sentence("cats", drifted)


@pytest.mark.parametrize(
    ("looked_at", "live", "words"),
    [
        (False, 80, "No image was looked at."),
        (True, None, "There are no pictures of the most unusual images.<"),
        (
            True,
            80,
            "There are no pictures of the most unusual images. STUDIO_LIVE_LOG_PICTURES=true keeps those of live",
        ),
    ],
)
def test_dark_images_without_pictures_are_not_called_usual(
    window: Window, looked_at: bool, live: int | None, words: str
) -> None:
    """The live log has the looks of all requests, and keeps no pictures unless it is told to."""
    logged = {number: replace(each, path=None) for number, each in window.looked_at.items() if looked_at}
    unseen = replace(window, looked_at=logged, live=live)
    page = monitoring_page("cats", judge_window(reference(), unseen, "detect", MonitoringParams()), unseen, NAMES)
    assert words in page
    assert "None of the images that were looked at" not in page


def test_a_window_of_few_images_says_so(window: Window) -> None:
    few = judge_window(
        reference(), replace(window, found=window.found[:12], looked_at={}), "detect", MonitoringParams()
    )
    assert (few.drifted, few.estimate) == ((), None)
    assert monitoring_sentence("cats version 1", few).endswith("too few to compare, 50 are needed")
    assert monitoring_heading(few) == "Too few images"
    assert "too few: 12 of 50" in monitoring_markdown(few, window)


@pytest.mark.parametrize(
    ("images", "fix"),
    [
        (16, "Train it with more images in val, or set monitoring.min_images to 16."),
        (8, "Train it with more images in val."),
    ],
)
def test_a_version_with_few_validation_images_says_that_it_tells_nothing(images: int, fix: str, window: Window) -> None:
    """A model that was trained on 40 images is not told to be as it was."""
    known = reference()
    chosen = np.arange(images)
    few = Reference(
        clean=known.clean.select(chosen),
        corrupted={name: each.select(chosen) for name, each in known.corrupted.items()},
    )
    judgement = judge_window(few, window, "detect", MonitoringParams())
    assert (judgement.drifted, judgement.estimate, judgement.is_empty) == ((), None, True)
    told = f"nothing can be told, as it has {images} validation images, and 50 are needed. {fix}"
    assert (
        monitoring_sentence("cats version 1", judgement)
        == f"cats version 1 on 80 images, from confidence 0.25 on: {told}"
    )
    assert told in monitoring_markdown(judgement, window).replace("\\", "")
    page = monitoring_page("cats version 1", judgement, window, NAMES)
    assert told in page
    assert "No drift" not in page
    assert monitoring_facts(judgement)["validation_images"] == images


def test_images_of_the_version_are_read_and_no_frames(tmp_path: Path) -> None:
    images = [replace(each, source=f"s3://media/{number}.jpg") for number, each in enumerate(found(5))]
    frames = [replace(each, source="s3://media/a.mp4", frame=0) for each in found(2)]
    shown = [*images, *frames]
    others = replace(MODEL, version=MODEL.version + 1)
    pictures = [to_image_table(shown, MODEL), to_image_table(images, others)]
    columns = schema("detect", tracked=False)
    rows = [to_table(shown, MODEL, columns), to_table(images, others, columns)]
    pq.write_table(pa.concat_tables(pictures).cast(IMAGES_SCHEMA), tmp_path / PICTURES)
    pq.write_table(pa.concat_tables(rows), tmp_path / PREDICTIONS)
    rng = np.random.default_rng(0)
    read, left_out = read_found(tmp_path, MODEL.version, "detect", CLASSES, 3, rng)
    assert (len(read), left_out) == (3, 2)
    for each in read:
        own = images[int(each.source.removeprefix("s3://media/").removesuffix(".jpg"))]
        assert each.confidence.tolist() == own.confidence.tolist()
        assert each.class_id.tolist() == own.class_id.tolist()
    best, _ = read_found(tmp_path, MODEL.version, "classify", CLASSES, 9, rng)
    assert [len(each) for each in best] == [min(1, len(each)) for each in images]
