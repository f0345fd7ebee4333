"""Distances of embeddings: what no chosen image resembles, and what resembles nothing that was learnt."""

import numpy as np

from tasks.vision.geometry import Bools, Doubles, Floats

_NEIGHBOURS = 3
_BLOCK = 2048  # rows: 40 MB beside 5,000 learnt images


class Coverage:
    """How far each of n embeddings [n, D] is from the nearest that is covered: the greedy k-centre."""

    def __init__(self, embeddings: Floats, covered: Floats) -> None:
        self._embeddings = embeddings
        self._covered = np.zeros(len(embeddings), np.bool_)
        self.distances = np.full(len(embeddings), np.inf)
        if len(covered):
            self.distances = measure_distances(embeddings, covered, 1)

    def cover(self, taken: Bools) -> None:
        """Count the images that are `taken` [n] as covered."""
        for number in np.flatnonzero(taken & ~self._covered):
            distances = (1 - self._embeddings @ self._embeddings[number]).clip(0)
            self.distances = np.minimum(self.distances, distances)
        self._covered |= taken


def measure_distances(embeddings: Floats, others: Floats, neighbours: int) -> Doubles:
    """Return the mean cosine distance of each of [n, D] to its nearest `neighbours` among [m, D], 0 to 2."""
    nearest = min(neighbours, len(others))
    blocks = [
        np.partition(1 - embeddings[start : start + _BLOCK] @ others.T, nearest - 1, axis=1)[:, :nearest]
        for start in range(0, len(embeddings), _BLOCK)
    ]
    return np.asarray(np.concatenate([block.mean(axis=1) for block in blocks]).clip(0), np.float64)


def measure_drift(embeddings: Floats, learnt: Floats) -> Doubles:
    """Return how far each of [n, D] is from [m, D] that were learnt, in the median distance of these from each other.

    Distances are those to the nearest three. Of fewer than two learnt images there is no measure: all are at 0.
    """
    if len(learnt) < 2:
        return np.zeros(len(embeddings))
    count = min(_NEIGHBOURS, len(learnt) - 1)
    # The nearest of an image among all learnt ones is itself, at 0.
    own = measure_distances(learnt, learnt, count + 1) * (count + 1) / count
    return np.asarray(measure_distances(embeddings, learnt, count) / max(float(np.median(own)), 1e-6))
