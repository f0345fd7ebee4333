"""A fall of the score is told without labels, on images that a drawn model sees worse and worse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import StudioError
from tasks.evaluation.corruption import WITH_DARKNESS
from tasks.monitoring.judged_images import JudgedImages
from tasks.monitoring.profiles import OBJECT_TRAITS, PICTURE_TRAITS, Profile
from tasks.monitoring.reference import Reference, load_reference, save_reference
from tasks.monitoring.score_estimate import ScoreEstimator

IMAGES, CLASSES = 100, 2
FALLS = {1: 0.1, 3: 0.3, 5: 0.7}


def judged(fall: float, seed: int, images: int = IMAGES) -> JudgedImages:
    """Images with three objects each, of which a model finds fewer, and less surely, the more it falls."""
    class_id = np.random.default_rng(0).integers(0, CLASSES, images * 3)
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 3)
    labels = np.bincount(image * CLASSES + class_id, minlength=images * CLASSES).reshape(-1, CLASSES)
    found = rng.random(images * 3) > fall
    confidence = rng.beta(9 * (1 - fall) + 1, 2, images * 3)
    profile = Profile(
        pictures={trait: rng.normal(100 - 50 * fall, 10, images) for trait in PICTURE_TRAITS},
        embeddings=np.zeros((images, 0)),
        image=image[found],
        class_id=class_id[found],
        confidence=confidence[found],
        size=rng.uniform(0.1, 0.3, found.sum()),
    )
    correct = rng.random(found.sum()) < 0.3 + 0.7 * confidence[found]
    return JudgedImages(profile=profile, correct=correct, labels=labels)


def reference() -> Reference:
    corrupted = {each: judged(FALLS[each.strength], seed) for seed, each in enumerate(WITH_DARKNESS, 1)}
    return Reference(clean=judged(0, 0), corrupted=corrupted)


@pytest.fixture(scope="module")
def estimator() -> ScoreEstimator:
    known = reference()
    return ScoreEstimator(known.clean, known.corrupted, classify=False)


@pytest.mark.parametrize("fall", [0.0, 0.2, 0.5])
def test_the_score_is_estimated_without_labels(estimator: ScoreEstimator, fall: float) -> None:
    windows = [judged(fall, seed, 100) for seed in range(100, 110)]
    found = [estimator.estimate(window.profile) for window in windows]
    errors = [abs(each.score - estimator.score(window)) for each, window in zip(found, windows, strict=True)]
    assert np.mean(errors) <= 0.05
    assert all(each.fall < 0.05 if fall == 0 else each.fall > 0.1 for each in found)


def test_of_nothing_that_is_found_nothing_is_right(estimator: ScoreEstimator) -> None:
    nothing = judged(1.1, 1).profile
    assert len(nothing.confidence) == 0
    assert estimator.estimate(nothing).score == 0


def test_a_score_is_estimated_if_few_validation_images_have_labels() -> None:
    def thin(images: JudgedImages) -> JudgedImages:
        kept = images.profile.image < 2
        columns = {name: getattr(images.profile, name)[kept] for name in OBJECT_TRAITS}
        labels = images.labels * (np.arange(IMAGES) < 2)[:, None]
        return JudgedImages(profile=replace(images.profile, **columns), correct=images.correct[kept], labels=labels)

    known = reference()
    estimator = ScoreEstimator(
        thin(known.clean), {name: thin(each) for name, each in known.corrupted.items()}, classify=False
    )
    assert 0 <= estimator.estimate(thin(judged(0, 3)).profile).score <= 1


def test_a_reference_is_kept_as_it_is(tmp_path: Path) -> None:
    known = reference()
    save_reference(known, tmp_path / "reference.npz")
    again = load_reference(tmp_path / "reference.npz")
    pairs = [(known.clean, again.clean), *((own, again.corrupted[name]) for name, own in known.corrupted.items())]
    for one, other in pairs:
        assert (one.labels == other.labels).all()
        assert (one.correct == other.correct).all()
        assert (one.profile.class_id == other.profile.class_id).all()


def test_another_file_is_no_reference(tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(StudioError, match=r"Expected a reference in .*, found another file"):
        load_reference(tmp_path / "reference.npz")


def classified(fall: float, seed: int) -> JudgedImages:
    """Images of which each has one class, and a model that is less often right and less sure the more it falls."""
    rng = np.random.default_rng(seed)
    class_id = rng.integers(0, CLASSES, IMAGES)
    correct = rng.random(IMAGES) > 0.05 + 0.5 * fall
    profile = Profile(
        pictures={trait: np.full(IMAGES, 100.0) for trait in PICTURE_TRAITS},
        embeddings=np.zeros((IMAGES, 0)),
        image=np.arange(IMAGES),
        class_id=np.where(correct, class_id, 1 - class_id),
        confidence=np.where(correct, rng.beta(9, 1, IMAGES), rng.beta(4, 3, IMAGES)),
        size=np.ones(IMAGES),
    )
    return JudgedImages(profile=profile, correct=correct, labels=np.eye(CLASSES, dtype=np.int64)[class_id])


def test_the_accuracy_of_a_classifier_is_estimated() -> None:
    corrupted = {each: classified(FALLS[each.strength], seed) for seed, each in enumerate(WITH_DARKNESS, 1)}
    estimator = ScoreEstimator(classified(0, 0), corrupted, classify=True)
    for fall in (0.0, 0.5, 0.9):
        windows = [classified(fall, seed) for seed in range(100, 110)]
        errors = [abs(estimator.estimate(each.profile).score - estimator.score(each)) for each in windows]
        assert np.mean(errors) <= 0.06
