"""Archives of pictures that can be told apart, and what Ultralytics sees of their merge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data.dataset import ClassificationDataset, YOLODataset
from ultralytics.data.utils import check_cls_dataset, check_det_dataset
from ultralytics.utils import IterableSimpleNamespace

from tasks.dataset.findings import Verdict
from tasks.merge.plan import MergePlan
from tasks.merge.steps import MergedDataset, ValidArchive, plan_archives, valid_archive, write_merge
from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tasks.validation.image_stats_io import pack_image_stats
from tests.benchmarks.archives import convert, draw, encode
from tests.tasks.dataset.archives import Content, zipped

Entries = dict[str, Content]
TASKS = {"detect": "", "segment": "", "pose": "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n", "obb": "task: obb\n"}


def picture(seed: int, quality: int = 95) -> bytes:
    return encode(draw(seed, 96, 72)[0], ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


def row(class_id: int, seed: int, task: str = "detect") -> str:
    """A box that only this seed has."""
    return convert(task, f"{class_id} {0.3 + seed / 1000:.6f} 0.5 0.25 0.25")


def dataset(
    first: int, names: str = "cat, dog", task: str = "detect", changes: Mapping[str, Content] | None = None
) -> Entries:
    """Four pictures in train and two in val, the seeds from `first` on: even ones show class 0, odd ones class 1."""
    entries: Entries = {"data.yaml": f"train: images/train\nval: images/val\nnames: [{names}]\n{TASKS[task]}"}
    for at in range(6):
        name = f"{'train' if at < 4 else 'val'}/{at}"
        entries |= {f"images/{name}.jpg": picture(first + at), f"labels/{name}.txt": row(at % 2, first + at, task)}
    return {**entries, **(changes or {})}


def tree(first: int, names: tuple[str, str] = ("cat", "dog"), changes: Mapping[str, Content] | None = None) -> Entries:
    images: Entries = {
        f"{'train' if at < 4 else 'val'}/{names[at % 2]}/{at}.jpg": picture(first + at) for at in range(6)
    }
    return {**images, **(changes or {})}


def checked(folder: Path, *contents: Mapping[str, Content]) -> list[ValidArchive]:
    """Write the archives and check them, as a training does."""
    archives = []
    for entries, letter in zip(contents, "abc", strict=False):
        path = folder / f"{letter}.zip"
        path.write_bytes(zipped(entries))
        seen = inspect_dataset(path, path.name, "0" * 64, ValidationPolicy.model_validate({}))
        assert seen.report.verdict is not Verdict.INVALID, seen.report.findings
        archives.append(valid_archive(path.name, path, seen.report, pack_image_stats(seen.images)))
    return archives


def merge(
    folder: Path, *contents: Entries, gold: Entries | None = None, **policy: object
) -> tuple[MergePlan, MergedDataset]:
    archives = checked(folder, *contents, *([gold] if gold else []))
    measured = archives.pop() if gold else None
    plan = plan_archives.fn(archives, MergePolicy.model_validate(policy), measured)
    return plan, write_merge.fn(archives, plan, folder / "merged", measured)


def read_whole(data: Path, task: str, split: str) -> dict[bytes, list[tuple[int, int, list[float]]]]:
    """Image -> its objects as Ultralytics reads them: class, seed, and all numbers that the task has."""
    described: Any = check_det_dataset(str(data))
    found = {}
    for label in YOLODataset(img_path=described[split], data=described, task=task).labels:
        objects = []
        for at, (class_id, box) in enumerate(zip(label["cls"][:, 0], label["bboxes"], strict=True)):
            numbers = {"segment": "segments", "obb": "segments", "pose": "keypoints"}.get(task)
            more = np.asarray(label[numbers][at]).ravel().tolist() if numbers else []
            objects.append((int(class_id), seed_of(box), [*box.tolist(), *more]))
        found[Path(label["im_file"]).read_bytes()] = objects
    return found


def seed_of(box: Any) -> int:
    return round((float(box[0]) - 0.3) * 1000)


def labels_seen(described: dict[str, Any], task: str) -> dict[int, int]:
    """Seed -> class, as the training would see them."""
    found = {}
    for split in ("train", "val"):
        for label in YOLODataset(img_path=described[split], data=described, task=task).labels:
            found[seed_of(label["bboxes"][0])] = int(label["cls"][0][0])
    return found


def built(data: Path, task: str, split: str) -> Any:
    """The dataset that Ultralytics builds for a split."""
    if task == "classify":
        options = dict.fromkeys(("cache", "single_cls", "fliplr", "flipud", "erasing", "hsv_h", "hsv_s", "hsv_v"), 0.0)
        settings = IterableSimpleNamespace(**options, fraction=1.0, scale=0.5, imgsz=32, auto_augment=None)
        described: Any = check_cls_dataset(str(data))
        return ClassificationDataset(str(described[split]), settings, names=described["names"])
    described = check_det_dataset(str(data))
    return YOLODataset(img_path=described[split], data=described, task=task)


def classes_seen(described: dict[str, Any]) -> dict[bytes, int]:
    """Image -> class, as the training would see them."""
    options = dict.fromkeys(("cache", "single_cls", "fliplr", "flipud", "erasing", "hsv_h", "hsv_s", "hsv_v"), 0.0)
    settings = IterableSimpleNamespace(**options, fraction=1.0, scale=0.5, imgsz=32, auto_augment=None)
    found = {}
    for split in ("train", "val"):
        for sample in ClassificationDataset(str(described[split]), settings, names=described["names"]).samples:
            found[Path(sample[0]).read_bytes()] = sample[1]
    return found
