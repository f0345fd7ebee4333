"""The step that writes several archives as one dataset, streamed from the zips."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.archive import Archive
from tasks.core.dataset import Dataset, Sample
from tasks.core.errors import StudioError
from tasks.core.merge import MergePlan, plan_merge, remap_labels, unknown_renames
from tasks.core.parameters import MergePolicy
from tasks.core.validation.check import open_dataset, read_dataset


class MergeError(StudioError):
    """The archives cannot become one dataset."""


@dataclass(frozen=True)
class MergedDataset:
    """The dataset on disk: Ultralytics' `data.yaml`, its classes, and the images of each split."""

    data_yaml: Path
    class_names: tuple[str, ...]
    images: dict[str, int]


@task(cache_policy=NO_CACHE)
def merge_archives(archives: Sequence[Path], policy: MergePolicy, folder: Path) -> MergedDataset:
    """Write valid archives as one detection dataset into the fresh `folder`; images byte for byte.

    Names come from the archive's place in the list and a running number, so none collide. Raises MergeError for
    archives of different or other tasks, and for renamed classes that no archive has.
    """
    if len(set(archives)) < len(archives):
        raise MergeError("Expected different archives, found one of them twice. Name each once.")
    datasets = [read_dataset(path) for path in archives]
    plan = _plan(datasets, policy)
    folder.mkdir(parents=True)
    images: dict[str, int] = {}
    for number, path in enumerate(archives):
        with open_dataset(path) as (archive, dataset):
            for split, samples in dataset.splits.items():
                _write_split(archive, samples, plan.class_ids[number], folder, split, f"{number:02d}")
                images[split] = images.get(split, 0) + len(samples)
    description = {"path": str(folder), **{split: f"images/{split}" for split in images}}
    description["names"] = dict(enumerate(plan.class_names))  # type: ignore[assignment]
    data_yaml = folder / "data.yaml"
    data_yaml.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return MergedDataset(data_yaml, plan.class_names, images)


def _plan(datasets: Sequence[Dataset], policy: MergePolicy) -> MergePlan:
    tasks = {dataset.task for dataset in datasets}
    if not tasks <= {"detect", "segment", None}:
        raise MergeError(
            f"Expected archives with boxes or polygons, found {', '.join(sorted(map(str, tasks)))}. "
            f"Training takes detection datasets (polygons count as their boxes)."
        )
    names = [dataset.class_names for dataset in datasets]
    if unknown := unknown_renames(names, policy.classes):
        raise MergeError(
            f"Expected every name in merge.classes to be a class of an archive; found {unknown}, but the archives have "
            f"{sorted({name for dataset in names for name in dataset})}. Correct the spelling."
        )
    plan = plan_merge(names, policy.classes)
    if not plan.class_names:
        raise MergeError("Expected at least one class after merging, found none: merge.classes drops them all.")
    return plan


def _write_split(
    archive: Archive, samples: Sequence[Sample], class_ids: Sequence[int | None], folder: Path, split: str, prefix: str
) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate(samples):
        name = PurePosixPath(sample.image)
        stem = f"{prefix}-{index:06d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name.stem)[:80]}"
        (images / (stem + name.suffix.lower())).write_bytes(archive.read(sample.image))
        if sample.label is not None:
            text = archive.read(sample.label).decode("utf-8-sig")
            (labels / f"{stem}.txt").write_text(remap_labels(text, class_ids), encoding="utf-8")
