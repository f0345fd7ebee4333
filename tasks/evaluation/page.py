"""An evaluation as one page of HTML, as JSON, and as markdown for the run."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from tasks.evaluation.calibration import Calibration
from tasks.evaluation.confusion import BACKGROUND
from tasks.evaluation.corruption import CORRUPTIONS, STRENGTHS, Corruption
from tasks.evaluation.error_kinds import KINDS
from tasks.evaluation.falls import NOTHING_FELL, Fall
from tasks.evaluation.labelled_images import EvaluationSet
from tasks.evaluation.metrics import ClassMetrics, Metrics, shared_classes
from tasks.evaluation.pictures import draw_matrix, draw_sides, draw_worst
from tasks.evaluation.promise import round_down
from tasks.evaluation.robustness import Robustness
from tasks.evaluation.slices import describe_alike
from tasks.evaluation.thresholds import Threshold
from tasks.evaluation.version_evaluation import VersionEvaluation, image_traits
from tasks.parameters import DEFAULT_CONFIDENCE
from tasks.rendering.html import DOCUMENT, PICTURES, render_page
from tasks.rendering.markdown import escape_markdown, table

CHART = 240  # pixels of the reliability curve, and of the longest bar
_SHOWN_ROWS = 60  # of a table, before a click
_MOST_SLICES = 300
_NO_DETECTIONS = "no detections"
_KEPT = (
    "The thresholds are kept with version {}. With `confidence: auto`, detections of a class count from its threshold "
    "on: in `run-inference` from now on, in live predictions when the version is deployed again."
)
_NOT_KEPT = (
    "The thresholds are not kept with version {}, so `confidence: auto` does not take them: they rest on images for "
    "training, or `evaluation.keep_thresholds` is false."
)
_KIND_WORDS = {
    "class": "on an object, of another class",
    "location": "of the right class, but it overlaps its object by 0.1 to 0.5 only",
    "both": "of another class, and off the object",
    "duplicate": "on an object that a better one has found",
    "background": "where nothing is labelled",
    "missed": "a label that no detection comes near",
}
_SCALES = (
    "A score on validation or gold images in these reasons is Ultralytics' own, as a training is measured; it alone "
    "decides. All other figures of this page are COCO's metrics. So a version has two figures of one measure, which "
    "differ a little."
)
_SCALES_OF_CLASSES = (
    "A score on validation or gold images in these reasons is the mean over the classes that both versions know; it "
    "alone decides. All other figures of this page count each image once. So a version has two figures of one measure."
)
_MARKDOWN_CLASSES = 30
_FALL_IMAGES = 6  # of each fall


class Refusal(NamedTuple):
    """Why a version was refused, and what fell most against its rival."""

    reasons: Sequence[str]
    falls: Sequence[Fall]


def evaluation_page(
    model_name: str,
    data: EvaluationSet,
    evaluations: Sequence[VersionEvaluation],
    remarks: Sequence[str],
    worst: int,
    refusal: Refusal | None = None,
) -> str:
    """Return the page: the first version is judged, the others stand beside it; `remarks` qualify all figures.

    If the first one was refused, what fell against the second one comes first.
    """
    first = evaluations[0]
    names = data.class_names
    over, shared = _share_classes(evaluations)
    return render_page(
        "evaluation",
        DOCUMENT,
        PICTURES,
        title=f"{model_name} version {first.version}",
        data=data.title,
        versions=[each.version for each in evaluations],
        reasons=refusal.reasons if refusal else (),
        falls=[
            (each.sentence, [draw_sides(data, evaluations, number, names) for number in each.images[:_FALL_IMAGES]])
            for each in (refusal.falls if refusal else ())
        ],
        scales=_SCALES_OF_CLASSES if first.task == "classify" else _SCALES,
        nothing_fell=NOTHING_FELL,
        totals=_totals(first, data),
        metric=next(iter(first.metrics.overall.values)),
        over=over,
        metrics=_metric_rows(evaluations),
        task=first.task,
        classes=[_class_row(number, evaluations, names) for number, _ in _weakest_first(first)],
        promises=[_promise_row(number, first, names) for number in first.promises],
        remarks=remarks,
        left_out=[(each.version, ", ".join(each.left_out)) for each in evaluations if each.left_out],
        matrix=draw_matrix(data, first, names),
        bars=_bars(evaluations),
        chart=CHART,
        curves=[(each.version, _curve(each.calibration), _calibration_error(each)) for each in evaluations],
        slices=_slice_rows(evaluations, shared)[:_MOST_SLICES],
        alike=describe_alike(image_traits(data)),
        shown_rows=_SHOWN_ROWS,
        corruptions=_corruption_rows(evaluations, shared),
        strengths=STRENGTHS,
        exhibits=draw_worst(data, evaluations, worst, names),
    )


def evaluation_facts(model_name: str, data: EvaluationSet, evaluations: Sequence[VersionEvaluation]) -> dict[str, Any]:
    """Return all figures as plain values for JSON; classes by their names."""
    return {
        "model": model_name,
        "archives": dict(data.digests),
        "split": data.split,
        "images": len(data.images),
        "versions": [_version_facts(each, data.class_names, data) for each in evaluations],
    }


def _version_facts(each: VersionEvaluation, names: Sequence[str], data: EvaluationSet) -> dict[str, Any]:
    cells = each.confusion.cells.items()
    mistakes = zip(data.images, each.mistakes, strict=True)
    return {
        "version": each.version,
        "task": each.task,
        "metrics": dict(each.metrics.overall.values),
        "labels": each.metrics.overall.labels,
        "left_out_classes": list(each.left_out),
        "classes": {
            names[number]: {"labels": own.labels, **own.values} for number, own in each.metrics.by_class.items()
        },
        "slices": [
            {
                "by": own.slice.by,
                "name": own.slice.name,
                "images": len(own.slice.images),
                "difference": own.difference,
                **own.metrics.overall.values,
            }
            for own in each.slices
        ],
        "errors": {kind: asdict(error) for kind, error in each.errors.items()},
        "calibration": asdict(each.calibration),
        "thresholds": threshold_facts(each),
        "promises": {names[number]: asdict(promise) for number, promise in each.promises.items()},
        "robustness": each.robustness and _robustness_facts(each.robustness),
        "confusion": [
            {"true": _class(names, true), "found": _class(names, found), "count": len(images)}
            for (true, found), images in cells
        ],
        "mistakes": [
            {"archive": image.archive, "image": image.name, "count": count} for image, count in mistakes if count
        ],
    }


def evaluation_metrics(data: EvaluationSet, evaluation: VersionEvaluation) -> dict[str, float]:
    """Return the metrics of a version for MLflow: `evaluation/ARCHIVES/SPLIT/METRIC`."""
    names = "+".join(data.digests)
    archives = "".join(sign if sign.isalnum() or sign in "_-. " else "_" for sign in names)[-100:].strip(".")
    beginning = f"evaluation/{archives or 'archive'}/{data.split}"
    values = dict(evaluation.metrics.overall.values) | {"calibration_error": evaluation.calibration.error}
    if evaluation.robustness:
        values["mean of corruptions"] = evaluation.robustness.mean
    values |= {f"cost {kind}": error.cost for kind, error in evaluation.errors.items()}
    return {f"{beginning}/{name}": value for name, value in values.items() if value is not None}


def threshold_facts(evaluation: VersionEvaluation) -> dict[str, dict[str, Any]]:
    """Return the thresholds by the version's own class names, as plain values; a lower one where a promise wants it."""
    return {
        evaluation.own_names[number]: asdict(each) | {"confidence": _kept_confidence(evaluation, number)}
        for number, each in evaluation.thresholds.items()
    }


