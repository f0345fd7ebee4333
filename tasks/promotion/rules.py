"""Whether a new version is promoted: it is compared with the champion on the same images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from tasks.errors import expected_found_fix, safe_repr
from tasks.merge.class_mapping import match_class_ids
from tasks.parameters import PromotionPolicy
from tasks.vision.metrics import MAP50_METRIC, PRIMARY_METRIC, Scores

VALIDATION = "validation"
GOLD = "gold"
REFUSED = "refused, it gets no alias and deploy-model passes it over"
_TOLD = 3  # classes in a sentence
_TOLERANCE = 1e-6  # two evaluations of one model differ by less
FIRST_MIN_MAP50 = 0.1  # a model below finds next to nothing: its labels are wrong, or it has hardly learned
_MAX_TAG = 500  # characters of a tag that people read in a table


@dataclass(frozen=True, kw_only=True)
class EvaluatedVersion:
    """A version in MLflow, with its task and classes.

    `scores` has keys `validation` and, if the policy names an archive, `gold`; those of two versions are of the same
    images and labels. It is empty if the model could not be evaluated, and `fault` says why. `corrupted` is the mean of
    the main metric over corrupted validation images, if the policy asks for it.
    """

    version: int
    task: str
    class_names: tuple[str, ...]
    scores: Mapping[str, Scores] = field(default_factory=dict)
    fault: str = ""
    corrupted: float | None = None


class ClassRow(NamedTuple):
    """One class on one set of images, by its main metric from 0 to 1.

    Of a new class the champion has None, of a class that only the champion knows both have.
    """

    data: str
    name: str
    challenger: float | None
    champion: float | None

    @property
    def difference(self) -> float | None:
        """How much better the challenger is; None unless both know the class."""
        return None if self.challenger is None or self.champion is None else self.challenger - self.champion


class MetricComparison(NamedTuple):
    """The main metric of both over the classes in `data` that both know; without a champion over all."""

    data: str
    classes: int
    challenger: float
    champion: float | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the version gets alias `challenger`, which deploy-model takes next, and why.

    The `reasons` of a refusal are all that speak against the version, else all limits that it reached. `metric` is that
    of `means` and `rows`; `champion` is the version that it was compared with, if any. `worse_on` are the data on which
    the version did not reach what the champion does. Of a refusal, `falls` say in words what fell most against the
    champion, and `falls_page` is the address of the page that shows it.
    """

    version: int
    promoted: bool
    reasons: tuple[str, ...]
    metric: str
    means: tuple[MetricComparison, ...] = ()
    rows: tuple[ClassRow, ...] = ()
    champion: int | None = None
    worse_on: tuple[str, ...] = ()
    falls: tuple[str, ...] = ()
    falls_page: str = ""

    @property
    def sentence(self) -> str:
        """The decision, its reasons and the first fall on one line."""
        outcome = "promoted, it gets alias challenger, which deploy-model takes next" if self.promoted else REFUSED
        return f"version {self.version}: {outcome}. {' '.join((*self.reasons, *self.falls[:1]))}"

    @property
    def links(self) -> dict[str, str]:
        """The page of what fell, by its text; empty if there is none."""
        return {"Why it was refused": self.falls_page} if self.falls_page else {}


class _Pair(NamedTuple):
    """Both models on one set of images. `known` maps each class of the challenger to the champion's name for it."""

    data: str
    challenger: Scores
    champion: Scores
    known: Mapping[str, str]

    @property
    def shared(self) -> list[ClassRow]:
        """The classes that both know and the images show, by the challenger's names."""
        own = self.challenger.by_class
        other = self.champion.by_class
        # A model without a value found nothing of the class.
        return [
            ClassRow(self.data, name, own.get(name, 0.0), other.get(theirs, 0.0))
            for name, theirs in self.known.items()
            if name in own or theirs in other
        ]

    @property
    def mean(self) -> MetricComparison | None:
        """The mean of both; None if no class can be compared."""
        rows = self.shared
        if not rows:
            return None
        own = fmean(row.challenger or 0.0 for row in rows)
        return MetricComparison(self.data, len(rows), own, fmean(row.champion or 0.0 for row in rows))


def is_comparable(challenger: EvaluatedVersion, champion: EvaluatedVersion) -> bool:
    """Return whether both have one task and at least one common class."""
    return challenger.task == champion.task and bool(_known(challenger, champion))


