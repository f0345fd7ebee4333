"""From which confidence a model's label is taken, and below which it is dropped, by what it did on validation images.

Of each class the lower threshold is the highest confidence at which the recall still reaches the wanted one, and no
single missed label more would break that. From the upper one on, the precision does, and no single wrong label more
would break that. What lies between makes its image uncertain: a label that is silently missing would teach that nothing
is there.

The upper thresholds together keep a bound: if the images are like those of validation, at least the wanted share of
the labels that are taken is right, with 99 % confidence by an exact binomial bound. Labels of one image are wrong
together, so they count as fewer. Where the bound does not hold, all upper thresholds are raised until it does. So do
the lower thresholds: of the classes of which something is dropped, at least the wanted share of the objects is found
from them on. Where that does not hold, all are lowered, and if it never does, nothing is dropped. And from the
confidence on that every run of inference tells by default nothing is dropped, however well the version did: other
images may be unlike those of validation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation.matching import LEAST_CONFIDENCE
from tasks.evaluation.promise import design_effect, largest_share
from tasks.evaluation.validation_matching import ValidationMatching
from tasks.parameters import DEFAULT_CONFIDENCE
from tasks.vision.geometry import Bools, Doubles, Ints

_CONFIDENCE = 0.99
_STEPS = 10  # from the wanted precision or recall to 1, in which it is raised


@dataclass(frozen=True, kw_only=True)
class LabelThreshold:
    """Of a class: labels from `high` on are taken, those below `low` dropped; `low` is at most `high`.

    `high` is None if no confidence is known to be precise enough: nothing of the class is taken, and `doubt` says why.
    `labels` are those of the class in validation.
    """

    low: float
    high: float | None
    labels: int
    doubt: str = ""

    @property
    def drops(self) -> bool:
        """Whether anything is dropped: no model tells of what is less sure than the least confidence."""
        return self.low > LEAST_CONFIDENCE

    def describe(self, confidence: float) -> str:
        """Return why a label of this confidence is uncertain."""
        if self.high is None:
            return f"{confidence:.2f}, and no confidence is known to be precise enough"
        return f"{confidence:.2f}, between {self.low:.2f} and {self.high:.2f}"


@dataclass(frozen=True, kw_only=True)
class ClassExpectation:
    """Of a class, on the images that are taken: the share of its labels that are right, and of its objects found.

    None without any; `taken` are its labels there.
    """

    taken: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the thresholds gave on labelled images: the share of images that are taken, and the labels on these.

    `by_class` has the version's class ids, for those with labels or detections.
    """

    images: int
    share: float
    overall: ClassExpectation
    by_class: Mapping[int, ClassExpectation]


def compute_thresholds(matching: ValidationMatching, precision: float, recall: float) -> list[LabelThreshold]:
    """Return the thresholds of each class of the version; of an image as a whole (classify) nothing is dropped."""
    whole = matching.source.task == "classify"
    classes = [_ClassCurve(matching, number) for number in range(len(matching.source.class_names))]
    highs, wanted = _upper_thresholds(classes, matching, precision)
    lows = [0.0] * len(classes) if whole else _lower_thresholds(classes, matching, recall)
    doubts = _describe_doubts(classes, highs, wanted, matching, precision)
    thresholds = [
        LabelThreshold(
            low=min(low, DEFAULT_CONFIDENCE, 1 if high is None else high), high=high, labels=each.labels, doubt=doubt
        )
        for each, low, high, doubt in zip(classes, lows, highs, doubts, strict=True)
    ]
    return _drop_wrong_classes(thresholds, matching, precision)


def _drop_wrong_classes(
    thresholds: list[LabelThreshold], matching: ValidationMatching, precision: float
) -> list[LabelThreshold]:
    """Take nothing of the classes that are wrong most often, until what is taken is right as often as wished.

    The bound is on all detections from the upper thresholds on. Those in images without a doubt may be worse.
    """
    while True:
        expected = expect(matching, thresholds)
        if expected.overall.precision is None or expected.overall.precision >= precision:
            return thresholds
        wrong = {
            number: each.taken * (1 - each.precision)
            for number, each in expected.by_class.items()
            if each.precision is not None
        }
        worst = max(wrong, key=wrong.__getitem__)
        own = expected.by_class[worst]
        right = f"{own.taken - round(wrong[worst])} of its {own.taken} labels are right"
        doubt = f"in the validation images that would be taken {right}"
        thresholds = [
            replace(each, high=None, doubt=doubt) if number == worst else each for number, each in enumerate(thresholds)
        ]


