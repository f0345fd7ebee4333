"""The labels of a dataset in numbers: heat maps and histograms, ready to be drawn by the page."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.dataset.image_stats import ImageStats
from tasks.dataset.layout import Dataset
from tasks.validation.label_table import LabelTable
from tasks.validation.split_counts import label_sizes

CELLS = 36
LEVELS = 8
SHOWN_SIZES = 8
_SMALLEST = 1e-3  # the size heat map begins at 0.1 % of the image

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Labels on a grid of `CELLS` x `CELLS`, from the top left.

    `levels` are the cells by darkness as SVG path data, each with the fewest and the most labels of its cells. Ticks
    are places from 0 to 1 with their text, x from the left and y from the top. `peak` is a sentence about the map.
    """

    title: str
    advice: str
    axes: tuple[str, str]
    ticks: tuple[dict[float, str], dict[float, str]]
    levels: tuple[tuple[str, int, int], ...]
    peak: str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Bars as (label, count), in the order in which they are shown; `unit` says what the labels are."""

    title: str
    advice: str
    unit: str
    counted: str
    bars: tuple[tuple[str, int], ...]


def heat_maps(labels: LabelTable) -> list[HeatMap]:
    """Return the centres and the sizes of boxes; nothing for a table without rows."""
    return [_centres(labels.rows), _sizes(labels.rows)] if len(labels.rows) else []


def histograms(dataset: Dataset, labels: LabelTable, images: Mapping[str, ImageStats], imgsz: int) -> list[Histogram]:
    """Return label sizes at the training size, labels an image, and image sizes, as far as there are any."""
    charts = (
        [_pixels(dataset, labels.rows, images, imgsz), _per_image(dataset, labels.rows)] if len(labels.rows) else []
    )
    charts.append(_image_sizes(images, imgsz))
    return [chart for chart in charts if chart.bars]


def _centres(rows: pd.DataFrame) -> HeatMap:
    grid = _grid(rows["x"].to_numpy(), rows["y"].to_numpy())
    shares = {0.0: "0 %", 0.25: "25 %", 0.5: "50 %", 0.75: "75 %", 1.0: "100 %"}
    row, column = divmod(int(grid.argmax()), CELLS)
    middle = f"{_percent((column + 0.5) / CELLS)} of the width and {_percent((row + 0.5) / CELLS)} of the height"
    return HeatMap(
        title="Where the labels lie",
        advice="All in one spot, or a side left empty, means that a model may learn the place and not the object.",
        axes=("centre x, share of the image's width", "centre y, share of the image's height"),
        ticks=(shares, shares),
        levels=_levels(grid),
        peak=f"The fullest cell holds {grid.max():,} of {len(rows):,} labels, at {middle}.",
    )


def _sizes(rows: pd.DataFrame) -> HeatMap:
    width = rows["width"].to_numpy()
    height = rows["height"].to_numpy()
    grid = _grid(_decades(width), 1 - _decades(height))
    ticks = {place / 3: text for place, text in enumerate(("0.1 %", "1 %", "10 %", "100 %"))}
    middle = f"{_percent(np.median(width))} of the width and {_percent(np.median(height))} of the height"
    return HeatMap(
        title="How large the labels are",
        advice="Two clouds far apart ask for two scales; what lies at the lower left is hard to learn: raise imgsz or "
        "cut the images into tiles.",
        axes=("box width, share of the image (log scale)", "box height, share of the image (log scale)"),
        ticks=(ticks, {1 - place: text for place, text in ticks.items()}),
        levels=_levels(grid),
        peak=f"The median label takes {middle}.",
    )


def _pixels(dataset: Dataset, rows: pd.DataFrame, images: Mapping[str, ImageStats], imgsz: int) -> Histogram:
    sides = _sides(dataset, rows, images)
    with np.errstate(invalid="ignore", divide="ignore"):
        longer = (rows[["width", "height"]].to_numpy() * sides).max(axis=1) * imgsz / sides.max(axis=1)
    counts = _doublings(longer[np.isfinite(longer)])
    names = ["under 2", *(f"{2**power} to {2 ** (power + 1)}" for power in range(1, len(counts)))]
    return Histogram(
        title=f"Longer side of a label at {imgsz} px",
        advice="Below 8 px an object is smaller than a cell of the finest grid that YOLO looks at: raise imgsz, or cut "
        "the images into tiles.",
        unit="pixels",
        counted="labels",
        bars=_trimmed(names, counts),
    )


def _per_image(dataset: Dataset, rows: pd.DataFrame) -> Histogram:
    of_file = np.bincount(rows["label"].cat.codes, minlength=len(rows["label"].cat.categories))
    of_label = dict(zip(rows["label"].cat.categories, of_file.tolist(), strict=True))
    per_image = np.array([of_label.get(label, 0) if label else 0 for label in dataset.labels.values()], np.float64)
    counts = np.array([np.count_nonzero(per_image == 0), *_doublings(per_image[per_image > 0])])
    names = ["none", "1", *(f"{2**power} to {2 ** (power + 1) - 1}" for power in range(1, len(counts) - 1))]
    return Histogram(
        title="Labels an image",
        advice="Images without a label teach what background looks like: up to a tenth helps, more is rarely meant. "
        "Above 300 a model drops detections unless max_det is raised.",
        unit="labels",
        counted="images",
        bars=_trimmed(names, counts),
    )


def _image_sizes(images: Mapping[str, ImageStats], imgsz: int) -> Histogram:
    counted = Counter((traits.width, traits.height) for traits in images.values())
    bars = [(f"{width} x {height}", count) for (width, height), count in counted.most_common(SHOWN_SIZES)]
    if len(counted) > SHOWN_SIZES:
        bars.append((f"{len(counted) - SHOWN_SIZES:,} other sizes", len(images) - sum(count for _, count in bars)))
    return Histogram(
        title="Image sizes",
        advice=f"Training brings the longer side to {imgsz} px: far larger images lose small objects, far "
        "smaller ones are blown up.",
        unit="pixels",
        counted="images",
        bars=tuple(bars),
    )


def _sides(dataset: Dataset, rows: pd.DataFrame, images: Mapping[str, ImageStats]) -> Numbers:
    """Return the [n, 2] width and height in pixels of each row's image, NaN if they are not known."""
    known = label_sizes(dataset, images)
    names = rows["label"].cat.categories
    of_file = np.array([known.get(name, (np.nan, np.nan)) for name in names], np.float64).reshape(-1, 2)
    return np.asarray(of_file[rows["label"].cat.codes])


