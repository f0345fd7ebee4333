"""Which images are chosen: some of each strategy, within a budget. The same pool gives the same choice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.parameters import SelectionParams
from tasks.selection.coverage import Coverage, measure_drift
from tasks.selection.pool import Pool, PoolImage, count_expected
from tasks.selection.uncertainty import UNSURE, score_uncertainty
from tasks.validation.near_duplicates import find_near_duplicates
from tasks.vision.detections import Detections, class_name
from tasks.vision.geometry import Bools, Doubles

NOTHING_CHOSEN = "Nothing chosen"  # the state of a run that has chosen no image
MIN_DISAGREEMENT = 0.05  # the same weights differ a little in another batch
MIN_DRIFT = 1.5  # times as far from what was learnt as that is from itself
_SHOWN = 4  # objects in a reason
_UNSEEN = 0.1  # of the mean: a class that was never seen counts as if it had been as often


class Proposal(NamedTuple):
    """The best image by a strategy: its number, its score if it has one, and why."""

    image: int
    score: float | None
    reason: str


# Takes which images are chosen already [n], and which may be chosen [n]. None: no image is left that it speaks for.
Strategy = Callable[[Bools, Bools], Proposal | None]


@dataclass(frozen=True, kw_only=True)
class ChosenImage:
    """The number of an image, by which strategy it was chosen, and that strategy's score and reason."""

    image: int
    strategy: str
    score: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is chosen, in this order.

    `duplicates` are the numbers of images that were left out, each with that of the one that it nearly equals;
    `remarks` are sentences about what could not be done as it was asked.
    """

    chosen: tuple[ChosenImage, ...]
    duplicates: Mapping[int, int]
    remarks: tuple[str, ...]


def choose(pool: Pool, selection: SelectionParams) -> Choice:
    """Choose images from a pool, of near duplicates one at most.

    What one strategy lacks, the next one gets, and what the last one lacks, those before it.
    Without a strategy that has something to go by, or an image within the budget, none is chosen.
    """
    duplicates = _find_duplicates(pool)
    shares, remarks = _possible_shares(pool, selection)
    taken, free = np.zeros(len(pool.images), np.bool_), np.ones(len(pool.images), np.bool_)
    free[list(duplicates)] = False
    boxes = np.array([each.expected_boxes for each in pool.images])
    room = np.inf if selection.boxes is None else float(selection.boxes)
    chosen: list[ChosenImage] = []
    due = 0
    for name, quota in (*_apportion(selection.images, shares).items(), *((name, selection.images) for name in shares)):
        due = min(due + quota, selection.images)
        propose = _STRATEGIES[name](pool, selection)
        while len(chosen) < due and (proposal := propose(taken, free & (boxes <= room))):
            taken[proposal.image], free[proposal.image] = True, False
            room -= boxes[proposal.image]
            chosen.append(ChosenImage(strategy=name, **proposal._asdict()))
    if free.any() and len(chosen) < selection.images:
        reason = "the others need more boxes" if room < boxes[free].min() else "no strategy speaks for the others"
        remarks.append(f"{len(chosen):,} of {selection.images:,} images are chosen: {reason}.")
    return Choice(chosen=tuple(chosen), duplicates=duplicates, remarks=tuple(remarks))


def _find_duplicates(pool: Pool) -> dict[int, int]:
    thumbnails = np.array([np.frombuffer(each.thumbnail, np.uint8) for each in pool.images]).reshape(-1, 256)
    count = len(thumbnails)
    return {each.later: each.first for each in find_near_duplicates(thumbnails, [0] * count, [True] * count)}


def _possible_shares(pool: Pool, selection: SelectionParams) -> tuple[dict[str, int], list[str]]:
    """The shares of the strategies that have something to go by, in their order, and a remark for each other one."""
    wanted = selection.wanted
    lacks = {name: lack for name, lack in _list_lacks(pool).items() if name in wanted}
    shares = {name: wanted[name] for name in _STRATEGIES if name in wanted and name not in lacks}
    remarks = [f"Strategy {name} chose nothing: there is {lack}." for name, lack in lacks.items()]
    return shares, remarks if wanted else ["No strategy has a share in selection.shares."]


def _list_lacks(pool: Pool) -> dict[str, str]:
    """What strategies need and this pool has not."""
    lacks = {}
    if len(pool.class_names) == 1:
        lacks["rare-classes"] = "one class"
    if any(each.version_consistency is None for each in pool.images):
        lacks["disagreement"] = "no challenger, and selection.other_version names no version"
    if pool.learnt is None:
        lacks["drift"] = "no image to be had that the version has learnt"
    return lacks


def _apportion(images: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Give each strategy its share of the images, whole ones, the largest remainders first."""
    total = sum(shares.values())
    quotas = {name: images * share // total for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: -(images * shares[name] % total))
    for name in by_remainder[: images - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _by_rare_classes(pool: Pool, _: SelectionParams) -> Strategy:
    """Expected classes count by how far below the mean they are in what is learnt and, as it grows, in the choice."""
    count = len(pool.class_names)
    presence = np.zeros((len(pool.images), count))
    for row, each in zip(presence, pool.images, strict=True):
        np.maximum.at(row, each.found.class_id, each.found.confidence)
    expected = np.array([count_expected([each.found], count) for each in pool.images])
    learnt = pool.learnt.class_counts if pool.learnt else expected.sum(axis=0)

    def propose(taken: Bools, free: Bools) -> Proposal | None:
        counts = learnt + expected[taken].sum(axis=0)
        usual = counts.mean()
        weights = np.maximum(usual / (counts + _UNSEEN * usual + 1e-9) - 1, 0)
        best = _best(presence @ weights, free)
        if best is None:
            return None
        rarest = int((presence[best] * weights).argmax())
        reason = (
            f"shows {pool.class_names[rarest]} ({presence[best, rarest]:.2f}), about {learnt[rarest]:,.0f} of "
            f"{learnt.sum():,.0f} objects in what {'was learnt' if pool.learnt else 'is to choose from'}"
        )
        return Proposal(best, float(presence[best] @ weights), reason)

    return propose


def _by_uncertainty(pool: Pool, _: SelectionParams) -> Strategy:
    doubts = np.array([each.doubt for each in pool.images])
    consistencies = np.array([1.0 if each.view_consistency is None else each.view_consistency for each in pool.images])
    return _ranked(
        score_uncertainty(doubts, consistencies), lambda image: _describe_doubt(pool.images[image], pool.class_names)
    )


def _by_disagreement(pool: Pool, _: SelectionParams) -> Strategy:
    consistencies = np.array([each.version_consistency or 0 for each in pool.images])
    return _ranked(
        1 - consistencies,
        lambda image: f"the two versions agree on {consistencies[image]:.2f} of what they find",
        MIN_DISAGREEMENT,
    )


def _by_drift(pool: Pool, _: SelectionParams) -> Strategy:
    drifts = measure_drift(pool.embeddings, pool.learnt.embeddings if pool.learnt else pool.embeddings[:0])
    return _ranked(
        drifts,
        lambda image: f"{drifts[image]:.1f} times as far from what was learnt as that is from itself",
        MIN_DRIFT,
    )


def _by_diversity(pool: Pool, _: SelectionParams) -> Strategy:
    embeddings = pool.embeddings
    coverage = Coverage(embeddings, pool.learnt.embeddings if pool.learnt else embeddings[:0])

    def propose(taken: Bools, free: Bools) -> Proposal | None:
        coverage.cover(taken)
        if np.isinf(coverage.distances).all():
            best = _best(embeddings @ embeddings.mean(axis=0) + 2, free)
            return None if best is None else Proposal(best, None, "most like all the others, to begin with")
        best = _best(coverage.distances, free)
        if best is None:
            return None
        distance = float(coverage.distances[best])
        return Proposal(best, distance, f"unlike what is learnt or chosen: {distance:.2g} from the nearest of it")

    return propose


def _by_chance(pool: Pool, selection: SelectionParams) -> Strategy:
    places = np.random.default_rng(selection.seed).permutation(len(pool.images)) + 1

    def propose(_: Bools, free: Bools) -> Proposal | None:
        best = _best(places, free)
        return None if best is None else Proposal(best, None, "drawn at random")

    return propose


def _ranked(scores: Doubles, explain: Callable[[int], str], least: float = 0) -> Strategy:
    def propose(_: Bools, free: Bools) -> Proposal | None:
        best = _best(scores, free, least)
        return None if best is None else Proposal(best, float(scores[best]), explain(best))

    return propose


def _best(scores: NDArray[np.floating | np.integer], free: Bools, least: float = 0) -> int | None:
    """The free image with the highest score above the least, the first of several; None without one."""
    usable = np.where(free & (scores > least), scores, -np.inf)
    best = int(usable.argmax())
    return best if np.isfinite(usable[best]) else None


def _describe_doubt(image: PoolImage, class_names: tuple[str, ...]) -> str:
    found = image.found
    unsure = found.select(np.flatnonzero((found.confidence >= UNSURE) & (found.confidence <= 1 - UNSURE)))
    told = f"{_list_objects(unsure, class_names)}{' ...' if len(unsure) > _SHOWN else ''}"
    if found.class_scores is not None:
        doubt = f"unsure what it shows: {_list_objects(found, class_names)}"
    elif len(unsure):
        doubt = f"unsure about {len(unsure)} of {len(found)} objects: {told}"
    else:
        doubt = f"found {len(found)} objects, unsure about none"
    if image.view_consistency is None:
        return doubt
    return f"{doubt}; seen mirrored and smaller, {image.view_consistency:.2f} of it stays"


def _list_objects(found: Detections, class_names: tuple[str, ...]) -> str:
    rows = zip(found.class_id[:_SHOWN].tolist(), found.confidence[:_SHOWN].tolist(), strict=True)
    return ", ".join(f"{class_name(class_names, class_id)} {confidence:.2f}" for class_id, confidence in rows)


# In this order: what goes by what is chosen already comes late, and diversity gets what the others left.
_STRATEGIES: Mapping[str, Callable[[Pool, SelectionParams], Strategy]] = {
    "rare-classes": _by_rare_classes,
    "uncertainty": _by_uncertainty,
    "disagreement": _by_disagreement,
    "drift": _by_drift,
    "diversity": _by_diversity,
    "random": _by_chance,
}