def _kept_confidence(evaluation: VersionEvaluation, number: int) -> float | None:
    is_promised = _promised_limit(evaluation, number) is not None
    return evaluation.confidence[number] if is_promised else evaluation.thresholds[number].confidence


def _promised_limit(evaluation: VersionEvaluation, number: int) -> float | None:
    return promise.limit if (promise := evaluation.promises.get(number)) else None


def evaluation_markdown(
    model_name: str,
    data: EvaluationSet,
    evaluations: Sequence[VersionEvaluation],
    remarks: Sequence[str],
    *,
    kept: bool,
) -> str:
    """Return the metrics of each version, and of the first the weakest classes, their thresholds and its promises.

    `remarks` qualify all figures; `kept` says whether the thresholds are kept with the first version.
    """
    first = evaluations[0]
    versions = [f"version {each.version}" for each in evaluations]
    metrics = [(name, *figures) for name, figures in _metric_rows(evaluations)]
    weakest = _weakest_first(first)
    classes = [
        (data.class_names[number], own.labels, _figure(own.primary), _threshold(first.thresholds.get(number)))
        for number, own in weakest[:_MARKDOWN_CLASSES]
    ]
    parts = [
        f"**{escape_markdown(model_name)} on {escape_markdown(data.title)}**: {len(data.images)} images.",
        *map(escape_markdown, remarks),
        table(("metric", *versions), metrics),
        table(("weakest classes", "labels", first_metric(first), "threshold (95 % interval)"), classes),
        (_KEPT if kept else _NOT_KEPT).format(first.version),
        *map(escape_markdown, promise_sentences(data, first)),
    ]
    return "\n\n".join(parts)