def _grid(x: Numbers, y: Numbers) -> Counts:
    """Count places (0 to 1, those beyond go to the edge) in `CELLS` rows of as many cells."""
    column, row = (np.clip(np.nan_to_num(place) * CELLS, 0, CELLS - 1).astype(np.int64) for place in (x, y))
    return np.bincount(row * CELLS + column, minlength=CELLS * CELLS).reshape(CELLS, CELLS)


def _decades(share: Numbers) -> Numbers:
    """Return the place from 0 to 1 on a logarithmic scale of three decades."""
    return np.asarray(1 + np.log10(np.clip(np.nan_to_num(share), _SMALLEST, 1)) / 3)


def _levels(grid: Counts) -> tuple[tuple[str, int, int], ...]:
    """Sort the cells that hold something into levels whose limits grow by a factor, as the counts themselves do."""
    limits = np.geomspace(1, grid.max() + 1, LEVELS + 1)[1:-1]
    level = np.searchsorted(limits, grid, side="right")
    chosen = [(level == number) & (grid > 0) for number in range(LEVELS)]
    return tuple(
        (
            "".join(f"M{x} {y}h1v1h-1z" for y, x in np.argwhere(cells).tolist()),
            int(grid[cells].min()) if cells.any() else 0,
            int(grid[cells].max(initial=0)),
        )
        for cells in chosen
    )


def _doublings(values: Numbers) -> Counts:
    """Count values by powers of two: below 2, 2 to 4, 4 to 8, ..."""
    return np.bincount(np.log2(np.clip(values, 1, 2**24)).astype(np.int64))


def _trimmed(names: list[str], counts: Counts) -> tuple[tuple[str, int], ...]:
    """Pair names with counts, from the first that is not 0."""
    first = int(np.argmax(counts > 0)) if counts.size else 0
    return tuple((name, int(count)) for name, count in zip(names, counts, strict=False))[first:]


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
