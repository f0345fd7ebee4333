"""Which labels of a model are taken, and what bounds hold for them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from tasks.errors import StudioError
from tasks.evaluation.matching import LEAST_CONFIDENCE
from tasks.evaluation.validation_matching import ValidationMatching, ValidationSource
from tasks.labelling.thresholds import (
    LabelThreshold,
    compute_thresholds,
    expect,
    override_thresholds,
    sort_labels,
)
from tasks.parameters import DEFAULT_CONFIDENCE

SPLITS = 200
Compute = Callable[[ValidationMatching, float, float], list[LabelThreshold]]


def matching(
    confidence: Any, labelled: Any, image: Any = None, class_id: Any = None, images: int = 0, task: str = "detect"
) -> ValidationMatching:
    """Of one class and one image a row, unless others are given; a missed label has confidence 0."""
    rows = len(confidence)
    image = np.arange(rows) if image is None else np.asarray(image)
    class_id = np.zeros(rows, int) if class_id is None else np.asarray(class_id)
    names = tuple(f"class {number}" for number in range(int(class_id.max()) + 1))
    return ValidationMatching(
        source=ValidationSource(
            task=task, class_names=names, archives={}, split="val", images=images or int(image.max()) + 1
        ),
        image=image,
        class_id=class_id,
        confidence=np.asarray(confidence, float),
        labelled=np.asarray(labelled, bool),
    )


def ladder(right: int, wrong: int, missed: int = 0, repeat: int = 1) -> ValidationMatching:
    """So many right labels with confidences from 1 to 0.6, wrong ones from 0.5 to 0.1, and labels that are missed."""
    confidence = np.concatenate([np.linspace(1, 0.6, right), np.linspace(0.5, 0.1, wrong), np.zeros(missed)])
    labelled = np.concatenate([np.ones(right), np.zeros(wrong), np.ones(missed)])
    return matching(np.tile(confidence, repeat), np.tile(labelled, repeat))


def test_labels_are_taken_as_far_down_as_the_precision_holds() -> None:
    (threshold,) = compute_thresholds(ladder(400, 50), 0.95, 0.95)
    assert threshold.labels == 400
    assert threshold.high is not None
    assert 0.4 < threshold.high < 0.5  # some of the wrong ones are within the 5 %
    assert threshold.low == DEFAULT_CONFIDENCE  # nothing is missed further down, but other images may be unlike these


@pytest.mark.parametrize(("right", "is_taken"), [(90, True), (89, False)])
def test_no_label_is_taken_on_too_little_evidence(right: int, is_taken: bool) -> None:
    """With no wrong label at all, 99 % confidence in 95 % takes 90 of them."""
    (threshold,) = compute_thresholds(ladder(right, 0), 0.95, 0.95)
    assert (threshold.high is not None) == is_taken


def test_classes_share_their_evidence_but_each_has_some_of_its_own() -> None:
    own = np.repeat([0, 1, 2], [200, 19, 18])
    found = compute_thresholds(matching(np.full(237, 0.9), np.ones(237), class_id=own), 0.95, 0.95)
    assert [each.high for each in found] == [0.9, 0.9, None]


def test_below_the_recall_labels_are_dropped_and_a_class_that_is_mostly_missed_drops_nothing() -> None:
    confidence = [*np.full(200, 0.9), *np.full(140, 0.2), *np.full(60, 0.1), *np.full(300, 0.6)]
    labelled = [*np.ones(400), *np.zeros(300)]
    (threshold,) = compute_thresholds(matching(confidence, labelled), 0.95, 0.8)
    assert (threshold.high, threshold.low) == (0.9, 0.2)  # 15 % are missed, and 20 % with 99 % confidence
    assert compute_thresholds(matching(confidence, labelled), 0.95, 0.81)[0].low == 0.1
    assert compute_thresholds(ladder(100, 300, missed=100), 0.95, 0.95)[0].low == LEAST_CONFIDENCE
    assert compute_thresholds(matching(confidence, labelled, task="classify"), 0.95, 0.8)[0].low == 0


def test_nothing_is_taken_if_what_is_right_lies_in_images_that_are_not_taken() -> None:
    """Six sure objects and a doubtful one in each of 100 images, and 8 images with one sure detection, most wrong."""
    crowded = np.repeat(np.arange(100), 7)
    image = [*crowded, *range(100, 108)]
    confidence = [*np.tile([0.9] * 6 + [0.3], 100), *[0.9] * 8]
    labelled = [value for number in range(100) for value in (*[1] * 6, number % 2)] + [0] * 6 + [1] * 2
    found = matching(confidence, labelled, image=image)
    (threshold,) = compute_thresholds(found, 0.95, 0.95)
    assert threshold.high is None
    assert threshold.doubt == "in the validation images that would be taken 2 of its 8 labels are right"


@pytest.mark.parametrize(("right", "drops"), [(90, True), (89, False)])
def test_nothing_is_dropped_on_too_little_evidence(right: int, drops: bool) -> None:
    """With no missed label at all, 99 % confidence in 95 % takes 90 of them, as for the precision."""
    (threshold,) = compute_thresholds(ladder(right, 300), 0.95, 0.95)
    assert (threshold.drops, threshold.low == LEAST_CONFIDENCE) == (drops, not drops)


def test_a_class_that_is_mostly_missed_keeps_no_other_from_being_dropped() -> None:
    confidence = [*np.linspace(1, 0.5, 200), *np.linspace(1, 0.5, 100), *np.zeros(100)]
    class_id = np.repeat([0, 1], 200)
    found, missed = compute_thresholds(matching(confidence, np.ones(400), class_id=class_id), 0.95, 0.95)
    assert (found.drops, missed.drops) == (True, False)


def test_labels_that_are_missed_together_bear_out_less() -> None:
    """Of 400 labels in 80 images the 20 that are found last are in as many images, or all in four."""
    confidence, labelled = np.linspace(1, 0.5, 400), np.ones(400)
    (apart,) = compute_thresholds(matching(confidence, labelled, image=np.arange(400) % 80), 0.95, 0.95)
    (together,) = compute_thresholds(matching(confidence, labelled, image=np.arange(400) // 5), 0.95, 0.95)
    assert (apart.drops, together.drops) == (True, False)  # they count as 80 labels, and 90 are needed


@pytest.mark.parametrize(
    ("own", "others", "precision", "doubt"),
    [
        (13, 0, 0.95, "13 validation labels, 19 needed"),
        (13, 400, 0.95, "13 validation labels, 19 needed"),
        (30, 30, 0.95, "60 validation labels of all classes, 90 needed"),
        (3, 0, 0.8, "3 validation labels, 4 needed"),
        (10, 10, 0.8, "20 validation labels of all classes, 21 needed"),
        (85, 10, 0.95, "85 validation labels of the classes that would do alone, 90 needed"),
        (80, 0, 0.95, "80 validation labels, 90 needed"),
    ],
)
def test_why_nothing_of_a_class_is_taken_is_told(own: int, others: int, precision: float, doubt: str) -> None:
    class_id = np.repeat([0, 1], [own, others])
    first = compute_thresholds(
        matching(np.full(own + others, 0.9), np.ones(own + others), class_id=class_id), precision, 0.9
    )[0]
    assert (first.high, first.doubt) == (None, doubt)


@pytest.mark.parametrize(
    ("right", "missed", "doubt"),
    [
        (80, 40, "found 80 right of 120 validation labels, 90 needed"),
        (10, 40, "found 10 right of 50 validation labels, 19 needed"),
    ],
)
def test_labels_that_are_missed_are_not_said_to_be_wrong(right: int, missed: int, doubt: str) -> None:
    (threshold,) = compute_thresholds(ladder(right, 0, missed), 0.95, 0.95)
    assert (threshold.high, threshold.doubt) == (None, doubt)


def test_that_wrong_detections_lie_together_in_few_images_is_told() -> None:
    """Of 400 right ones in 100 images, 8 wrong ones are in as many images, or all in one."""
    confidence = [*np.linspace(1, 0.6, 400), *np.linspace(0.99, 0.61, 8)]
    labelled, image = [*np.ones(400), *np.zeros(8)], np.arange(408) % 100
    (apart,) = compute_thresholds(matching(confidence, labelled, image=image), 0.95, 0.95)
    image[400:] = 3
    (together,) = compute_thresholds(matching(confidence, labelled, image=image), 0.95, 0.95)
    assert (apart.high, apart.doubt, together.high) == (0.6, "", None)
    where = "lie together in few images (8 in 1), which says little of other images"
    assert together.doubt == f"the wrong detections {where}"


@pytest.mark.parametrize(
    ("wrong", "after", "doubt"),
    [
        (30, 60, "only 60 right detections come before too many wrong ones, 90 needed"),
        (1, 40, "1 of the 101 surest detections was wrong in validation: with no more, 130 are needed"),
    ],
)
def test_how_many_of_the_surest_detections_are_wrong_is_told(wrong: int, after: int, doubt: str) -> None:
    """With 60 right ones before the first wrong one, and some after the last."""
    confidence = [*np.linspace(1, 0.96, 60), *np.full(wrong, 0.95), *np.linspace(0.9, 0.8, after)]
    labelled = [*np.ones(60), *np.zeros(wrong), *np.ones(after)]
    (threshold,) = compute_thresholds(matching(confidence, labelled), 0.95, 0.9)
    assert (threshold.high, threshold.doubt) == (None, doubt)


def test_a_class_is_blamed_for_its_own_wrong_detections_where_others_are_taken() -> None:
    class_id = np.repeat([0, 1], [300, 40])
    labelled = [*np.ones(335), *np.zeros(5)]
    taken, left = compute_thresholds(matching(np.full(340, 0.9), labelled, class_id=class_id), 0.95, 0.9)
    assert (taken.high, taken.doubt) == (0.9, "")
    assert (left.high, left.doubt) == (None, "too many of its detections were wrong in validation")


@pytest.mark.parametrize(
    ("right", "wrong", "after", "doubt", "needed"),
    [
        (26, 1, 0, "1 of its 27 detections was wrong in validation: with no more, 39 are needed", 39),
        (38, 2, 0, "2 of its 40 detections were wrong in validation: with no more, 59 are needed", 59),
        (26, 1, 40, "only 26 right detections come before too many wrong ones, 38 needed", 39),
        (10, 0, 40, "only 10 right detections come before too many wrong ones, 19 needed", 19),
    ],
)
def test_a_class_that_is_right_often_enough_is_said_to_lack_labels(
    right: int, wrong: int, after: int, doubt: str, needed: int
) -> None:
    """With so many more that nobody got wrong it is taken; `after` wrong ones, and as many labels, are less sure."""

    def second(right: int) -> LabelThreshold:
        own = [*np.ones(right), *np.zeros(wrong), *np.zeros(after), *np.ones(after)]
        sure = [*np.full(right + wrong, 0.8), *np.full(after, 0.5), *np.full(after, 0.3)]
        class_id = np.repeat([0, 1], [300, len(own)])
        found = matching([*np.full(300, 0.9), *sure], [*np.ones(300), *own], class_id=class_id)
        return compute_thresholds(found, 0.95, 0.9)[1]

    assert (second(right).high, second(right).doubt) == (None, doubt)
    assert second(needed - wrong - 1).high is None
    assert second(needed - wrong).high == 0.8


def test_as_many_labels_do_as_are_said_to_be_needed_of_all_together() -> None:
    def found(right: int) -> LabelThreshold:
        confidence = [*np.linspace(1, 0.9, right), 0.95]
        return compute_thresholds(matching(confidence, [*np.ones(right), 0]), 0.95, 0.9)[0]

    assert "with no more, 130 are needed" in found(100).doubt
    assert found(128).high is None
    assert found(129).high == 0.9


def test_a_class_that_would_do_alone_is_told_what_others_ask_of_it() -> None:
    """Of 153 and 52 detections 3 and 1 are wrong: too many together, so more is asked of each class."""
    confidence = [*np.linspace(1, 0.7, 150), *np.full(3, 0.65), *np.full(52, 0.9)]
    labelled, class_id = [*np.ones(150), *np.zeros(3), *np.ones(51), 0], np.repeat([0, 1], [153, 52])
    taken, left = compute_thresholds(matching(confidence, labelled, class_id=class_id), 0.95, 0.9)
    told = "1 of its 52 surest detections was wrong in validation, which would do alone"
    assert (taken.high, taken.doubt) == (0.7, "")
    assert (left.high, left.doubt) == (None, f"{told}; beside the other classes 98.5% of each must be right")


def test_a_class_of_which_too_much_is_wrong_is_not_said_to_lack_labels() -> None:
    wrong = compute_thresholds(matching(np.full(200, 0.9), np.arange(200) % 2), 0.95, 0.9)[0]
    assert (wrong.high, wrong.doubt) == (None, "too many of its detections were wrong in validation")
    assert override_thresholds([wrong], ["class 0"], {"class 0": 0.5}, {})[0].doubt == ""


def test_an_image_counts_only_if_nothing_in_it_is_uncertain() -> None:
    thresholds = [LabelThreshold(low=0.3, high=0.8, labels=9), LabelThreshold(low=0.4, high=None, labels=0)]
    confidence, class_id = np.array([0.8, 0.79, 0.3, 0.29, 0.9, 0.39]), np.array([0, 0, 0, 0, 1, 1])
    taken, uncertain = sort_labels(thresholds, class_id, confidence)
    assert taken.tolist() == [True, False, False, False, False, False]
    assert uncertain.tolist() == [False, True, True, False, True, False]
    rows = [(0, 0.9, 1), (0, 0.85, 0), (0, 0.0, 1), (1, 0.9, 1), (1, 0.5, 1), (2, 0.2, 1)]
    image, scores, labelled = zip(*rows, strict=True)
    expected = expect(matching(scores, labelled, image=image, images=4), thresholds[:1])
    assert (expected.share, expected.overall.taken) == (0.75, 2)  # image 1 is uncertain, image 3 shows nothing
    assert (expected.overall.precision, expected.overall.recall) == (0.5, 1 / 3)
    assert expected.by_class == {0: expected.overall}
    nothing = expect(matching([0.5], [1]), thresholds[:1])
    assert (nothing.share, nothing.overall.precision, nothing.overall.recall) == (0, None, None)


def test_a_person_may_set_the_thresholds_of_a_class() -> None:
    computed = [LabelThreshold(low=0.3, high=0.8, labels=9), LabelThreshold(low=0.4, high=None, labels=0)]
    names = ("cat", "dog")
    cat, dog = override_thresholds(computed, names, {"cat": 0.2, "dog": 0.9}, {"dog": 0.5})
    assert (cat.low, cat.high, dog.low, dog.high) == (0.2, 0.2, 0.5, 0.9)
    assert override_thresholds(computed, names, {}, {}) == computed
    with pytest.raises(StudioError, match=r"Expected classes of the model.*found \['cow'\]"):
        override_thresholds(computed, names, {"cow": 0.5}, {})
    with pytest.raises(StudioError, match=r"at most 0\.800 for 'cat'.*found 0\.900"):
        override_thresholds(computed, names, {}, {"cat": 0.9})


OBJECTS = pytest.mark.parametrize(
    ("rates", "spread", "images"), [((11, 1, 1), 0.0, 40), ((2, 2), 1.0, 40), ((11, 1, 1), 1.0, 150)]
)


@OBJECTS
def test_as_many_labels_are_right_on_new_images_as_is_said(rates: tuple[int, ...], spread: float, images: int) -> None:
    """In 190 of 200 splits, or none is taken; `spread` is how far labels of an image are wrong together."""
    rng, drawn = _draw_matching(0, rates, spread)
    right = measure_right(drawn, images, SPLITS, rng)
    assert len(right) >= 0.15 * SPLITS
    assert sum(share < 0.95 for share in right) <= 0.05 * SPLITS


@OBJECTS
def test_no_more_is_dropped_on_new_images_than_is_said(rates: tuple[int, ...], spread: float, images: int) -> None:
    """In 190 of 200 splits the recall is kept, or nothing is dropped."""
    rng, drawn = _draw_matching(1, rates, spread)
    counted = count_misses(drawn, images, SPLITS, rng)
    assert counted.dropping >= 0.15 * SPLITS
    assert counted.broken <= 0.05 * SPLITS


class Misses(NamedTuple):
    """Of splits: in how many something is dropped, in how many of these too much; how many other images are taken.

    `others` are the images to take from, `silent` those that are taken though a label of theirs is missing.
    """

    dropping: int
    broken: int
    others: int
    taken: int
    silent: int


def count_misses(
    known: ValidationMatching,
    images: int,
    splits: int,
    rng: np.random.Generator,
    precision: float = 0.95,
    recall: float = 0.95,
    *,
    compute: Compute = compute_thresholds,
) -> Misses:
    """Draw so many of the images at random, and count what their thresholds drop and take of the others."""
    dropping = broken = taken_images = silent = 0
    for _ in range(splits):
        drawn, chosen = _draw_images(known, images, rng)
        thresholds = compute(chosen, precision, recall)
        other = ~drawn[known.image]
        taken, uncertain = sort_labels(thresholds, known.class_id, known.confidence)
        lows, drops = (np.array([getattr(each, name) for each in thresholds]) for name in ("low", "drops"))
        bounded = other & known.labelled & drops[known.class_id]
        dropping += bool(drops.any())
        broken += bool(drops.any() and (known.confidence < lows[known.class_id])[bounded].mean() > 1 - recall)
        sure = np.isin(np.arange(known.source.images), known.image[taken & other])
        sure[known.image[uncertain]] = False
        taken_images += int(sure.sum())
        silent += len(np.unique(known.image[sure[known.image] & known.labelled & ~taken]))
    return Misses(dropping, broken, splits * (known.source.images - images), taken_images, silent)


def measure_right(
    known: ValidationMatching, images: int, splits: int, rng: np.random.Generator, precision: float = 0.95
) -> list[float]:
    """Draw so many of the images at random, and return which share is right of the labels taken in the others.

    A split in which nothing is taken has no share.
    """
    shares = []
    for _ in range(splits):
        drawn, chosen = _draw_images(known, images, rng)
        taken, _ = sort_labels(compute_thresholds(chosen, precision, 0.95), known.class_id, known.confidence)
        taken &= ~drawn[known.image]
        if taken.any():
            shares.append(float(known.labelled[taken].mean()))
    return shares


def _draw_images(known: ValidationMatching, images: int, rng: np.random.Generator) -> tuple[Any, ValidationMatching]:
    """Which images are drawn, and what is known of these."""
    drawn = np.zeros(known.source.images, bool)
    drawn[rng.choice(len(drawn), images, replace=False)] = True
    columns = {name: getattr(known, name) for name in ("image", "class_id", "confidence", "labelled")}
    return drawn, replace(known, **{name: column[drawn[known.image]] for name, column in columns.items()})


def _draw_matching(seed: int, rates: tuple[int, ...], spread: float) -> tuple[np.random.Generator, ValidationMatching]:
    """What is known of 3,000 images whose labels are wrong together by `spread`, and what to draw from it with."""
    rng = np.random.default_rng(seed)
    drawn = zip(*_draw(rng, rng.normal(0, spread, 3000), rates), strict=True)
    image, class_id, confidence, labelled = (np.concatenate(part) for part in drawn)
    return rng, matching(confidence, labelled, image, class_id, 3000)


def _draw(rng: np.random.Generator, shift: Any, rates: tuple[int, ...]) -> Any:
    """Right and wrong labels of each class; the more an image is shifted, the surer are the right ones."""
    for number, rate in enumerate(rates):
        for is_right, mean in ((True, 2.2), (False, -1.6)):
            count = rng.poisson(rate if is_right else 1.5 * rate, len(shift))
            image = np.repeat(np.arange(len(shift)), count)
            score = rng.normal(mean, 1.3, len(image)) + shift[image] * (1 if is_right else -0.5)
            yield image, np.full(len(image), number), 1 / (1 + np.exp(-score)), np.full(len(image), is_right)
