"""Steps that make one dataset of several archives: the plan, then the files, streamed from the zips."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core.archive import Archive, ArchiveError
from tasks.core.dataset import class_folder
from tasks.core.errors import StudioError
from tasks.core.findings import Report
from tasks.core.images import ImageTraits
from tasks.core.merge.labels import remap_labels
from tasks.core.merge.plan import MergePlan, Source, plan_merge, stopping
from tasks.core.parameters import MergePolicy
from tasks.core.validation.check import open_dataset
from tasks.core.validation.traits import unpack_traits

TRAINED = {"detect", None}
WRITERS = 4
SHOWN_CONFLICTS = 5
LOGGED_CONFLICTS = 50
_PORTION = 100


class MergeError(StudioError):
    """The archives cannot become one dataset."""


@dataclass(frozen=True)
class ValidArchive:
    """An archive on this disk that was found valid: its name, its file, its task and what its check saw."""

    name: str
    path: Path
    task: str | None
    images: Mapping[str, ImageTraits]


@dataclass(frozen=True)
class MergedDataset:
    """The dataset on disk: what Ultralytics takes as `data` (data.yaml, or a folder for classify), and its classes."""

    data: Path
    task: str
    class_names: tuple[str, ...]
    images: dict[str, int]


def valid_archive(name: str, path: Path, report: Report, traits: bytes) -> ValidArchive:
    """Return an archive as its check left it; `traits` is what `pack_traits` gave."""
    return ValidArchive(name, path, report.statistics.task, unpack_traits(traits))


@task(cache_policy=NO_CACHE)
def plan_archives(archives: Sequence[ValidArchive], policy: MergePolicy) -> MergePlan:
    """Decide how the archives become one dataset; nothing is written. Raises MergeError for an archive named twice."""
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise MergeError(f"Expected different archives, found one of them twice in {names}. Name each once.")
    with ExitStack() as opened:
        sources = []
        for archive in archives:
            entries, dataset = opened.enter_context(open_dataset(archive.path, task=archive.task))
            checksums = entries.checksums(archive.images)
            sources.append(Source(archive.name, dataset, archive.images, checksums, entries.read))
        return plan_merge(sources, policy)


def require_mergeable(plan: MergePlan, policy: MergePolicy) -> None:
    """Raise MergeError for conflicts that stop the merge, and for tasks that are not trained; log other conflicts."""
    if found := stopping(plan, policy):
        advice = "" if found[0].fatal else " Settle it, or set merge.on_conflict to warn."
        more = f" And {len(found) - SHOWN_CONFLICTS} more." if len(found) > SHOWN_CONFLICTS else ""
        raise MergeError(" ".join(conflict.message for conflict in found[:SHOWN_CONFLICTS]) + more + advice)
    if plan.task not in TRAINED:
        advice = "Set merge.boxes_from_polygons to train on the boxes around the polygons."
        raise MergeError(
            f"Expected archives with boxes, because detection is what is trained; found the task {plan.task}. "
            + (advice if plan.task == "segment" else "Train it with Ultralytics itself.")
        )
    log = get_run_logger()
    for conflict in plan.conflicts[:LOGGED_CONFLICTS]:
        log.warning("%s: %s", conflict.code, conflict.message)
    if (left := len(plan.conflicts) - LOGGED_CONFLICTS) > 0:
        log.warning("and %d more conflicts", left)


@task(cache_policy=NO_CACHE)
def write_merge(archives: Sequence[ValidArchive], plan: MergePlan, folder: Path) -> MergedDataset:
    """Write what the plan says into the fresh `folder`; images byte for byte.

    Names come from the archive's place in the list and a running number, so none collide. The folder must be new:
    Ultralytics keeps label caches by path and size. Raises MergeError where it exists, where an archive is no longer
    what was checked, and where the disk takes no more.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as exc:
        raise MergeError(f"Expected a folder that does not exist, found {folder}. Name another one.") from exc
    for number, archive in enumerate(archives):
        try:
            with open_dataset(archive.path, task=archive.task) as (entries, _), ThreadPoolExecutor(WRITERS) as pool:
                list(pool.map(partial(_write, entries), _portions(_jobs(plan, number, folder))))
        except (ArchiveError, OSError) as exc:
            raise MergeError(f"Writing the merge stopped at archive {archive.name!r}: {exc}") from exc
    return MergedDataset(_describe(plan, folder), str(plan.task), plan.classes.class_names, plan.images)


class _Job(NamedTuple):
    """An image and its label, as entries and as files; a label that is None is not there."""

    image: str
    image_file: str
    label: str | None
    label_file: str
    class_ids: Sequence[int | None]


def _jobs(plan: MergePlan, number: int, folder: Path) -> Iterator[_Job]:
    """Yield what is to be written for one archive; its folders are made on the way."""
    class_ids = plan.classes.class_ids[number]
    folder_ids = dict(zip(plan.names[number], class_ids, strict=True))
    made: set[str] = set()
    for split, samples in plan.splits[number].items():
        for index, sample in enumerate(samples):
            # Ultralytics takes a folder's name for the class id, and looks for labels in `labels` beside `images`.
            tree = f"{folder}/{split}/{folder_ids[class_folder(sample.image)]}" if plan.task == "classify" else None
            images, labels = tree or f"{folder}/images/{split}", f"{folder}/labels/{split}"
            for place in {images, tree or labels} - made:
                Path(place).mkdir(parents=True, exist_ok=True)
                made.add(place)
            name, _, ending = sample.image.rpartition("/")[2].rpartition(".")
            stem = f"{number:02d}-{index:06d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:80]}"
            yield _Job(
                sample.image, f"{images}/{stem}.{ending.lower()}", sample.label, f"{labels}/{stem}.txt", class_ids
            )


def _portions(jobs: Iterator[_Job]) -> Iterator[list[_Job]]:
    while portion := list(islice(jobs, _PORTION)):
        yield portion


def _write(archive: Archive, portion: Sequence[_Job]) -> None:
    for job in portion:
        _write_file(job.image_file, archive.read(job.image))
        if job.label is not None:
            text = remap_labels(archive.read(job.label).decode("utf-8-sig"), job.class_ids)
            _write_file(job.label_file, text.encode())


def _write_file(path: str, data: bytes) -> None:
    with Path(path).open("xb") as file:
        file.write(data)


def _describe(plan: MergePlan, folder: Path) -> Path:
    """Write class names and splits for Ultralytics, and return what it takes as `data`; nothing says where they lie."""
    names = dict(enumerate(plan.classes.class_names))
    if plan.task == "classify":
        # Where this file is, folders are numbers of classes; else it would number them itself, each split for itself.
        _write_yaml(folder / ".ndjson.yaml", {"names": names})
        return folder
    description: dict[str, object] = {split: f"images/{split}" for split in plan.images}
    description["names"] = names
    if plan.keypoints:
        description["kpt_shape"] = list(plan.keypoints)
    _write_yaml(folder / "data.yaml", description)
    return folder / "data.yaml"


def _write_yaml(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")
