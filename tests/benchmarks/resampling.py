"""Between what a figure lies that was measured in few rounds, by a bootstrap with a seed.

`ratio_interval` resamples the rounds of one run. `drift_interval` is of two runs, and keeps what it promises with five
rounds and at a level of one in a thousand, too: there the quantiles of a plain bootstrap end at the rounds themselves.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
RESAMPLES = 20_000
LEAST_ROUNDS = 3
_SEED = 0

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure, and between what it lies; the ends are None where there are too few rounds to say."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Two digits behind the point, as tables have them."""
        ends = "" if self.low is None or self.high is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f}{ends}"


def ratio_interval(rounds: Sequence[float]) -> Interval:
    """Return the median of the rounds, and its 95 % interval from `LEAST_ROUNDS` rounds on."""
    count, middle = len(rounds), float(np.median(rounds))
    if count < LEAST_ROUNDS:
        return Interval(middle, None, None)
    rest = np.log(np.asarray(rounds, np.float64) / middle) * np.sqrt(count / (count - 1))  # few lie closer than many
    medians = np.median(rest[_draws(count)[:2000]], axis=1)
    low, high = middle * np.exp(np.quantile(medians, [LEVEL / 2, 1 - LEVEL / 2]))
    return Interval(middle, float(low), float(high))


def drift_interval(before: Sequence[float], after: Sequence[float], level: float) -> Interval:
    """Return how many times those before those after are, by geometric means, and its interval at `level`.

    It is a studentized bootstrap of logarithms: the rounds of both, less their means, are drawn as both, and what a
    difference is of its own standard error then says how wide the interval is. Needs `LEAST_ROUNDS` of both, all above
    0.
    """
    logs = [np.log(np.asarray(rounds, np.float64)) for rounds in (before, after)]
    rest = np.concatenate([(each - each.mean()) * np.sqrt(len(each) / (len(each) - 1)) for each in logs])
    drawn = rest[_draws(len(rest))]
    first, second = drawn[:, : len(before)], drawn[:, len(before) :]
    errors = _standard_error(first, second)
    distances = np.abs(second.mean(axis=1) - first.mean(axis=1))
    still = errors <= 1e-12 * np.abs(rest).max()  # one round drawn each time: of any width
    widths = np.full(RESAMPLES, np.inf)
    np.divide(distances, errors, out=widths, where=~still)
    drift, error = float(logs[1].mean() - logs[0].mean()), float(_standard_error(*logs))
    half = float(np.quantile(widths, 1 - level, method="higher")) * error if error else 0.0
    return Interval(float(np.exp(drift)), float(np.exp(drift - half)), float(np.exp(drift + half)))


def slope_interval(at: Sequence[float], values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return the slope of the least-squares line through the points, and its interval by resampling residuals.

    Neighbours are resampled together, in blocks: memory that was taken stays for a while.
    """
    x, y = np.asarray(at, np.float64), np.asarray(values, np.float64)
    slope, start = np.polyfit(x, y, 1)
    rest, rng = (y - start - slope * x) * np.sqrt(len(x) / (len(x) - 2)), np.random.default_rng(_SEED)
    length = max(1, round(len(x) ** (1 / 3)))
    firsts = rng.integers(0, len(x), (2000, -(-len(x) // length), 1))
    drawn = rest[((firsts + np.arange(length)) % len(x)).reshape(2000, -1)[:, : len(x)]]
    centred = x - x.mean()
    slopes = slope + drawn @ centred / (centred @ centred)
    low, high = np.quantile(slopes, [level / 2, 1 - level / 2])
    return Interval(float(slope), float(low), float(high))


@lru_cache(4)
def _draws(count: int) -> NDArray[np.int64]:
    """Which of so many are drawn in each resample."""
    return np.random.default_rng(_SEED).integers(0, count, (RESAMPLES, count))


def _standard_error(first: Floats, second: Floats) -> Floats:
    """Of the difference of two means, along the last axis."""
    n, m = first.shape[-1], second.shape[-1]
    pooled = (first.var(axis=-1) * n + second.var(axis=-1) * m) / (n + m - 2)
    error: Floats = np.sqrt(pooled * (1 / n + 1 / m))
    return error
