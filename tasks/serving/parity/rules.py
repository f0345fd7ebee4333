"""The verdict: how many detections agree, how much mAP is lost, and what follows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.dataset.validation_sample import ValidationSample
from tasks.parameters import ParityPolicy
from tasks.serving.parity.matching import match_detections
from tasks.vision.detections import Detections, class_name
from tasks.vision.metrics import Scores

# Twice what the graph cuts off: below it a partner may be missing for a last digit.
MIN_CONFIDENCE = 0.002


@dataclass(frozen=True, kw_only=True)
class ImageParity:
    """An image of the sample: `compared` detections of both sides, and the row numbers of those without a partner."""

    name: str
    compared: int
    unmatched_reference: tuple[int, ...]
    unmatched_served: tuple[int, ...]

    @property
    def unmatched(self) -> int:
        """How many have no partner."""
        return len(self.unmatched_reference) + len(self.unmatched_served)


@dataclass(frozen=True, kw_only=True)
class ClassParity:
    """A class: its compared detections of both sides, those with a partner, and the metric of each side.

    The metric is None if the sample shows no such object.
    """

    name: str
    compared: int
    matched: int
    reference: float | None
    served: float | None


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """The weights (`reference`) beside the served model, on the images of a sample in their order.

    Detections of both sides that reach `confidence` are compared; `weak` says that it had to be lowered. `reference`
    and `served` are the `metric` of each side, None if the sample has no labels. `score_difference` is the largest
    between partners, `overlap` the least.
    """

    policy: ParityPolicy
    confidence: float
    images: tuple[ImageParity, ...]
    classes: tuple[ClassParity, ...]
    metric: str
    reference: float | None
    served: float | None
    score_difference: float
    overlap: float
    weak: bool

    @property
    def compared(self) -> int:
        """Detections of both sides."""
        return sum(image.compared for image in self.images)

    @property
    def matched(self) -> int:
        """The compared detections that have a partner."""
        return self.compared - sum(image.unmatched for image in self.images)

    @property
    def agreement(self) -> float:
        """The share that has a partner; 1 if none was compared."""
        return self.matched / self.compared if self.compared else 1.0

    @property
    def required_agreement(self) -> float:
        """The share that must have one."""
        return self.policy.min_weak_agreement if self.weak else self.policy.min_agreement

    @property
    def map_drop(self) -> float:
        """How much lower the metric of the served model is; 0 if the sample has no labels."""
        return 0.0 if self.reference is None or self.served is None else self.reference - self.served

    @property
    def passed(self) -> bool:
        """Whether clients may get this model."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that the policy forbids, in sentences."""
        return tuple(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.agreement < self.required_agreement:
            yield (
                f"Expected at least {self.required_agreement:.1%} of the detections from a score of "
                f"{self.confidence:.3f} on to be the same for Triton and for the weights, found {self.agreement:.1%} "
                f"({self.matched} of {self.compared}). Swapped channels, another normalisation, stretched images or "
                "classes in another order look like this: export the weights again, or change the limits in "
                "serving.parity."
            )
        if self.map_drop > self.policy.max_map_drop:
            yield (
                f"Expected {self.metric} of the served model at most {self.policy.max_map_drop:.3f} below the "
                f"{self.reference:.4f} of its weights, found {self.served:.4f}. Serve it in higher precision, or raise "
                "serving.parity.max_map_drop."
            )

    @property
    def worst(self) -> tuple[int, ...]:
        """The indices of images in which some detection has no partner, those with the most first."""
        unmatched = {index: image.unmatched for index, image in enumerate(self.images) if image.unmatched}
        return tuple(sorted(unmatched, key=lambda index: -unmatched[index]))


def compare_predictions(
    reference: Sequence[Detections],
    served: Sequence[Detections],
    sample: ValidationSample,
    scores: tuple[Scores, Scores],
    policy: ParityPolicy,
) -> ParityReport:
    """Compare the predictions for each image of the sample, in its order, and the scores of weights and served model.

    The best class of a classifier counts as one detection.
    """
    confidence, weak = confidence_floor(reference, policy)
    tally = _Tally(confidence, policy)
    for image, one, other in zip(sample.images, reference, served, strict=True):
        tally.add(image.name, class_scores_as_detection(one), class_scores_as_detection(other))
    metric = "accuracy_top1" if sample.task == "classify" else "mAP50-95"
    return ParityReport(
        policy=policy,
        confidence=confidence,
        images=tuple(tally.images),
        classes=tuple(_classes(tally, sample.class_names, metric, scores)),
        metric=metric,
        reference=scores[0].metrics.get(metric),
        served=scores[1].metrics.get(metric),
        score_difference=tally.score_difference,
        overlap=tally.overlap,
        weak=weak,
    )


def parity_tags(parity: ParityReport) -> dict[str, str]:
    """Return the verdict and its figures as tags of the version."""
    metric = {"parity_drop": f"{parity.map_drop:.4f}"} if parity.reference is not None else {}
    return {
        "parity": "passed" if parity.passed else "failed",
        "parity_agreement": f"{parity.agreement:.4f}",
        "parity_judged": f"{parity.compared} from a score of {parity.confidence:.3f} on",
        **metric,
    }


def confidence_floor(reference: Sequence[Detections], policy: ParityPolicy) -> tuple[float, bool]:
    """Return the score from which detections are compared, and whether it was lowered because there are so few."""
    confidences = [class_scores_as_detection(detections).confidence for detections in reference]
    best = np.sort(np.concatenate([np.zeros(0), *confidences]))[::-1]
    # A classifier gives one answer for an image.
    is_classifier = any(detections.class_scores is not None for detections in reference)
    wanted = min(policy.min_detections, len(reference)) if is_classifier else policy.min_detections
    if np.count_nonzero(best >= policy.min_confidence) >= wanted:
        return policy.min_confidence, False
    last = best[: policy.min_detections].min(initial=policy.min_confidence)
    return max(float(last), MIN_CONFIDENCE), True


def class_scores_as_detection(detections: Detections) -> Detections:
    """Return the best class of a classifier as one detection of the whole image.

    Its score is 0 for chance and 1 for certainty: the probabilities of a classifier that knows little are all near
    chance, whatever the image shows.
    """
    scores = detections.class_scores
    if scores is None:
        return detections
    best = int(scores.argmax())
    chance = 1 / max(len(scores), 2)
    score = (scores[best : best + 1] - chance) / (1 - chance)
    return Detections(
        width=detections.width,
        height=detections.height,
        xyxy=np.array([[0, 0, detections.width, detections.height]], np.float32),
        confidence=score.astype(np.float32),
        class_id=np.array([best], np.int32),
    )


class _Tally:
    """Counts, image by image: two images are in memory at a time."""

    def __init__(self, confidence: float, policy: ParityPolicy) -> None:
        self.images: list[ImageParity] = []
        self.compared: Counter[int] = Counter()
        self.unmatched: Counter[int] = Counter()
        self.score_difference = 0.0
        self.overlap = 1.0
        self._confidence = confidence
        self._policy = policy

    def add(self, name: str, reference: Detections, served: Detections) -> None:
        matched = match_detections(reference, served, self._confidence, self._policy)
        compared = 0
        for side, unmatched in ((reference, matched.unmatched_reference), (served, matched.unmatched_served)):
            classes = side.class_id[side.confidence >= self._confidence].tolist()
            self.compared.update(classes)
            self.unmatched.update(side.class_id[list(unmatched)].tolist())
            compared += len(classes)
        self.images.append(
            ImageParity(
                name=name,
                compared=compared,
                unmatched_reference=matched.unmatched_reference,
                unmatched_served=matched.unmatched_served,
            )
        )
        for one, other, overlap in matched.pairs:
            difference = abs(float(reference.confidence[one] - served.confidence[other]))
            self.score_difference = max(self.score_difference, difference)
            self.overlap = min(self.overlap, overlap)


def _classes(tally: _Tally, names: Sequence[str], metric: str, scores: tuple[Scores, Scores]) -> Iterator[ClassParity]:
    """Classes that either side found or that the sample shows, by number."""
    for number in sorted({*tally.compared, *range(len(names))}):
        name = class_name(names, number)
        values = [side.classes.get(name, {}).get(metric) for side in scores]
        compared = tally.compared[number]
        if compared or values[0] is not None:
            matched = compared - tally.unmatched[number]
            yield ClassParity(name=name, compared=compared, matched=matched, reference=values[0], served=values[1])
