"""Does Ultralytics take all that the check takes? Over mutated images and labels, each as the merge would write it.

`python -m tests.benchmarks.loader_agreement [COUNT] [SEED]` prints how many there were and where the two disagree.
"""

import argparse
import collections
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.core.findings import Finding, Severity
from tasks.core.images import inspect_image
from tasks.core.labels import LabelRules, as_loaded, parse_labels
from tasks.core.merge.files import describe, places
from tasks.core.merge.images import ended
from tasks.core.merge.labels import remap_labels
from tasks.core.validation.label_text import parse_chunk
from tests.benchmarks.loader_mutants import CLASSES, KEYPOINTS, TASKS, Mutant, mutant

os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # before Ultralytics is imported, which would install pi-heif
from ultralytics.utils.patches import imread

from tests.tasks.merges import built

Row = tuple[float, ...]


class Outcome(NamedTuple):
    """How many mutants there were, how many of them the check takes, and what Ultralytics makes of those."""

    mutants: int
    valid: int
    disagreements: list[str]


def compare(indices: Sequence[int], seed: int, folder: Path) -> Outcome:
    """Write all that the check takes into a dataset for each task and load it."""
    valid, told = 0, []
    for task in TASKS:
        names: dict[str, tuple[int, Mutant, list[Row]]] = {}
        root = folder / task
        for index in indices:
            one = mutant(seed, index)
            if one.task != task:
                continue
            rows = check(one)
            if rows is not None:
                names[_write(root, one, index)] = index, one, rows
        valid += len(names)
        told += [f"{task} {line}" for line in _loaded(root, task, names)] if names else []
    return Outcome(len(indices), valid, told)


def check(one: Mutant) -> list[Row] | None:
    """Return the rows that the check sees, class first, in single precision and each once; None where it refuses."""
    traits, faults = inspect_image(one.image, f"x{one.ending}")
    if traits is None or _errors(faults):
        return None
    rules = LabelRules(CLASSES, one.task, KEYPOINTS if one.task == "pose" else None)
    if one.label is None:
        return [(0.0,)] if one.task == "classify" else []
    labels, faults = parse_labels(one.label, "x.txt", rules)
    fast = parse_chunk([("x.txt", one.label)], rules)
    assert sorted(map(str, fast.findings[0])) == sorted(map(str, faults)), "the two parsers disagree"
    if _errors(faults):
        return None
    rows = [(float(row.class_id), *as_loaded(row.coordinates).tolist()) for row in labels.rows]
    return list(dict.fromkeys(rows))


def _errors(faults: Sequence[Finding]) -> bool:
    return any(fault.severity is Severity.ERROR for fault in faults)


def _write(root: Path, one: Mutant, index: int) -> str:
    images, labels = places(root, "train", 0 if one.task == "classify" else None)
    for place in (images, labels):
        place.mkdir(parents=True, exist_ok=True)
    image = images / f"00-{index:06d}-x{one.ending.lower()}"
    image.write_bytes(ended(one.image))
    if one.label is not None:
        text = remap_labels(one.label.decode("utf-8-sig"), range(CLASSES))
        (labels / f"{image.stem}.txt").write_text(text, encoding="utf-8")
    return image.name


def _loaded(root: Path, task: str, names: dict[str, tuple[int, Mutant, list[Row]]]) -> Iterator[str]:
    more = {"kpt_shape": list(KEYPOINTS)} if task == "pose" else {}
    data = describe(root, task, [f"c{number}" for number in range(CLASSES)], {"train": "train", "val": "train"}, more)
    found = dict(
        _classified(built(data, task, "train")) if task == "classify" else _labelled(built(data, task, "train"))
    )
    for name, (index, one, rows) in names.items():
        path = places(root, "train", 0 if task == "classify" else None)[0] / name
        if name not in found:
            yield f"{index}: {name} is not taken"
        elif found[name][1] != collections.Counter(rows):
            yield f"{index}: {name} has other rows: {found[name][1]} instead of {rows}"
        elif path.read_bytes() != ended(one.image):
            yield f"{index}: {name} was written anew"
        else:
            yield from (f"{index}: {name} {fault}" for fault in _faults(path, found[name][0]))


def _faults(path: Path, shape: tuple[int, int] | None) -> Iterator[str]:
    """The pixels as a training reads them."""
    pixels: Any = imread(str(path))
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        yield f"gives {None if pixels is None else (pixels.dtype, pixels.shape)}"
    elif shape is not None and pixels.shape[:2] != tuple(shape):
        yield f"is read as {pixels.shape}, after a scan that saw {shape}"


def _classified(dataset: Any) -> Iterator[tuple[str, tuple[None, collections.Counter[Row]]]]:
    for sample in dataset.samples:
        yield Path(sample[0]).name, (None, collections.Counter([(float(sample[1]),)]))


def _labelled(dataset: Any) -> Iterator[tuple[str, tuple[tuple[int, int], collections.Counter[Row]]]]:
    outlines = dataset.use_segments or dataset.use_obb
    for label in dataset.labels:
        rows = []
        for at, class_id in enumerate(label["cls"][:, 0].tolist()):
            numbers = label["segments"][at].ravel() if outlines else label["bboxes"][at]
            points = label["keypoints"][at].ravel() if dataset.use_keypoints else np.zeros(0, np.float32)
            rows.append((class_id, *(np.concatenate([numbers, points]) + np.float32(0)).tolist()))
        yield Path(label["im_file"]).name, (label["shape"], collections.Counter(rows))


def portions(count: int, size: int = 1000) -> Iterator[range]:
    """Yield the numbers below `count`, some at a time."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def main(say: Callable[[str], None] = print) -> None:
    """Compare, and print what was seen."""
    parser = argparse.ArgumentParser(description="Does Ultralytics take all that the check takes?")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    options = parser.parse_args()
    valid, told = 0, list[str]()
    for portion in portions(options.count):
        with tempfile.TemporaryDirectory() as folder:
            outcome = compare(portion, options.seed, Path(folder))
        valid, told = valid + outcome.valid, told + outcome.disagreements
    for line in told:
        say(line)
    say(f"{options.count} mutants, {valid} of them taken by the check, {len(told)} not taken whole by Ultralytics")


if __name__ == "__main__":
    main()
