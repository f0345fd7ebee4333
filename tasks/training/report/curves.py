"""The learning curves of a training, as SVG paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan

from tasks.training.events import EpochResult

WIDTH = 420  # of a chart, in its own units
HEIGHT = 190


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric over the epochs: `path` as SVG path data, its last value, and its value at the best epoch."""

    name: str
    path: str
    last: float
    at_best: float | None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines that share an axis from `low` to `high`; `best` is the x of the best epoch."""

    title: str
    lines: tuple[Line, ...]
    low: float
    high: float
    first: int
    last: int
    best: float | None


def charts(epochs: Sequence[EpochResult], best_epoch: int) -> list[Chart]:
    """Return charts of quality, then of each loss of both splits; of an epoch reported twice the last report counts."""
    rows = {epoch.number: epoch.metrics for epoch in sorted(epochs, key=lambda each: each.number)}
    names = list(dict.fromkeys(name for metrics in rows.values() for name in metrics))
    quality = [name for name in names if "mAP" in name or "accuracy" in name]
    precision = [name for name in names if "precision" in name or "recall" in name]
    losses = list(dict.fromkeys(name.partition("/")[2] for name in names if name.startswith(("train/", "val/"))))
    groups = {"Quality on validation": quality, "Precision and recall": precision}
    groups |= {loss: [name for name in (f"train/{loss}", f"val/{loss}") if name in names] for loss in losses}
    drawn = (_chart(title, group, rows, best_epoch) for title, group in groups.items())
    return [chart for chart in drawn if chart]


def _chart(title: str, names: Sequence[str], rows: Mapping[int, Mapping[str, float]], best_epoch: int) -> Chart | None:
    finite = {name: {n: row[name] for n, row in rows.items() if isfinite(row.get(name, nan))} for name in names}
    values = {name: points for name, points in finite.items() if points}
    if not values:
        return None
    numbers = [value for points in values.values() for value in points.values()]
    shares = title in {"Quality on validation", "Precision and recall"}
    low, high = (0.0, 1.0) if shares else (min(0.0, *numbers), max(numbers))
    high = high if high > low else low + 1.0
    first = min(rows)
    last = max(rows)

    def x(number: int) -> float:
        return WIDTH * (number - first) / max(last - first, 1)

    def y(value: float) -> float:
        return HEIGHT * (1 - (min(max(value, low), high) - low) / (high - low))

    lines = [
        Line(
            name=name.partition("/")[2] if shares else name.partition("/")[0],
            path="M" + "L".join(f"{x(number):.1f} {y(value):.1f}" for number, value in points.items()),
            last=list(points.values())[-1],
            at_best=points.get(best_epoch),
        )
        for name, points in values.items()
    ]
    return Chart(
        title=title,
        lines=tuple(lines),
        low=low,
        high=high,
        first=first,
        last=last,
        best=x(best_epoch) if best_epoch in rows else None,
    )
