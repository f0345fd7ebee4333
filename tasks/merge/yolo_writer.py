"""The files of a merged dataset as Ultralytics expects them.

It takes the folder of a tree for the class id, and looks for labels in `labels` beside `images`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import yaml

from tasks.dataset.layout import class_folder
from tasks.merge.file_names import archive_prefix, image_prefix
from tasks.merge.gold import Gold
from tasks.merge.inputs import Splits
from tasks.merge.label_union import ImageCopy
from tasks.merge.manifest import write_entries
from tasks.merge.plan import MergePlan
from tasks.merge.written_files import label_path

GOLD_FOLDER = "gold"
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"


class CopyJob(NamedTuple):
    """An image and its label, as entries and as files; a label that is None is not there.

    If several archives have the picture, `copies` are all of it, and their labels are joined. `class_id` is that of the
    image's folder, in a tree.
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


class _Source(NamedTuple):
    """The samples of one archive; `prefix` begins the names of its files, so that none collide."""

    prefix: str
    splits: Splits
    names: Sequence[str]
    class_ids: Sequence[int | None]
    copies: Mapping[str, tuple[ImageCopy, ...]] = MappingProxyType({})


def plan_archive_copies(plan: MergePlan, number: int, folder: Path) -> Iterator[CopyJob]:
    """Yield the files to write of one archive; its folders are made on the way."""
    copies = {each.written.image: each.copies for each in plan.united if each.written.archive == number}
    own = _Source(
        archive_prefix(number), plan.splits[number], plan.names[number], plan.classes.class_ids[number], copies
    )
    return _jobs(own, plan.task, folder)


def plan_gold_copies(gold: Gold, task: str | None, folder: Path) -> Iterator[CopyJob]:
    """Yield the files to write of the gold archive: a dataset of its own below `folder`, all of it in val."""
    own = _Source(archive_prefix(0), {"val": gold.samples}, gold.names, gold.class_ids)
    return _jobs(own, task, folder / GOLD_FOLDER)


def name_entries(plan: MergePlan, folder: Path) -> None:
    """Write down which entry each file will be, for `origin` (`tasks.merge.manifest`)."""
    brought = enumerate(zip(plan.archives, plan.splits, strict=True))
    write_entries(folder, {archive_prefix(number): (name, _entries(splits)) for number, (name, splits) in brought})
    if plan.gold:
        gold = folder / GOLD_FOLDER
        gold.mkdir(exist_ok=True)
        write_entries(gold, {archive_prefix(0): (plan.gold.archive, _entries({"val": plan.gold.samples}))})


def _entries(splits: Splits) -> dict[str, list[str]]:
    return {split: [sample.image for sample in samples] for split, samples in splits.items()}


def _jobs(own: _Source, task: str | None, folder: Path) -> Iterator[CopyJob]:
    folder_ids = dict(zip(own.names, own.class_ids, strict=True))
    made: set[Path] = set()
    for split, samples in own.splits.items():
        for index, sample in enumerate(samples):
            class_id = folder_ids[class_folder(sample.image)] if task == "classify" else None
            images, labels = split_folders(folder, split, class_id)
            for new in {images, labels} - made:
                new.mkdir(parents=True, exist_ok=True)
                made.add(new)
            name, _, ending = sample.image.rpartition("/")[2].rpartition(".")
            stem = f"{image_prefix(own.prefix, index)}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:80]}"
            yield CopyJob(
                split=split,
                image=sample.image,
                image_file=f"{images}/{stem}.{ending.lower()}",
                label=sample.label,
                label_file=f"{labels}/{stem}.txt",
                class_ids=own.class_ids,
                class_id=class_id,
                task=task,
                copies=own.copies.get(sample.image, ()),
            )


def split_folders(folder: Path, split: str, class_id: int | None) -> tuple[Path, Path]:
    """Return the folders of images and of labels; with a class id (classification) both are that of the class."""
    if class_id is not None:
        return folder / split / str(class_id), folder / split / str(class_id)
    return folder / "images" / split, folder / "labels" / split


def read_class_names(image: Path, task: str) -> frozenset[int]:
    """Return the ids of the classes that an image of the dataset shows, as its folder or its label says."""
    if task == "classify":
        return frozenset({int(image.parent.name)})
    label = label_path(image)
    lines = label.read_text(encoding="utf-8").split("\n") if label.exists() else []
    return frozenset(int(fields[0]) for line in lines if (fields := line.split()))


def write_data_yaml(
    folder: Path, task: str | None, names: Sequence[str], splits: Mapping[str, str], more: Mapping[str, object]
) -> Path:
    """Write class names and splits for Ultralytics, and return its `data`; all paths in it are relative.

    `splits` maps the splits of Ultralytics to those of the dataset, `more` is added to data.yaml.
    """
    numbered = dict(enumerate(names))
    if task == "classify":
        # With this file folders are ids of classes; without it Ultralytics numbers them, each split for itself.
        _write_yaml(folder / ".ndjson.yaml", {"names": numbered})
        for wanted, split in splits.items():
            if wanted != split:
                (folder / wanted).symlink_to(split, target_is_directory=True)
        return folder
    paths = {wanted: f"images/{split}" for wanted, split in splits.items()}
    _write_yaml(folder / "data.yaml", {**paths, "names": numbered, **more})
    return folder / "data.yaml"


def keypoint_keys(plan: MergePlan) -> dict[str, object]:
    """Return the keys of data.yaml about keypoints; nothing if there are none."""
    keys = {"kpt_shape": plan.keypoints, "flip_idx": plan.flip_idx}
    return {key: list(value) for key, value in keys.items() if value}


def read_keypoint_keys(data: Path, task: str) -> dict[str, object]:
    """Return the keys about keypoints that `write_data_yaml` wrote."""
    if task != "pose":
        return {}
    written = yaml.safe_load(data.read_text(encoding="utf-8"))
    return {key: written[key] for key in ("kpt_shape", "flip_idx") if key in written}


def with_end_mark(data: bytes) -> bytes:
    """Return an image file; a JPEG with anything behind its end mark gets one more as its last two bytes.

    Ultralytics takes a JPEG that ends otherwise for damaged: it compresses the pixels anew, or leaves the image out if
    Pillow cannot write its EXIF. Decoders stop at the first end mark, so every byte and every pixel stays.
    """
    return data + _JPEG_END if data.startswith(_JPEG) and not data.endswith(_JPEG_END) else data


def _write_yaml(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")
