"""Does Ultralytics take all that the check takes? Over mutated images and labels, each as the merge would write it.

`python -m tests.benchmarks.loader_agreement [COUNT] [SEED]` goes on until the check has taken so many, and prints how
many there were and where the two disagree. Every 50th of them goes the whole way, too: zip, check, merge, loader.
"""

import argparse
import collections
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.dataset.findings import Finding, Severity
from tasks.dataset.image_stats import check_image
from tasks.dataset.labels import LabelSpec, parse_labels, round_like_loader
from tasks.merge.remap import remap_labels
from tasks.merge.yolo_writer import split_folders, with_end_mark, write_data_yaml
from tasks.validation.fast_label_parser import parse_chunk
from tests.benchmarks.loader_mutants import CLASSES, KEYPOINTS, TASKS, Mutant, mutant

os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # before Ultralytics is imported, which would install pi-heif
from ultralytics.data.utils import verify_image
from ultralytics.utils.patches import imread

from tests.tasks.merge.archives import Entries, built, merge, picture, row

Row = tuple[float, ...]
# The sides of a picture as the loader saw them (of a tree it does not look), and its rows.
Loaded = tuple[tuple[int, int] | None, collections.Counter[Row]]
Classified = Callable[[Path], Iterator[tuple[Path, Loaded]]]


WHOLE_WAY = 50  # one in so many
PORTION = 1000


class Taken(NamedTuple):
    """A mutant that the check takes, and the rows that it sees: class first, in single precision, each once."""

    number: int
    mutant: Mutant
    rows: list[Row]


class Outcome(NamedTuple):
    """How many mutants there were, those that the check takes, and which of these Ultralytics takes otherwise."""

    mutants: int
    taken: list[Taken]
    disagreements: list[str]


def compare(indices: Sequence[int], seed: int, folder: Path, classified: Classified | None = None) -> Outcome:
    """Write all that the check takes into a dataset for each task and load it.

    `classified` loads a tree; by itself as Ultralytics does, which imports torchvision.
    """
    found = [
        Taken(index, one, rows)
        for index, one in ((index, mutant(seed, index)) for index in indices)
        if (rows := check(one)) is not None
    ]
    told: list[str] = []
    for task in TASKS:
        names = {_write(folder / task, each): each for each in found if each.mutant.task == task}
        lines = _loaded(folder / task, task, names, classified or _built_tree) if names else ()
        told += [f"{task} {line}" for line in lines]
    return Outcome(len(indices), found, told)


def outcomes(count: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """Compare portions until the check has taken `count` mutants; every `WHOLE_WAY`th of them goes through a zip."""
    taken, start = 0, 0
    while taken < count:
        outcome = compare(range(start, start + PORTION), seed, folder / str(start))
        whole = outcome.taken[-taken % WHOLE_WAY :: WHOLE_WAY]
        told = [line for each in whole for line in through_a_zip(each, folder / f"{each.number}-zip")]
        yield outcome._replace(disagreements=outcome.disagreements + told)
        taken, start = taken + len(outcome.taken), start + PORTION
        shutil.rmtree(folder / str(start - PORTION))


def check(one: Mutant) -> list[Row] | None:
    """Return the rows that the check sees, class first, in single precision and each once; None where it refuses."""
    traits, faults = check_image(one.image, f"x{one.ending}")
    if traits is None or _errors(faults):
        return None
    rules = LabelSpec(class_count=CLASSES, task=one.task, keypoints=KEYPOINTS if one.task == "pose" else None)
    if one.label is None:
        return [(0.0,)] if one.task == "classify" else []
    labels, faults = parse_labels(one.label, "x.txt", rules)
    fast = parse_chunk([("x.txt", one.label)], rules)
    assert sorted(map(str, fast.findings[0])) == sorted(map(str, faults)), "the two parsers disagree"
    if _errors(faults):
        return None
    rows = [(float(row.class_id), *round_like_loader(row.coordinates).tolist()) for row in labels.rows]
    return list(dict.fromkeys(rows))


def _errors(faults: Sequence[Finding]) -> bool:
    return any(fault.severity is Severity.ERROR for fault in faults)


def _write(root: Path, each: Taken) -> str:
    index, one, _ = each
    images, labels = split_folders(root, "train", 0 if one.task == "classify" else None)
    for place in (images, labels):
        place.mkdir(parents=True, exist_ok=True)
    image = images / f"00-{index:06d}-x{one.ending.lower()}"
    image.write_bytes(with_end_mark(one.image))
    if one.label is not None:
        text = remap_labels(one.label.decode("utf-8-sig"), range(CLASSES))
        (labels / f"{image.stem}.txt").write_text(text, encoding="utf-8")
    return image.name


def _loaded(root: Path, task: str, names: dict[str, Taken], classified: Classified) -> Iterator[str]:
    more = {"kpt_shape": list(KEYPOINTS)} if task == "pose" else {}
    data = write_data_yaml(
        root, task, [f"c{number}" for number in range(CLASSES)], {"train": "train", "val": "train"}, more
    )
    found = dict(classified(data) if task == "classify" else _labelled(built(data, task, "train")))
    for name, each in names.items():
        path = split_folders(root, "train", 0 if task == "classify" else None)[0] / name
        yield from (f"{each.number}: {name} {fault}" for fault in _differences(path, each, found.get(path)))


def _differences(path: Path, each: Taken, loaded: Loaded | None) -> Iterator[str]:
    if loaded is None:
        yield "is not taken"
    elif loaded[1] != collections.Counter(each.rows):
        yield f"has other rows: {loaded[1]} instead of {each.rows}"
    elif path.read_bytes() != with_end_mark(each.mutant.image):
        yield "was written anew"
    else:
        yield from _faults(path, loaded[0])


def through_a_zip(each: Taken, folder: Path) -> Iterator[str]:
    """The whole way of one mutant beside sound pictures: a zip, its check, the merge, the loader."""
    task, image = each.mutant.task, with_end_mark(each.mutant.image)
    folder.mkdir(parents=True)
    try:
        _, merged = merge(folder, _archive(each.mutant))
        found = dict(_built_tree(merged.data) if task == "classify" else _labelled(built(merged.data, task, "train")))
        copies = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == image]
        faults = _differences(copies[0], each, found.get(copies[0])) if len(copies) == 1 else [f"is there {copies}"]
        yield from (f"{task} {each.number} in a zip: {fault}" for fault in faults)
    except AssertionError as error:
        yield f"{task} {each.number} in a zip: {error}"
    finally:
        shutil.rmtree(folder)