def decide(challenger: EvaluatedVersion, champion: EvaluatedVersion | None, policy: PromotionPolicy) -> Decision:
    """Compare the challenger with the limits of the policy and with the champion, if any; collects all reasons.

    A score that the policy needs and that is missing speaks against the version.
    """
    needed = [VALIDATION, *([GOLD] if policy.gold else [])]
    against = list(_missing_scores(challenger, needed))
    reached: list[str] = []
    worse_on: list[str] = []
    limit = FIRST_MIN_MAP50 if policy.min_map50 is None and champion is None else policy.min_map50
    if limit is not None and (scores := challenger.scores.get(VALIDATION)):
        passed, reason = _check_map50(scores, limit, challenger.version, from_policy=policy.min_map50 is not None)
        (reached if passed else against).append(reason)
    if champion is None:
        reached.append("There is no champion to compare it with.")
        means, rows = _alone(challenger)
    else:
        pairs = _pairs(challenger, champion, needed)
        against += _incompatibilities(challenger, champion, needed)
        for pair in pairs:
            faults, reason = _judge_pair(pair, champion.version, policy)
            against += faults
            worse_on += [pair.data] if faults and pair.mean else []
            reached.append(reason)
        if policy.max_corruption_drop is not None:
            passed, reason = _check_corrupted(challenger, champion, policy.max_corruption_drop)
            (reached if passed else against).append(reason)
        known = _known(challenger, champion)
        if new := [name for name in challenger.class_names if name not in known]:
            reached.append(f"New classes, not compared: {_listed(new)}.")
        means = [mean for pair in pairs if (mean := pair.mean)]
        rows = [row for pair in pairs for row in _rows(pair, challenger, champion)]
    return Decision(
        version=challenger.version,
        promoted=not against,
        reasons=tuple(against or reached),
        metric=PRIMARY_METRIC[challenger.task],
        means=tuple(means),
        rows=tuple(rows),
        champion=champion.version if champion else None,
        worse_on=tuple(worse_on),
    )


def decision_tags(decision: Decision) -> dict[str, str]:
    """Return the decision as tags of the version."""
    reason = " ".join(decision.reasons)
    reason = next((text for fall in decision.falls[:1] if len(text := f"{reason} {fall}") <= _MAX_TAG), reason)
    tags = {
        "promotion": "promoted" if decision.promoted else "refused",
        "promotion_reason": reason if len(reason) <= _MAX_TAG else f"{reason[: _MAX_TAG - 3]}...",
        "promotion_metric": decision.metric,
    }
    mean = next((each for each in decision.means if each.data == VALIDATION), None)
    if mean:
        tags["challenger_score"] = f"{mean.challenger:.4f}"
    if decision.champion is not None:
        tags["champion_version"] = str(decision.champion)
    if mean and mean.champion is not None:
        tags["champion_score"] = f"{mean.champion:.4f}"
    return tags


def decision_facts(decision: Decision) -> dict[str, Any]:
    """Return the whole decision as plain values for JSON."""
    return {
        "version": decision.version,
        "promoted": decision.promoted,
        "reasons": list(decision.reasons),
        "metric": decision.metric,
        "champion_version": decision.champion,
        "means": [mean._asdict() for mean in decision.means],
        "falls": list(decision.falls),
        "classes": [{**row._asdict(), "difference": row.difference} for row in decision.rows],
    }


def _known(challenger: EvaluatedVersion, champion: EvaluatedVersion) -> dict[str, str]:
    ids = match_class_ids(challenger.class_names, champion.class_names)
    pairs = zip(challenger.class_names, ids, strict=True)
    return {name: champion.class_names[number] for name, number in pairs if number is not None}


def _lost(challenger: EvaluatedVersion, champion: EvaluatedVersion) -> list[str]:
    kept = set(_known(challenger, champion).values())
    return [name for name in champion.class_names if name not in kept]


def _listed(classes: Sequence[str]) -> str:
    return _first([safe_repr(name, 60) for name in classes])


def _first(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _TOLD} more" if len(texts) > _TOLD else ""
    return f"{', '.join(texts[:_TOLD])}{more}"


def _missing_scores(version: EvaluatedVersion, needed: list[str]) -> Iterator[str]:
    fix = "Look into the log of the evaluation, and start the run again."
    found = f"none: {version.fault.rstrip('.')}" if version.fault else "none"
    for data in needed:
        if data not in version.scores:
            yield expected_found_fix(f"scores of version {version.version} on the {data} images", found, fix)


def _check_map50(scores: Scores, limit: float, version: int, *, from_policy: bool) -> tuple[bool, str]:
    """Whether the version reaches the limit, and the reason."""
    metric = MAP50_METRIC[scores.task]
    if scores.map50_or_accuracy >= limit - _TOLERANCE:
        name = f"promotion.min_map50 {limit:.3f}" if from_policy else f"the {limit:.3f} that a first version needs"
        return True, f"{metric} {scores.map50_or_accuracy:.3f} reaches {name}."
    fix = "Train longer, on more images, or lower promotion.min_map50."
    if not from_policy:
        fix = (
            "It finds next to nothing: look at its pictures and at the labels, train longer or on more images. Or take "
            f"it all the same: set promotion.min_map50, or start deploy-model with version {version}."
        )
    expected = f"{metric} of at least {limit:.3f}" + ("" if from_policy else " of a first version")
    return False, expected_found_fix(expected, f"{scores.map50_or_accuracy:.3f}", fix)


