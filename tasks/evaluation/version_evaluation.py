"""What a version is worth on a set of labelled images: all figures, from what it found in each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation.calibration import Calibration, calibrate
from tasks.evaluation.coco_metrics import coco_metrics
from tasks.evaluation.confusion import Confusion, confuse
from tasks.evaluation.corruption import ALL_CORRUPTIONS
from tasks.evaluation.error_kinds import ErrorKind, error_kinds
from tasks.evaluation.labelled_images import EvaluationSet, label_detections
from tasks.evaluation.matching import Matching, match
from tasks.evaluation.metrics import ACCURACY, ClassMetrics, Metrics
from tasks.evaluation.overlaps import ComparedImage, best_first, compare_image
from tasks.evaluation.promise import Promise, promise_misses
from tasks.evaluation.robustness import Robustness
from tasks.evaluation.slices import ImageTraits, Slice, find_slices
from tasks.evaluation.thresholds import Goal, Threshold, class_thresholds
from tasks.merge.class_mapping import match_class_ids
from tasks.parameters import DEFAULT_CONFIDENCE, EvaluationParams
from tasks.vision.detections import Detections


@dataclass(frozen=True, kw_only=True)
class SliceMetrics:
    """The metrics on a slice of the images.

    `difference` is that of its main metric to the main metric of all images over the same classes; None without labels.
    """

    slice: Slice
    metrics: ClassMetrics
    difference: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class VersionEvaluation:
    """All figures of a version. Classes are those of the set by id, images those of the set by number.

    `errors` are empty for classify. `confidence` is from which on detections of a class count in `confusion` and in
    `mistakes`, which are the missed and the false objects of each image: its threshold, or a lower one that a promise
    needs, as `confidence: auto` takes it. `own_names` are the version's names of the
    classes that count. `left_out` are classes that one of the two, the version or the archives, does not know: neither
    their labels nor their detections count.
    """

    version: int
    task: str
    metrics: ClassMetrics
    slices: tuple[SliceMetrics, ...]
    errors: Mapping[str, ErrorKind]
    calibration: Calibration
    thresholds: Mapping[int, Threshold]
    promises: Mapping[int, Promise]
    confidence: Mapping[int, float]
    confusion: Confusion
    mistakes: tuple[int, ...]
    own_names: Mapping[int, str]
    left_out: tuple[str, ...]
    images: tuple[ComparedImage, ...]
    robustness: Robustness | None = None


def evaluate_version(
    version: int,
    task: str,
    class_names: Sequence[str],
    data: EvaluationSet,
    predictions: Iterable[Detections],
    evaluation: EvaluationParams,
) -> VersionEvaluation:
    """Return the figures of a version with these classes, by what it found in each image of the set, in order.

    Raises:
        StudioError: The version is for another task, shares no class with the archive, or a promise is asked of a class
            that one of them lacks.
    """
    require_task(version, task, data)
    require_classes(version, class_names, data, evaluation.max_misses)
    ids = match_class_ids(class_names, data.class_names)
    images = compare_images(task, class_names, data, predictions)
    matching = match(images)
    metrics = _metrics(images, len(data.class_names), task)
    slices = find_slices(image_traits(data), evaluation.groups)
    count = len(data.class_names)
    goal = Goal(precision=evaluation.min_precision, recall=evaluation.min_recall)
    thresholds = class_thresholds(matching, goal, len(images), evaluation.seed)
    confidence = dict.fromkeys(range(count), DEFAULT_CONFIDENCE)
    confidence |= {number: each.confidence for number, each in thresholds.items() if each.confidence is not None}
    promises = {
        (number := data.class_names.index(name)): promise_misses(matching, number, share)
        for name, share in evaluation.max_misses.items()
    }
    limits = {number: each.limit for number, each in promises.items() if each.limit is not None}
    confidence |= {number: min(confidence[number], limit) for number, limit in limits.items()}
    confusion = confuse(matching, confidence)
    return VersionEvaluation(
        version=version,
        task=task,
        metrics=metrics,
        slices=tuple(_slice_metrics(images, each, metrics, count, task) for each in slices),
        errors={} if task == "classify" else error_kinds(matching),
        calibration=calibrate(matching),
        thresholds=thresholds,
        promises=promises,
        confidence=confidence,
        confusion=confusion,
        mistakes=_mistakes(confusion, len(images)),
        own_names={number: name for name, number in zip(class_names, ids, strict=True) if number is not None},
        left_out=(
            *(name for name, number in zip(class_names, ids, strict=True) if number is None),
            *(name for number, name in enumerate(data.class_names) if number not in ids),
        ),
        images=images,
    )


def image_traits(data: EvaluationSet) -> list[ImageTraits]:
    """Return what each image of a set is like, in order."""
    return [
        ImageTraits(
            archive=image.archive,
            name=image.name,
            brightness=float(np.frombuffer(image.stats.thumbnail, np.uint8).mean()),
            sharpness=image.stats.sharpness,
            pixels=image.stats.width * image.stats.height,
            labels=len(image.rows),
        )
        for image in data.images
    ]


def measure_robustness(
    task: str, class_names: Sequence[str], corrupted: EvaluationSet, predictions: Iterable[Detections]
) -> Robustness:
    """Return the figures of a version, by what it found in each image of a set of `corrupt_images`.

    Raises:
        StudioError: The version shares no class with the archive.
    """
    found = iter(predictions)
    count = len(corrupted.images) // (len(ALL_CORRUPTIONS) + 1)  # the clean ones come first
    data = replace(corrupted, images=corrupted.images[:count])

    def measure() -> ClassMetrics:
        images = compare_images(task, class_names, data, islice(found, count))
        return _metrics(images, len(data.class_names), task)

    return Robustness(images=count, clean=measure(), corrupted={each: measure() for each in ALL_CORRUPTIONS})


def require_task(version: int, task: str, data: EvaluationSet) -> None:
    """Check that a version's task fits the labels; a detector is also measured on the boxes around outlines.

    Raises:
        StudioError: It does not.
    """
    if task != data.task and (task, data.task) != ("detect", "segment"):
        fix = "Name an archive that is labelled for it."
        found = f"{data.title}, labelled for {data.task}"
        raise StudioError(expected_found_fix(f"an archive for the task {task} of version {version}", found, fix))


def require_classes(version: int, class_names: Sequence[str], data: EvaluationSet, wanted: Iterable[str]) -> None:
    """Check that a version with these classes and the labels share a class, and all that are `wanted`.

    Raises:
        StudioError: They do not.
    """
    ids = _match_classes(class_names, data)
    both = [name for number, name in enumerate(data.class_names) if number in ids]
    lacking = [name for name in wanted if name not in both]
    if lacking:
        of_version = [name for name in lacking if name in data.class_names]
        of_data = [name for name in lacking if name not in data.class_names]
        found = " and ".join(
            f"{safe_repr(names, 200)}, which {who} lacks"
            for names, who in ((of_version, f"version {version}"), (of_data, data.title))
            if names
        )
        expected = f"classes of version {version} and of {data.title} in evaluation.max_misses"
        fix = f"Both know {safe_repr(both, 200)}. Rename others by evaluation.classes, or leave them out."
        raise StudioError(expected_found_fix(expected, found, fix))


def _match_classes(class_names: Sequence[str], data: EvaluationSet) -> tuple[int | None, ...]:
    """The class of the set that each class of a version is, if any."""
    ids = match_class_ids(class_names, data.class_names)
    if set(ids) <= {None}:
        names = f"{safe_repr(list(class_names), 200)} and {safe_repr(list(data.class_names), 200)}"
        fix = "Name another archive or version; evaluate-model renames classes by evaluation.classes."
        raise StudioError(expected_found_fix("a class that the version and the archive share", names, fix))
    return ids


def compare_images(
    task: str, class_names: Sequence[str], data: EvaluationSet, predictions: Iterable[Detections]
) -> tuple[ComparedImage, ...]:
    """Return the labels of each image beside what a model with these classes found, of the classes that both know.

    Raises:
        StudioError: There is no such class.
    """
    ids = _match_classes(class_names, data)
    known = [number for number in ids if number is not None]
    images = []
    for image, found in zip(data.images, predictions, strict=True):
        labels = label_detections(image, data, task, found.width, found.height)
        labels = labels.select(np.isin(labels.class_id, known))
        labelled = [number if number in image.vocabulary else None for number in ids]
        detections = _with_classes(best_first(found), labelled)
        if task == "classify" and not len(labels):  # it shows a class that the model cannot say
            detections = detections.select(np.zeros(len(detections), np.bool_))
        images.append(compare_image(labels, detections, task))
    return tuple(images)


def _with_classes(detections: Detections, ids: Sequence[int | None]) -> Detections:
    """The detections under other class ids; those of classes without one go."""
    table = np.array([-1 if number is None else number for number in ids], np.int32)
    classes = table[detections.class_id]
    return replace(detections, class_id=classes).select(classes >= 0)


def _metrics(images: Sequence[ComparedImage], count: int, task: str) -> ClassMetrics:
    return _accuracies(match(images)) if task == "classify" else coco_metrics(images, count, task)


def _slice_metrics(
    images: Sequence[ComparedImage], part: Slice, whole: ClassMetrics, count: int, task: str
) -> SliceMetrics:
    metrics = _metrics([images[number] for number in part.images], count, task)
    own = metrics.overall.primary
    difference = None if own is None else own - _expect_primary(whole, metrics.by_class, task)
    return SliceMetrics(slice=part, metrics=metrics, difference=difference)


def _expect_primary(whole: ClassMetrics, by_class: Mapping[int, Metrics], task: str) -> float:
    """The main metric that a slice with these classes has if each does as well as on all images."""
    weights = [each.labels if task == "classify" else 1 for each in by_class.values()]  # as the metric itself averages
    return float(np.average([whole.by_class[number].primary or 0.0 for number in by_class], weights=weights))


def _accuracies(matching: Matching) -> ClassMetrics:
    right = matching.found > 0

    def accuracy(own: Any) -> Metrics:  # noqa: ANN401 - an array of bool
        return Metrics(labels=int(own.sum()), values={ACCURACY: float(right[own].mean()) if own.any() else None})

    classes = np.unique(matching.label_class).tolist()
    by_class = {number: accuracy(matching.label_class == number) for number in classes}
    return ClassMetrics(overall=accuracy(np.ones(len(right), np.bool_)), by_class=by_class)


def _mistakes(confusion: Confusion, images: int) -> tuple[int, ...]:
    wrong = Counter(image for (true, found), cell in confusion.cells.items() if true != found for image in cell)
    return tuple(wrong[number] for number in range(images))