def override_thresholds(
    thresholds: Sequence[LabelThreshold],
    class_names: Sequence[str],
    take_from: Mapping[str, float],
    drop_below: Mapping[str, float],
) -> list[LabelThreshold]:
    """Return the thresholds with others for some classes, by name.

    Raises:
        StudioError: The model has no such class, or would drop what it takes.
    """
    if unknown := sorted({*take_from, *drop_below} - {*class_names}):
        expected = f"classes of the model, {safe_repr([*class_names], 200)}, in labelling.take_from and drop_below"
        raise StudioError(expected_found_fix(expected, safe_repr(unknown, 200), "Correct the name."))
    chosen = []
    for name, threshold in zip(class_names, thresholds, strict=True):
        high = take_from.get(name, threshold.high)
        low = drop_below.get(name, threshold.low if high is None else min(threshold.low, high))
        if high is not None and low > high:
            fix = "Lower it, or raise labelling.take_from."
            expected = f"labelling.drop_below of at most {high:.3f} for {safe_repr(name)}, from where labels are taken"
            raise StudioError(expected_found_fix(expected, f"{low:.3f}", fix))
        chosen.append(replace(threshold, low=low, high=high, doubt=threshold.doubt if high is None else ""))
    return chosen


def sort_labels(thresholds: Sequence[LabelThreshold], class_id: Ints, confidence: Doubles) -> tuple[Bools, Bools]:
    """Return which of N detections are taken [N] and which are uncertain [N]; the others are dropped."""
    low = np.array([each.low for each in thresholds])[class_id]
    high = np.array([np.inf if each.high is None else each.high for each in thresholds])[class_id]
    taken = confidence >= high
    return taken, (confidence >= low) & ~taken


def expect(matching: ValidationMatching, thresholds: Sequence[LabelThreshold]) -> Expectation:
    """Return what the thresholds give on the images of a matching."""
    taken, uncertain = sort_labels(thresholds, matching.class_id, matching.confidence)
    images = np.zeros(matching.source.images, np.bool_)
    images[matching.image[uncertain]] = True
    kept = ~images[matching.image]
    taken &= kept
    present = matching.labelled & kept

    def measure(own: Bools) -> ClassExpectation:
        count, right, objects = (int((each & own).sum()) for each in (taken, taken & present, present))
        return ClassExpectation(
            taken=count, precision=right / count if count else None, recall=right / objects if objects else None
        )

    classes: list[Any] = np.unique(matching.class_id).tolist()
    return Expectation(
        images=len(images),
        share=float((~images).mean()),
        overall=measure(np.ones(len(kept), np.bool_)),
        by_class={number: measure(matching.class_id == number) for number in classes},
    )


class _Surest(NamedTuple):
    """The surest detections: how many, how many of them are wrong, and whether there are no others."""

    detections: int
    wrong: int
    are_all: bool