def _check_corrupted(challenger: EvaluatedVersion, champion: EvaluatedVersion, limit: float) -> tuple[bool, str]:
    """Whether the version is as robust as the champion, but for the limit, and the reason."""
    metric = f"mean {PRIMARY_METRIC[challenger.task]} over corrupted images"
    rival = f"the champion (version {champion.version})"
    if challenger.corrupted is None or champion.corrupted is None:
        missing = challenger if challenger.corrupted is None else champion
        fix = "Look into the log, and start the run again, or leave promotion.max_corruption_drop empty."
        return False, expected_found_fix(f"the {metric} of version {missing.version}", "none", fix)
    if challenger.corrupted >= champion.corrupted - limit - _TOLERANCE:
        return True, f"The {metric} is {challenger.corrupted:.3f}, {rival} has {champion.corrupted:.3f}."
    fix = "Train with more augmentation, or raise promotion.max_corruption_drop."
    found = f"{challenger.corrupted:.3f}, and {rival} has {champion.corrupted:.3f}"
    return False, expected_found_fix(f"a {metric} of at least {champion.corrupted - limit:.3f}", found, fix)


def _alone(challenger: EvaluatedVersion) -> tuple[list[MetricComparison], list[ClassRow]]:
    scores = challenger.scores.items()
    means = [MetricComparison(data, len(each.classes), each.primary, None) for data, each in scores]
    return means, [ClassRow(data, name, value, None) for data, each in scores for name, value in each.by_class.items()]


def _pairs(challenger: EvaluatedVersion, champion: EvaluatedVersion, needed: list[str]) -> list[_Pair]:
    if not is_comparable(challenger, champion):
        return []
    known = _known(challenger, champion)
    both = [data for data in needed if data in challenger.scores and data in champion.scores]
    return [_Pair(data, challenger.scores[data], champion.scores[data], known) for data in both]


def _incompatibilities(challenger: EvaluatedVersion, champion: EvaluatedVersion, needed: list[str]) -> Iterator[str]:
    """Yield what makes the two different kinds of model, and which scores of the champion are missing."""
    if challenger.task != champion.task:
        fix = "Train it under another model_name: clients of this one expect such answers as the champion's."
        yield expected_found_fix(
            f"the champion's task {champion.task} (version {champion.version})", challenger.task, fix
        )
    if not champion.class_names:
        fix = "Deploy a version that says its classes, and start the run again."
        yield expected_found_fix(f"the classes of the champion (version {champion.version})", "none", fix)
    if lost := _lost(challenger, champion):
        fix = "Add an archive that has them, or train under another model_name."
        found = f"{_listed(lost)} gone: they would no longer be found"
        yield expected_found_fix(f"every class of the champion (version {champion.version})", found, fix)
    if is_comparable(challenger, champion):
        yield from _missing_scores(champion, needed)


def _judge_pair(pair: _Pair, version: int, policy: PromotionPolicy) -> tuple[list[str], str]:
    """The reasons against the challenger on these images, and how the two compare."""
    mean = pair.mean
    if mean is None or mean.champion is None:
        fix = "Add labelled images of them to val."
        return [expected_found_fix(f"classes that both know in the {pair.data} images", "none to compare by", fix)], ""
    metric = PRIMARY_METRIC[pair.challenger.task]
    images = f"on {pair.data} ({mean.classes} shared classes)"
    rival = f"the champion (version {version}) has {mean.champion:.3f}"
    limit = mean.champion + policy.min_gain
    faults = _find_class_drops(pair, policy)
    if mean.challenger < limit - _TOLERANCE:
        fix = "Train longer or on more images, or lower promotion.min_gain."
        found = f"{mean.challenger:.3f}, and {rival}"
        faults.insert(0, expected_found_fix(f"{metric} of at least {limit:.3f} {images}", found, fix))
    less = f"; promotion.min_gain is {policy.min_gain:g}" if mean.challenger < mean.champion else ""
    return faults, f"{metric} {mean.challenger:.3f} {images}, {rival}{less}."


def _find_class_drops(pair: _Pair, policy: PromotionPolicy) -> list[str]:
    fallen = [row for row in pair.shared if -(row.difference or 0.0) > policy.max_class_drop + _TOLERANCE]
    worst = sorted(fallen, key=lambda row: row.difference or 0.0)
    if not worst:
        return []
    changes = [f"{safe_repr(row.name, 60)} from {row.champion:.3f} to {row.challenger:.3f}" for row in worst]
    expected = f"no class more than {policy.max_class_drop:.3f} below the champion on {pair.data}"
    found = f"{len(worst)} below: {_first(changes)}"
    return [expected_found_fix(expected, found, "Add images of these classes, or raise promotion.max_class_drop.")]


def _rows(pair: _Pair, challenger: EvaluatedVersion, champion: EvaluatedVersion) -> Iterator[ClassRow]:
    """Yield the classes that both know, then those that only one knows."""
    yield from pair.shared
    own = pair.challenger.by_class
    yield from (ClassRow(pair.data, name, own[name], None) for name in own if name not in pair.known)
    yield from (ClassRow(pair.data, name, None, None) for name in _lost(challenger, champion))