def _archive(one: Mutant) -> Entries:
    """The mutant in train, and six pictures that no mutant is made of."""
    if one.task == "classify":
        sound: Entries = {f"{'train' if at < 3 else 'val'}/c{at % 3}/{at}.jpg": picture(at) for at in range(6)}
        return {**sound, f"train/c0/mutant{one.ending}": one.image}
    kinds = {"pose": f"kpt_shape: {list(KEYPOINTS)}\nflip_idx: [1, 0]\n"}.get(one.task, "")
    names = ", ".join(f"c{number}" for number in range(CLASSES))
    header = f"train: images/train\nval: images/val\ntask: {one.task}\nnames: [{names}]\n{kinds}"
    entries: Entries = {"data.yaml": header, f"images/train/mutant{one.ending}": one.image}
    for at in range(6):
        name = f"{'train' if at < 3 else 'val'}/{at}"
        entries |= {f"images/{name}.jpg": picture(at), f"labels/{name}.txt": row(at % CLASSES, at, one.task)}
    return entries if one.label is None else {**entries, "labels/train/mutant.txt": one.label}


def _faults(path: Path, shape: tuple[int, int] | None) -> Iterator[str]:
    """The pixels as a training reads them."""
    pixels: Any = imread(str(path))
    if pixels is None or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        yield f"gives {None if pixels is None else (pixels.dtype, pixels.shape)}"
    elif shape is not None and pixels.shape[:2] != tuple(shape):
        yield f"is read as {pixels.shape}, after a scan that saw {shape}"


def _built_tree(data: Path) -> Iterator[tuple[Path, Loaded]]:
    for sample in built(data, "classify", "train").samples:
        yield Path(sample[0]), (None, collections.Counter([(float(sample[1]),)]))


def scanned_tree(data: Path) -> Iterator[tuple[Path, Loaded]]:
    """Each image of the one class of a tree, by what Ultralytics' dataset asks about it alone."""
    for path in sorted(data.glob("train/*/*")):
        if verify_image(((str(path), 0), ""))[1]:
            yield path, (None, collections.Counter([(0.0,)]))


def _labelled(dataset: Any) -> Iterator[tuple[Path, Loaded]]:
    outlines = dataset.use_segments or dataset.use_obb
    for label in dataset.labels:
        rows = []
        for at, class_id in enumerate(label["cls"][:, 0].tolist()):
            numbers = label["segments"][at].ravel() if outlines else label["bboxes"][at]
            points = label["keypoints"][at].ravel() if dataset.use_keypoints else np.zeros(0, np.float32)
            rows.append((class_id, *(np.concatenate([numbers, points]) + np.float32(0)).tolist()))
        yield Path(label["im_file"]), (label["shape"], collections.Counter(rows))


def main(say: Callable[[str], None] = print) -> None:
    """Compare, and print what was seen."""
    parser = argparse.ArgumentParser(description="Does Ultralytics take all that the check takes?")
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = list(outcomes(options.count, options.seed, Path(folder)))
    for outcome in seen:
        for line in outcome.disagreements:
            say(line)
    say(told(seen))


def told(seen: Sequence[Outcome]) -> str:
    """What was seen, in a sentence."""
    mutants, taken = sum(each.mutants for each in seen), sum(len(each.taken) for each in seen)
    faults = sum(len(each.disagreements) for each in seen)
    whole = -(-taken // WHOLE_WAY)
    return (
        f"{mutants:,} mutants, {taken:,} of them taken by the check, {whole} of these through a zip and the merge; "
        f"{faults} not taken whole by Ultralytics"
    )


if __name__ == "__main__":
    main()