def promise_sentences(data: EvaluationSet, evaluation: VersionEvaluation) -> list[str]:
    """Return of each promise that was asked for whether it can be given, and what follows."""
    return [_promise_row(number, evaluation, data.class_names)[1] for number in evaluation.promises]


def evaluation_sentence(model_name: str, data: EvaluationSet, evaluations: Sequence[VersionEvaluation]) -> str:
    """Return the main metric of each version on one line, over the classes that all know."""
    metric = first_metric(evaluations[0])
    over, shared = _share_classes(evaluations)
    scores = ", ".join(f"version {each.version} {_primary(each.metrics.over(shared))}" for each in evaluations)
    return f"{model_name} on {data.title}: {metric} {scores}{over} ({len(data.images)} images)"


def first_metric(evaluation: VersionEvaluation) -> str:
    """Return the name of the metric that versions are compared by."""
    return next(iter(evaluation.metrics.overall.values))


def _share_classes(evaluations: Sequence[VersionEvaluation]) -> tuple[str, frozenset[int]]:
    """What to say of figures over the classes that all versions know, if some know others; and these classes."""
    shared = shared_classes(each.metrics for each in evaluations)
    alike = all(each.metrics.by_class.keys() == shared for each in evaluations)
    return "" if alike else " over the classes that all versions know", shared


def _metric_rows(evaluations: Sequence[VersionEvaluation]) -> list[tuple[str, list[str]]]:
    """Of each metric the figure of each version, over its own classes; the main one also over those that all know."""
    over, shared = _share_classes(evaluations)
    rows = [
        (name, [_figure(each.metrics.overall.values.get(name)) for each in evaluations])
        for name in evaluations[0].metrics.overall.values
    ]
    if over:
        figures = [_primary(each.metrics.over(shared)) for each in evaluations]
        rows.insert(0, (f"{first_metric(evaluations[0])}{over}", figures))
    return rows


def _totals(first: VersionEvaluation, data: EvaluationSet) -> list[tuple[str, str]]:
    shown = list(first.metrics.overall.values.items())[:2]
    return [
        *((name, _figure(value)) for name, value in shown),
        ("calibration error", _calibration_error(first)),
        ("labels", f"{first.metrics.overall.labels:,}"),
        ("images", f"{len(data.images):,}"),
    ]


def _weakest_first(evaluation: VersionEvaluation) -> list[tuple[int, Metrics]]:
    return sorted(evaluation.metrics.by_class.items(), key=lambda each: each[1].primary or 0.0)


def _calibration_error(evaluation: VersionEvaluation) -> str:
    error = evaluation.calibration.error
    return _NO_DETECTIONS if error is None else _figure(error)


def _class_row(number: int, evaluations: Sequence[VersionEvaluation], names: Sequence[str]) -> dict[str, Any]:
    first = evaluations[0]
    threshold = first.thresholds.get(number)
    others = [each.metrics.by_class.get(number) for each in evaluations]
    return {
        "name": names[number],
        "labels": first.metrics.by_class[number].labels,
        "scores": ["-" if own is None else _figure(own.primary) for own in others],
        "threshold": _threshold(threshold) + _lowered(first, number),
        "at": f"{threshold.precision:.2f} / {threshold.recall:.2f}" if threshold and threshold.confidence else "-",
    }


def _threshold(threshold: Threshold | None) -> str:
    if threshold is None or threshold.confidence is None:
        return "none" if threshold else "-"
    between = f" ({threshold.low:.3f} to {threshold.high:.3f})" if threshold.low is not None else ""
    return f"{threshold.confidence:.3f}{between}"


def _lowered(evaluation: VersionEvaluation, number: int) -> str:
    """That detections count from a lower confidence on, because a promise needs it; else nothing."""
    limit = _promised_limit(evaluation, number)
    return f", promised from {limit:.3f}" if limit is not None and limit < round_down(_own(evaluation, number)) else ""


def _own(evaluation: VersionEvaluation, number: int) -> float:
    """The threshold of a class without any promise."""
    threshold = evaluation.thresholds.get(number)
    return DEFAULT_CONFIDENCE if threshold is None or threshold.confidence is None else threshold.confidence