class _ClassCurve:
    """The detections of a class, surest first, and how many of them are right down to each place.

    `found` of its `labels` are found, at whatever confidence.
    """

    def __init__(self, matching: ValidationMatching, class_id: int) -> None:
        own = np.flatnonzero(matching.class_id == class_id)
        own = own[np.argsort(-matching.confidence[own], kind="stable")]
        self._confidence = matching.confidence[own]
        self._right = np.cumsum(matching.labelled[own])
        self.labels = int(matching.labelled[own].sum())
        self.found = int((matching.labelled[own] & (self._confidence > 0)).sum())

    def upper_threshold(self, precision: float, wanted: float) -> float | None:
        """Return how far down the precision is `wanted`, without a break, and one wrong label more leaves `precision`.

        None if there is no such place.
        """
        ends = self._ends()
        count, right = ends + 1, self._right[ends]
        precise = (right >= wanted * count) & (right >= precision * (count + 1))
        if not precise.any():
            return None
        first = int(precise.argmax())
        stretch = int(np.append(precise[first:], False).argmin())
        return float(self._confidence[ends[first + stretch - 1]])

    def surest(self, precision: float) -> _Surest:
        """Return the most of the surest detections of which this share is right; none if no place has it."""
        ends = self._ends()
        precise = ends[self._right[ends] >= precision * (ends + 1) - 1e-9]
        return self._surest(int(precise[-1]) + 1 if len(precise) else 0)

    def surest_from(self, confidence: float) -> _Surest:
        """Return the detections from a confidence on."""
        return self._surest(int((self._confidence >= confidence).sum()))

    def _surest(self, count: int) -> _Surest:
        wrong = count - int(self._right[count - 1]) if count else 0
        return _Surest(detections=count, wrong=wrong, are_all=count == int((self._confidence > 0).sum()))

    def _ends(self) -> Ints:
        """The last place of each confidence: those of one count together; of missed labels, at the end, it is 0."""
        last = np.append(self._confidence[1:], -1) < self._confidence
        return np.flatnonzero(last & (self._confidence > 0))

    def lower_threshold(self, recall: float, wanted: float) -> float:
        """Return the highest confidence at which the recall is `wanted`, and one missed label more leaves `recall`.

        The least one if there is no such confidence.
        """
        found = math.ceil(max(wanted * self.labels, recall * (self.labels + 1)) - 1e-9)
        if found > self.labels:
            return LEAST_CONFIDENCE
        return max(LEAST_CONFIDENCE, float(self._confidence[np.searchsorted(self._right, found)]))

    def surest_missed(self, share: float) -> float:
        """Return the confidence of the surest label that is missed if this share is; 0 without labels."""
        found = self._confidence[np.diff(self._right, prepend=0) > 0]
        return float(np.quantile(found, share, method="higher")) if self.labels else 0.0


def _upper_thresholds(
    classes: Sequence[_ClassCurve], matching: ValidationMatching, precision: float
) -> tuple[list[float | None], float]:
    """Return the upper thresholds, and the precision of each class that they are raised to."""
    for wanted in _upper_steps(precision):
        highs = [each.upper_threshold(precision, wanted) for each in classes]
        if _Taken.by(highs, matching).bear_out(precision):
            return highs, wanted
    return [None] * len(classes), 1.0


def _upper_steps(precision: float) -> list[float]:
    """The precision of each class: first the one that is wanted of all, then raised step by step."""
    return [precision + (1 - precision) * step / _STEPS for step in range(_STEPS)]


def _lower_thresholds(classes: Sequence[_ClassCurve], matching: ValidationMatching, recall: float) -> list[float]:
    steps = [
        [each.lower_threshold(recall, recall + (1 - recall) * step / _STEPS) for each in classes]
        for step in range(_STEPS + 1)
    ]
    # Of a class of which nothing is dropped, what is missed is never found.
    of_class = np.array(steps[0]) > LEAST_CONFIDENCE
    own = matching.labelled & of_class[matching.class_id]
    if own.any():
        confidence, class_id = matching.confidence[own], matching.class_id[own]
        # How far labels are missed together shows where as many are missed as may be: further down there are too few.
        surest = np.array([each.surest_missed(1 - recall) for each in classes])
        effect = design_effect(confidence <= surest[class_id], matching.image[own])
        for lows in steps:
            missed = (confidence < np.array(lows)[class_id]).sum()
            bound = largest_share(np.array(missed / effect), np.array(len(confidence) / effect), _CONFIDENCE)
            if float(bound) <= 1 - recall:
                return lows
    return [LEAST_CONFIDENCE] * len(classes)


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """Of the labels that are taken: which are wrong [N], and their images [N]."""

    wrong: Bools
    images: Ints

    @classmethod
    def by(cls, highs: Sequence[float | None], matching: ValidationMatching) -> Self:
        """Return what upper thresholds take."""
        high = np.array([np.inf if each is None else each for each in highs])
        taken = matching.confidence >= high[matching.class_id]
        return cls(wrong=~matching.labelled[taken], images=matching.image[taken])

    def bear_out(self, precision: float, *, apart: bool = False) -> bool:
        """Whether so many are right in all images like these; `apart`: if each were in an image of its own."""
        count = len(self.wrong)
        return not count or self._largest_wrong(count, 1.0 if apart else self._effect()) <= 1 - precision

    def count_needed(self, precision: float) -> int:
        """Return how many labels would do with as many wrong ones, and as alike within an image."""
        effect, few, many = self._effect(), 0, 1
        while self._largest_wrong(many, effect) > 1 - precision:
            few, many = many, 2 * many
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._largest_wrong(middle, effect) <= 1 - precision else (middle, many)
        return many

    def _effect(self) -> float:
        return design_effect(self.wrong, self.images) if self.wrong.any() else 1.0

    def _largest_wrong(self, count: int, effect: float) -> float:
        """The largest share of wrong ones that as many of `count` allow for."""
        return float(largest_share(np.array(self.wrong.sum() / effect), np.array(count / effect), _CONFIDENCE))


