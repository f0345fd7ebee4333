"""Where the files of a merged dataset lie, so that Ultralytics finds images, labels and classes.

It takes the folder of a tree for the class id, and looks for labels in `labels` beside `images`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import yaml

from tasks.dataset.image_stats import is_image
from tasks.dataset.layout import class_folder
from tasks.merge.gold import Gold
from tasks.merge.inputs import Splits
from tasks.merge.label_union import ImageCopy
from tasks.merge.manifest import write_entries
from tasks.merge.plan import MergePlan
from tasks.merge.subset_selection import read_classes

GOLD_FOLDER = "gold"


class CopyJob(NamedTuple):
    """An image and its label, as entries and as files; a label that is None is not there.

    Where several archives have the picture, `copies` are all of it, and their labels are joined. `class_id` is what the
    folder of an image says, in a tree.
    """

    split: str
    image: str
    image_file: str
    label: str | None
    label_file: str
    class_ids: Sequence[int | None]
    class_id: int | None
    task: str | None = None
    copies: tuple[ImageCopy, ...] = ()


class _SourceOfCopies(NamedTuple):
    """What one archive brings; `mark` begins the names of its files, so that none collide."""

    mark: str
    splits: Splits
    names: Sequence[str]
    class_ids: Sequence[int | None]
    copies: Mapping[str, tuple[ImageCopy, ...]] = MappingProxyType({})


def plan_archive_copies(plan: MergePlan, number: int, folder: Path) -> Iterator[CopyJob]:
    """Yield what is to be written of one archive; its folders are made on the way."""
    copies = {each.written.image: each.copies for each in plan.united if each.written.archive == number}
    own = _SourceOfCopies(
        _mark(number), plan.splits[number], plan.names[number], plan.classes.class_ids[number], copies
    )
    return _jobs(own, plan.task, folder)


def plan_gold_copies(gold: Gold, task: str | None, folder: Path) -> Iterator[CopyJob]:
    """Yield what is to be written of the gold archive: a dataset of its own below `folder`, all of it in val."""
    own = _SourceOfCopies(GOLD_FOLDER, {"val": gold.samples}, gold.names, gold.class_ids)
    return _jobs(own, task, folder / GOLD_FOLDER)


def name_entries(plan: MergePlan, folder: Path) -> None:
    """Write down which entry each file will be, for `origin` (`tasks.merge.manifest`)."""
    brought = enumerate(zip(plan.archives, plan.splits, strict=True))
    write_entries(folder, {_mark(number): (name, _entries(splits)) for number, (name, splits) in brought})
    if plan.gold:
        gold = folder / GOLD_FOLDER
        gold.mkdir(exist_ok=True)
        write_entries(gold, {GOLD_FOLDER: (plan.gold.archive, _entries({"val": plan.gold.samples}))})


def _mark(number: int) -> str:
    return f"{number:02d}"


def _entries(splits: Splits) -> dict[str, list[str]]:
    return {split: [sample.image for sample in samples] for split, samples in splits.items()}


def _jobs(own: _SourceOfCopies, task: str | None, folder: Path) -> Iterator[CopyJob]:
    folder_ids = dict(zip(own.names, own.class_ids, strict=True))
    made: set[Path] = set()
    for split, samples in own.splits.items():
        for index, sample in enumerate(samples):
            class_id = folder_ids[class_folder(sample.image)] if task == "classify" else None
            images, labels = split_folders(folder, split, class_id)
            for place in {images, labels} - made:
                place.mkdir(parents=True, exist_ok=True)
                made.add(place)
            name, _, ending = sample.image.rpartition("/")[2].rpartition(".")
            stem = f"{own.mark}-{index:06d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:80]}"
            image_file, label_file = f"{images}/{stem}.{ending.lower()}", f"{labels}/{stem}.txt"
            copies = own.copies.get(sample.image, ())
            yield CopyJob(
                split, sample.image, image_file, sample.label, label_file, own.class_ids, class_id, task, copies
            )


def split_folders(folder: Path, split: str, class_id: int | None) -> tuple[Path, Path]:
    """Return the folders of images and of labels; with a class id (classification) both are that of the class."""
    if class_id is not None:
        return folder / split / str(class_id), folder / split / str(class_id)
    return folder / "images" / split, folder / "labels" / split


def list_images(data: Path, task: str, split: str) -> list[Path]:
    """Return the images of a split of a written dataset, in the order of names; of a tree, class by class."""
    if task == "classify":
        tree = data.resolve() / split
        return [path for kind in sorted(tree.iterdir()) for path in sorted(kind.iterdir()) if is_image(path.name)]
    return [path for path in sorted((data.resolve().parent / "images" / split).iterdir()) if is_image(path.name)]


def label_path(image: Path) -> Path:
    """Return where the label of an image is, if it has one: `images/val/a.jpg` -> `labels/val/a.txt`."""
    return image.parents[2] / "labels" / image.parent.name / f"{image.stem}.txt"


def read_class_names(image: Path, task: str) -> frozenset[int]:
    """Return the ids of the classes that an image of the dataset shows, as its folder or its label says."""
    if task == "classify":
        return frozenset({int(image.parent.name)})
    label = label_path(image)
    return read_classes(label.read_text(encoding="utf-8")) if label.exists() else frozenset()


def write_data_yaml(
    folder: Path, task: str | None, names: Sequence[str], splits: Mapping[str, str], more: Mapping[str, object]
) -> Path:
    """Write class names and splits for Ultralytics, and return what it takes as `data`; nothing says where they lie.

    `splits` maps what Ultralytics asks for to the split that it gets, `more` is added to data.yaml.
    """
    numbered = dict(enumerate(names))
    if task == "classify":
        # Where this file is, folders are numbers of classes; else it would number them itself, each split for itself.
        _write_yaml(folder / ".ndjson.yaml", {"names": numbered})
        for asked, split in splits.items():
            if asked != split:
                (folder / asked).symlink_to(split, target_is_directory=True)
        return folder
    places = {asked: f"images/{split}" for asked, split in splits.items()}
    _write_yaml(folder / "data.yaml", {**places, "names": numbered, **more})
    return folder / "data.yaml"


def keypoint_keys(plan: MergePlan) -> dict[str, object]:
    """Return what data.yaml says of keypoints; nothing where there are none."""
    said = {"kpt_shape": plan.keypoints, "flip_idx": plan.flip_idx}
    return {key: list(value) for key, value in said.items() if value}


def read_keypoint_keys(data: Path, task: str) -> dict[str, object]:
    """Return the same from what `write_data_yaml` wrote."""
    if task != "pose":
        return {}
    said = yaml.safe_load(data.read_text(encoding="utf-8"))
    return {key: said[key] for key in ("kpt_shape", "flip_idx") if key in said}


def _write_yaml(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")