def _promise_row(number: int, evaluation: VersionEvaluation, names: Sequence[str]) -> tuple[bool, str]:
    """Whether the promise of a class can be given, and the sentence about it."""
    promise = evaluation.promises[number]
    wish = f"at most {_percent(promise.share)} of the objects of class {names[number]} are missed"
    if promise.threshold is not None and (limit := promise.limit) is not None:
        own = _own(evaluation, number)
        advice = (
            f"the threshold of the class, {round_down(own):.3f}, keeps it"
            if own <= promise.threshold
            else f"the threshold of the class, {own:.3f}, does not, so the version is given {limit:.3f} in its place"
        )
        return True, (
            f"Promised with 95 % confidence: {wish}, if its detections count from confidence {limit:.3f} on, or from a "
            f"lower one; {advice}. Here {promise.missed:,} of {promise.labels:,} were missed; among very many it may "
            f"be {_percent(promise.bound)}."
        )
    if promise.missing_labels is not None:
        return False, (
            f"Not promised: {wish}. {promise.labels:,} labels are too few to know: evaluate on about "
            f"{promise.missing_labels:,} more, in other images that are drawn at random."
        )
    return False, (
        f"Not promised: {wish}. Here {promise.missed:,} of {promise.labels:,} were missed at any confidence: train on "
        "more images of the class, or allow more misses (evaluation.max_misses)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bars(evaluations: Sequence[VersionEvaluation]) -> list[tuple[str, str, list[tuple[int, int, str, float]]]]:
    """Of each kind of error its words, and of each version the count, the cost and the length of its bar."""
    longest = max([error.cost for each in evaluations for error in each.errors.values()], default=0.0) or 1.0
    return [
        (
            kind,
            _KIND_WORDS[kind],
            [
                (
                    each.version,
                    each.errors[kind].count,
                    f"{each.errors[kind].cost:.3f}",
                    CHART * each.errors[kind].cost / longest,
                )
                for each in evaluations
            ],
        )
        for kind in KINDS
        if evaluations[0].errors
    ]


def _curve(calibration: Calibration) -> list[tuple[float, float, float, str]]:
    """Of each bin its place from the left and from the top, its radius and its words."""
    most = max((each.count for each in calibration.bins), default=1)
    return [
        (
            CHART * each.confidence,
            CHART * (1 - each.precision),
            2 + 6 * (each.count / most) ** 0.5,
            f"{each.count:,} detections of confidence {each.confidence:.2f}: {each.precision:.0%} are right",
        )
        for each in calibration.bins
    ]


def _slice_rows(evaluations: Sequence[VersionEvaluation], shared: frozenset[int]) -> list[dict[str, Any]]:
    """Of each slice its figures, with the scores over the classes that all versions share."""
    first = evaluations[0]
    others = [{(own.slice.by, own.slice.name): own.metrics.over(shared) for own in each.slices} for each in evaluations]
    return [
        {
            "by": own.slice.by,
            "name": own.slice.name,
            "images": len(own.slice.images),
            "labels": own.metrics.overall.labels,
            "scores": [_primary(each.get((own.slice.by, own.slice.name))) for each in others],
            "difference": "" if own.difference is None else f"{own.difference:+.3f}",
            "bad": own.difference is not None and own.difference < -0.05,
        }
        for own in first.slices
    ]


def _corruption_rows(evaluations: Sequence[VersionEvaluation], shared: frozenset[int]) -> list[tuple[str, list[str]]]:
    """Of the clean images, of each corruption and of their mean: the score of each version at each strength."""
    if evaluations[0].robustness is None:
        return []
    measured = [each.robustness.over(shared) for each in evaluations if each.robustness]
    blank = [""] * (len(STRENGTHS) - 1)
    clean = [cell for each in measured for cell in (_primary(each.clean), *blank)]
    mean = [cell for each in measured for cell in (_figure(each.mean), *blank)]
    rows = [
        (
            name.replace("_", " "),
            [_primary(each.corrupted[Corruption(name, strength)]) for each in measured for strength in STRENGTHS],
        )
        for name in CORRUPTIONS
    ]
    return [("none", clean), *rows, ("mean of all", mean)]


def _robustness_facts(robustness: Robustness) -> dict[str, Any]:
    corrupted = robustness.corrupted.items()
    return {
        "images": robustness.images,
        "clean": robustness.clean.overall.primary,
        "mean": robustness.mean,
        "corruptions": {f"{name} {strength}": each.overall.primary for (name, strength), each in corrupted},
    }


def _primary(metrics: ClassMetrics | None) -> str:
    return "-" if metrics is None else _figure(metrics.overall.primary)


def _class(names: Sequence[str], number: int) -> str | None:
    return None if number == BACKGROUND else names[number]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
