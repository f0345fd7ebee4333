"""Small graphs of figures over the last day, as lines of SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from infra.metrics.dashboards import MICROSECONDS, Panel
from infra.metrics.prometheus_history import Line
from tasks.rendering.sizes import format_bytes

WIDTH, HEIGHT = 320, 72  # of a graph, in its own units
_LEAST = 0.005  # that is told from 0
MOST_LINES = 6  # that people tell apart
_COLOURS = {"completed": "good", "valid": "good", "failed": "bad", "crashed": "bad", "invalid": "bad"}
_MICROSECONDS = ((1e6, 1e6, "s"), (1e3, 1e3, "ms"), (0, 1, MICROSECONDS))
_SECONDS = ((2 * 86_400, 86_400, "days"), (2 * 3600, 3600, "h"), (120, 60, "min"), (0, 1, "s"))


@dataclass(frozen=True, kw_only=True)
class DrawnLine:
    """A line: its name, its newest value in words, the points of an SVG `polyline`, and a class of its colour."""

    name: str
    now: str
    points: str
    colour: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The lines of a panel between 0 and `top`, in words; `left_out` of them are not shown."""

    title: str
    top: str
    lines: Sequence[DrawnLine]
    left_out: int

    @classmethod
    def of(cls, panel: Panel, lines: Sequence[Line], began: float, seconds: float) -> Self:
        """Return the graph of lines from `began`, in seconds since 1970, on.

        The highest lines are shown, and none that is 0 all the time.
        """
        peaks = {line.name: max(value for _, value in line.points) for line in lines}
        lines = [line for line in lines if peaks[line.name] > 0]
        shown = sorted(lines, key=lambda line: (-peaks[line.name], line.name))[:MOST_LINES]
        top = panel.maximum or max(peaks.values(), default=0) or 1
        return cls(
            title=panel.title,
            top=format_value(top, panel.unit),
            lines=[
                DrawnLine(
                    name=line.name,
                    now=format_value(line.points[-1][1], panel.unit),
                    points=_points(line.points, began, seconds, top),
                    colour=_COLOURS.get(line.name, f"line-{number}"),
                )
                for number, line in enumerate(shown)
            ],
            left_out=len(lines) - len(shown),
        )


def _points(points: Iterable[tuple[float, float]], began: float, seconds: float, top: float) -> str:
    places = (
        (WIDTH * (moment - began) / seconds, HEIGHT * (1 - min(1.0, max(0.0, value / top)))) for moment, value in points
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def format_value(value: float, unit: str) -> str:
    """Return a value with a unit of Grafana, for people."""
    if unit == "bytes":
        return format_bytes(int(value))
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit in {"s", MICROSECONDS}:
        steps = _SECONDS if unit == "s" else _MICROSECONDS
        one, name = next((one, name) for least, one, name in steps if value >= least or not least)
        return f"{_round(value / one)} {name}"
    return f"{_round(value)}/s" if unit == "reqps" else _round(value)


def _round(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value >= _LEAST else "0"
