"""What fell most of a version against its rival, in words."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.evaluation.corruption import ALL_CORRUPTIONS, Corruption
from tasks.evaluation.falls import find_falls
from tasks.evaluation.labelled_images import EvaluationImage, EvaluationSet, join_sets
from tasks.evaluation.metrics import ClassMetrics, Metrics
from tasks.evaluation.robustness import Robustness
from tasks.evaluation.version_evaluation import VersionEvaluation
from tests.tasks.evaluation.test_version_evaluation import evaluated, perfect, unpacked

CAT = 0


@pytest.fixture
def data(tmp_path: Path) -> EvaluationSet:
    """Two archives of six images, brighter from one to the next; even ones show a cat, odd ones a dog."""
    sets = [unpacked(tmp_path / name, "detect", images=6) for name in ("a", "b")]
    images = [tuple(replace(each, archive=name) for each in own.images) for name, own in zip("ab", sets, strict=True)]
    return replace(join_sets(sets, {}), class_names=("cat", "dog"), images=(*images[0], *images[1]))


def without(data: EvaluationSet, lost: Callable[[EvaluationImage, int], bool]) -> VersionEvaluation:
    """A version that misses the objects of some images, by image and class."""
    found = [
        each.select(np.zeros(1, np.bool_)) if lost(image, image.rows[0].class_id) else each
        for image, each in zip(data.images, perfect(data, "detect"), strict=True)
    ]
    return evaluated(data, "detect", found)


Lost = Callable[[EvaluationImage, int], bool]
CASES: dict[str, tuple[Lost, list[str]]] = {
    "nothing": (lambda *_: False, []),
    "a class in one archive": (
        lambda image, shown: (image.archive, shown) == ("b", CAT),
        [
            "Class 'cat' fell from 1.000 to 0.505 (6 labels in 6 images; most in archive 'b' and dark images).",
            "Archive 'b' fell from 1.000 to 0.500 (6 labels in 6 images).",
            "Dark images fell from 1.000 to 0.752 (brightness 0 to 30 of 255; 4 labels in 4 images).",
        ],
    ),
    "dark images": (
        lambda image, _: image.stats.thumbnail[0] <= 30,
        [
            "Class 'cat' fell from 1.000 to 0.663 (6 labels in 6 images; most in archive 'a' and dark images).",
            "Archive 'a' fell from 1.000 to 0.663 (6 labels in 6 images).",
            "Dark images fell from 1.000 to 0.000 (brightness 0 to 30 of 255; 4 labels in 4 images).",
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_class_the_archive_and_the_slice_that_fell_most_are_named(case: str, data: EvaluationSet) -> None:
    lost, sentences = CASES[case]
    falls = find_falls(data.class_names, without(data, lost), without(data, lambda *_: False))
    assert [each.sentence for each in falls] == sentences
    for each in falls:
        assert all(lost(data.images[number], data.images[number].rows[0].class_id) for number in each.images)
        assert each.images


def test_a_gain_elsewhere_hides_no_fall_and_one_label_is_no_slice(data: EvaluationSet) -> None:
    version = without(data, lambda _, shown: shown == CAT)
    rival = without(data, lambda _, shown: shown != CAT)
    (first, *_) = find_falls(data.class_names, version, rival)
    assert first.name == "class 'cat'"
    assert first.score == 0
    assert find_falls(data.class_names, version, version) == []


def test_the_corruption_that_costs_most_is_named(data: EvaluationSet) -> None:
    alike = without(data, lambda *_: False)
    good, less, bad = (
        ClassMetrics(overall=Metrics(labels=1, values={"mAP50-95": score}), by_class={}) for score in (0.8, 0.7, 0.3)
    )
    scores = dict.fromkeys(ALL_CORRUPTIONS, good)
    foggy = scores | {Corruption("fog", 5): bad, Corruption("snow", 1): less}
    version, rival = (
        replace(alike, robustness=Robustness(images=50, clean=good, corrupted=each)) for each in (foggy, scores)
    )
    (fall,) = find_falls(data.class_names, version, rival)
    assert fall.sentence == "Images with fog of strength 5 of 5 fell from 0.800 to 0.300 (50 images)."


def test_a_class_that_only_one_knows_does_not_fall(data: EvaluationSet) -> None:
    crowded = (replace(each, rows=each.rows * (1 + number % 3)) for number, each in enumerate(data.images))
    data = replace(data, images=tuple(crowded))
    rival = without(data, lambda *_: False)
    version = evaluated(data, "detect", perfect(data, "detect"), ["cat", "bird"])
    assert find_falls(data.class_names, version, rival) == []
    assert [each.slice for each in version.slices] == [each.slice for each in rival.slices]  # also the crowded ones