def _describe_doubts(
    classes: Sequence[_ClassCurve],
    highs: Sequence[float | None],
    wanted: float,
    matching: ValidationMatching,
    precision: float,
) -> list[str]:
    """Why nothing of a class is taken; empty for each of which something is. `wanted` is the precision of each."""
    if None not in highs:
        return [""] * len(classes)
    alone = [each.upper_threshold(precision, precision) for each in classes]
    together = ""
    if all(high is None for high in highs) and any(high is not None for high in alone):
        together = _describe_doubt_together(classes, alone, matching, precision)
    doubts = []
    for each, high, own in zip(classes, highs, alone, strict=True):
        if high is not None:
            doubts.append("")
        elif own is None:
            doubts.append(_describe_doubt(each, precision))
        else:
            doubts.append(together or _describe_doubt_beside(each.surest_from(own), wanted))
    return doubts


def _describe_doubt(own: _ClassCurve, precision: float) -> str:
    """Why nothing of a class would be taken if there were no other."""
    odds = precision / (1 - precision)
    if lack := _describe_lack([own], "", math.ceil(odds - 1e-9)):
        return lack
    surest = own.surest(precision)
    needed = math.ceil(odds * (surest.wrong + 1) - 1e-9)
    if not surest.detections:
        return "too many of its detections were wrong in validation"
    if surest.are_all:
        return _describe_wrong(f"its {surest.detections:,} detections", surest.wrong, needed + surest.wrong)
    return (
        f"only {surest.detections - surest.wrong:,} right detections come before too many wrong ones, {needed:,} needed"
    )


def _describe_doubt_beside(surest: _Surest, wanted: float) -> str:
    """Why nothing of a class is taken that would do alone: other classes have raised the thresholds of all."""
    told = f"{surest.wrong:,} of its {surest.detections:,} surest detections {_was(surest.wrong)} wrong in validation"
    return f"{told}, which would do alone; beside the other classes {wanted:.1%} of each must be right"


def _describe_wrong(detections: str, wrong: int, needed: int) -> str:
    return f"{wrong:,} of {detections} {_was(wrong)} wrong in validation: with no more, {needed:,} are needed"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _describe_doubt_together(
    classes: Sequence[_ClassCurve], alone: Sequence[float | None], matching: ValidationMatching, precision: float
) -> str:
    """Why the classes that would be taken `alone` are not taken together."""
    certain = [each for each, high in zip(classes, alone, strict=True) if high is not None]
    if len(classes) == 1:
        scope = ""
    else:
        scope = " of all classes" if len(certain) == len(classes) else " of the classes that would do alone"
    needed = math.ceil(math.log(1 - _CONFIDENCE) / math.log(precision) - 1e-9)
    if lack := _describe_lack(certain, scope, needed):
        return lack
    steps = [
        _Taken.by([each.upper_threshold(precision, wanted) for each in classes], matching)
        for wanted in _upper_steps(precision)
    ]
    clustered = next((each for each in steps if each.wrong.any() and each.bear_out(precision, apart=True)), None)
    if clustered:
        wrong, images = int(clustered.wrong.sum()), len(np.unique(clustered.images[clustered.wrong]))
        where = f"lie together in few images ({wrong:,} in {images:,})"
        return f"the wrong detections{scope} {where}, which says little of other images"
    count, wrong = len(steps[0].wrong), int(steps[0].wrong.sum())
    if count - wrong < needed:
        return f"only {count - wrong:,} right detections{scope} come before too many wrong ones, {needed} needed"
    return _describe_wrong(f"the {count:,} surest detections{scope}", wrong, steps[0].count_needed(precision))


def _describe_lack(classes: Sequence[_ClassCurve], scope: str, needed: int) -> str:
    """Say that validation has too few labels of some classes, or that too few were found; empty if it has enough."""
    labels, found = sum(each.labels for each in classes), sum(each.found for each in classes)
    if labels < needed:
        return f"{labels:,} validation labels{scope}, {needed} needed"
    return f"found {found:,} right of {labels:,} validation labels{scope}, {needed} needed" if found < needed else ""
