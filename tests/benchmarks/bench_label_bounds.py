"""What the bounds of label-images are worth, and what they cost, on drawn shapes and on blood cells.

`python -m tests.benchmarks.bench_label_bounds FOLDER --cells a.zip b.zip`, after `bench_monitoring` with the same
arguments: its two models are in FOLDER, with what they found in the images of the two archives. The one for shapes
predicts 1500 images of `bench_promises`, each blurred by an amount of its own; of the cells there are 135 images. Of
these some are drawn at random, 200 times, and give thresholds, which are judged on the others: with the bound of the
lower thresholds, and without it, as the quantile of the labels.
"""

import argparse
import math
import multiprocessing
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from prefect.logging import disable_run_logger

from infra import demo_data
from tasks.evaluation.labelled_images import join_sets
from tasks.evaluation.matching import LEAST_CONFIDENCE
from tasks.evaluation.prediction_file import read_predictions
from tasks.evaluation.validation_matching import ValidationMatching, match_validation
from tasks.evaluation.version_evaluation import compare_images
from tasks.labelling.thresholds import LabelThreshold, compute_thresholds
from tests.benchmarks.bench_monitoring import CELLS, SHAPES, open_data
from tests.benchmarks.bench_promises import predict, to_validation
from tests.tasks.labelling.test_thresholds import count_misses, measure_right

SEED = 7
SPLITS = 200
PRECISIONS = (0.95, 0.8)
DRAWN_SHAPES = 1500


def open_cells(archives: Sequence[Path], predicted: Path, folder: Path) -> ValidationMatching:
    """Return what the model of the cells has found in the images of its validation and in held-out ones."""
    data = open_data(CELLS, archives, folder)
    parts = {"validated": data.validated, "held-out": data.held_out}
    found = {name: list(read_predictions(predicted / f"{name}-00.zip")) for name in parts}
    shown = [replace(images, images=images.images[: len(found[name])]) for name, images in parts.items()]
    joined = join_sets(shown, {})
    all_found = [each for own in found.values() for each in own]
    compared = compare_images("detect", data.class_names, joined, all_found)
    return match_validation("detect", data.class_names, joined, compared)


def without_bound(matching: ValidationMatching, precision: float, recall: float) -> list[LabelThreshold]:
    """Return the thresholds with the quantile of the labels as the lower one of each class."""
    thresholds: list[LabelThreshold] = []
    for number, each in enumerate(compute_thresholds(matching, precision, recall)):
        own = np.sort(matching.confidence[matching.labelled & (matching.class_id == number)])[::-1]
        quantile = float(own[math.ceil(recall * len(own) - 1e-9) - 1]) if len(own) else 0.0
        low = max(LEAST_CONFIDENCE, quantile)
        thresholds.append(replace(each, low=low if each.high is None else min(low, each.high)))
    return thresholds


def show(name: str, known: ValidationMatching, images: int, precision: float, recall: float = 0.95) -> None:
    """Print what the thresholds of so many images do on the others."""
    right = measure_right(known, images, SPLITS, np.random.default_rng(SEED), precision)
    broken, median = sum(share < precision for share in right), f"{np.median(right):.1%} right" if right else "none"
    print(f"{name}, {images} images, precision {precision}, recall {recall}:")
    print(f"  labels taken in {len(right)} of {SPLITS} splits, {median}; bound broken in {broken}")
    for title, compute in (("without", without_bound), ("with", compute_thresholds)):
        rng = np.random.default_rng(SEED)
        misses = count_misses(known, images, SPLITS, rng, precision, recall, compute=compute)
        taken, silent = misses.taken / misses.others, misses.silent / max(1, misses.taken)
        print(
            f"  {title} the bound of the lower thresholds, dropped in {misses.dropping}, too much in {misses.broken}:"
        )
        print(f"    {taken:.1%} of the images taken, {silent:.1%} of these with a silent miss", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=Path, nargs=2, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        with disable_run_logger():
            cells = open_cells(given.cells, given.folder / CELLS.name, Path(place) / "cells")
        for images, precision in product((40, 90), PRECISIONS):
            show("blood cells", cells, images, precision)
        weights, names = given.folder / SHAPES.name / "weights.pt", demo_data.CLASSES
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(predict, (weights, names, SHAPES.size, DRAWN_SHAPES, Path(place)))
    shapes = to_validation(found, names, DRAWN_SHAPES)
    for images, precision in product((15, 40, 150), PRECISIONS):
        show("drawn shapes", shapes, images, precision)
    for precision in PRECISIONS:
        show("drawn shapes", shapes, 40, precision, recall=0.9)


if __name__ == "__main__":
    main()
