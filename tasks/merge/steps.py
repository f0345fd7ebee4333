"""Steps that make one dataset of several archives: the plan, then the files, streamed from the zips."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from prefect import get_run_logger

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.findings import Report
from tasks.dataset.image_stats import ImageStats
from tasks.errors import StudioError, safe_repr
from tasks.merge.inputs import MergeInput
from tasks.merge.jpeg_end import with_end_mark
from tasks.merge.label_union import ImageCopy, joined_labels
from tasks.merge.manifest import ImageCounts, count_rows, write_manifest
from tasks.merge.pack_sample import pack_sample
from tasks.merge.plan import MergePlan, blocking_conflicts, plan_merge
from tasks.merge.remap import remap_labels
from tasks.merge.subsets import make_smoke_test_subset, relabel_val_split
from tasks.merge.yolo_writer import (
    GOLD_FOLDER,
    CopyJob,
    keypoint_keys,
    name_entries,
    plan_archive_copies,
    plan_gold_copies,
    write_data_yaml,
)
from tasks.orchestration.step import step
from tasks.parameters import MergePolicy
from tasks.validation.dataset_check import open_dataset
from tasks.validation.image_stats_io import unpack_image_stats

WRITERS = 4
SHOWN_CONFLICTS = 5
LOGGED_CONFLICTS = 50
SAMPLE = "validation-sample.zip"
SAMPLE_IMAGES = 64
_COPY_BATCH_BYTES = 100
UniteLabels = Callable[[Sequence[ImageCopy]], str]


class MergeError(StudioError):
    """The archives cannot become one dataset."""


@dataclass(frozen=True)
class ValidArchive:
    """An archive on this disk that was found valid: its name, file, task, what its check saw, and its SHA-256."""

    name: str
    path: Path
    task: str | None
    images: Mapping[str, ImageStats]
    digest: str = ""


@dataclass(frozen=True)
class MergedDataset:
    """The dataset on disk: what Ultralytics takes as `data` (data.yaml, or a folder for classify), and its classes.

    `images` counts those of each split, `gold` included; `gold` is what Ultralytics takes to measure on these, as val.
    """

    data: Path
    task: str
    class_names: tuple[str, ...]
    images: dict[str, int]
    gold: Path | None = None


def valid_archive(name: str, path: Path, report: Report, traits: bytes) -> ValidArchive:
    """Return an archive as its check left it; `traits` is what `pack_traits` gave."""
    return ValidArchive(name, path, report.statistics.task, unpack_image_stats(traits), report.digest)


@step
def plan_archives(archives: Sequence[ValidArchive], policy: MergePolicy, gold: ValidArchive | None = None) -> MergePlan:
    """Decide how the archives become one dataset; nothing is written.

    `gold` is never trained on. Raises MergeError for an archive named twice, also as gold.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise MergeError(f"Expected different archives, found one of them twice in {names}. Name each once.")
    if gold and gold.name in names:
        raise MergeError(
            f"Expected a gold archive that is not trained on, found {gold.name!r} among the archives. "
            f"Take it out of archives, or name another one in promotion.gold."
        )
    with ExitStack() as opened:
        sources = [_source(archive, opened) for archive in archives]
        return plan_merge(sources, policy, _source(gold, opened) if gold else None)


def _source(archive: ValidArchive, opened: ExitStack) -> MergeInput:
    entries, dataset = opened.enter_context(open_dataset(archive.path, task=archive.task))
    checksums = entries.checksums(archive.images)
    return MergeInput(archive.name, dataset, archive.images, checksums, entries.read, archive.digest)


def require_mergeable(plan: MergePlan, policy: MergePolicy) -> None:
    """Raise MergeError for conflicts that stop the merge; log the others."""
    if found := blocking_conflicts(plan, policy):
        advice = "" if found[0].fatal else " Settle it, or set merge.on_conflict to warn."
        more = f" And {len(found) - SHOWN_CONFLICTS} more." if len(found) > SHOWN_CONFLICTS else ""
        raise MergeError(" ".join(conflict.message for conflict in found[:SHOWN_CONFLICTS]) + more + advice)
    log = get_run_logger()
    for conflict in plan.conflicts[:LOGGED_CONFLICTS]:
        log.warning("%s: %s", conflict.code, conflict.message)
    if (left := len(plan.conflicts) - LOGGED_CONFLICTS) > 0:
        log.warning("and %d more conflicts", left)
    if plan.left_out:
        why = "another split or the gold archive has them, too; artifact merge-plan names each"
        log.warning("left out %d images: %s", len(plan.left_out), why)


@step
def write_merge(
    archives: Sequence[ValidArchive], plan: MergePlan, folder: Path, gold: ValidArchive | None = None
) -> MergedDataset:
    """Write what the plan says into the fresh `folder`; images byte for byte, but see `with_end_mark`.

    `archives` and `gold` are the plan's.
    Names come from the archive's place in the list and a running number, so none collide. The folder must be new:
    Ultralytics keeps label caches by path and size. Raises MergeError where it exists, where an archive is no longer
    what was checked, and where the disk takes no more.
    """
    _make(folder)
    name_entries(plan, folder)
    written: defaultdict[str, ImageCounts] = defaultdict(ImageCounts)
    with ExitStack() as opened:
        entries = [opened.enter_context(_open_archives(archive)) for archive in archives]

        def read(copy: ImageCopy) -> bytes:
            with _conflict_error(archives[copy.archive].name):
                return entries[copy.archive].read(copy.label) if copy.label else b""

        def join(copies: Sequence[ImageCopy]) -> str:
            return joined_labels(copies, read, plan.classes.class_ids, plan.task).text

        for number, archive in enumerate(archives):
            _stream(archive.name, entries[number], plan_archive_copies(plan, number, folder), written, join)
    names, keypoints = plan.classes.class_names, keypoint_keys(plan)
    data = write_data_yaml(folder, plan.task, names, {split: split for split in plan.images}, keypoints)
    write_manifest(data, written)
    images, gold_data = plan.images, None
    if gold and plan.gold:
        measured: defaultdict[str, ImageCounts] = defaultdict(ImageCounts)
        with _open_archives(gold) as entries_of_gold:
            _stream(gold.name, entries_of_gold, plan_gold_copies(plan.gold, plan.task, folder), measured)
        gold_data = write_data_yaml(folder / GOLD_FOLDER, plan.task, names, {"train": "val", "val": "val"}, keypoints)
        write_manifest(gold_data, {"train": measured["val"], "val": measured["val"]})
        images |= {"gold": len(plan.gold.samples)}
    return MergedDataset(data, plan.task or "detect", names, images, gold_data)


@step
def write_relabelled_split(
    data: Path, task: str, own_names: Sequence[str], other_names: Sequence[str], folder: Path
) -> Path:
    """Link split `val` of `data` into the fresh `folder` for a model with other classes, and return its `data`.

    `data` is what `write_merge` gave, also as `gold`, and `own_names` its classes; classes are the same by the rules of
    merging. Labels have the ids of `other_names`; those of classes that the other model lacks are dropped, in a tree
    with their images. The original must stay where it is. Raises MergeError where the folder exists, and where no image
    shows a class that both have.
    """
    _make(folder)
    with _explained(f"Writing the images in {folder} stopped"):
        view = relabel_val_split(data, task, own_names, other_names, folder)
    if view is None:
        raise MergeError(
            f"Expected images of a class that both models have, found none: one has {safe_repr(list(own_names), 200)}, "
            f"the other {safe_repr(list(other_names), 200)}. These two cannot be compared."
        )
    return view


@step
def write_smoke_test_subset(dataset: MergedDataset, folder: Path, images: int = 8) -> Path:
    """Link `images` images of train and half as many of val into the fresh `folder`, and return its `data`.

    The same ones each time, labelled and of as many classes as possible. The dataset must stay where it is. Raises
    MergeError where the folder exists, and where the disk takes no more.
    """
    _make(folder)
    with _explained(f"Writing the rehearsal in {folder} stopped"):
        return make_smoke_test_subset(dataset.data, dataset.task, dataset.class_names, folder, images)


@step
def write_sample(dataset: MergedDataset, folder: Path) -> Path:
    """Write `validation-sample.zip` into the existing `folder`, and return it: what a deployment is compared on.

    It holds at most `SAMPLE_IMAGES` images of val, byte for byte, with their labels: those first that show classes not
    shown yet. The same data gives the same bytes. Raises MergeError where the disk takes no more.
    """
    path = folder / SAMPLE
    with _explained(f"Writing {path} stopped"):
        pack_sample(dataset.data, dataset.task, dataset.class_names, path, SAMPLE_IMAGES)
    return path


def _make(folder: Path) -> None:
    """Ultralytics keeps label caches by path and size, so a folder is used once."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as exc:
        raise MergeError(f"Expected a folder that does not exist, found {folder}. Name another one.") from exc


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (ArchiveError, OSError) as exc:
        raise MergeError(f"{what}: {exc}") from exc


def _conflict_error(name: str) -> AbstractContextManager[None]:
    return _explained(f"Writing the merge stopped at archive {name!r}")


@contextmanager
def _open_archives(archive: ValidArchive) -> Iterator[Archive]:
    with open_dataset(archive.path, task=archive.task) as (entries, _):
        yield entries


def _stream(
    name: str,
    archive: Archive,
    jobs: Iterator[CopyJob],
    written: defaultdict[str, ImageCounts],
    join: UniteLabels = lambda _: "",
) -> None:
    """Write images and labels from the archive `name`, byte for byte but for class ids; count them by split.

    `join` gives the labels of a picture that several archives have.
    """
    with _conflict_error(name), ThreadPoolExecutor(WRITERS) as pool:
        for portion in pool.map(partial(_write, archive, join), _portions(jobs)):
            for split, tally in portion.items():
                written[split].add(tally.images, tally.rows)


def _portions(jobs: Iterator[CopyJob]) -> Iterator[list[CopyJob]]:
    while portion := list(islice(jobs, _COPY_BATCH_BYTES)):
        yield portion


def _write(archive: Archive, join: UniteLabels, portion: Sequence[CopyJob]) -> dict[str, ImageCounts]:
    written: defaultdict[str, ImageCounts] = defaultdict(ImageCounts)
    for job in portion:
        _write_file(job.image_file, with_end_mark(archive.read(job.image)))
        rows = Counter[int]() if job.class_id is None else Counter([job.class_id])
        text = _labels(archive, job, join)
        if text is not None:
            _write_file(job.label_file, text.encode())
            rows = count_rows(text)
        written[job.split].add(1, rows)
    return written


def _labels(archive: Archive, job: CopyJob, join: UniteLabels) -> str | None:
    """The label file of an image; None where it has none."""
    if any(copy.label for copy in job.copies):
        return join(job.copies)
    if job.label is None:
        return None
    return remap_labels(archive.read(job.label).decode("utf-8-sig"), job.class_ids, job.task)


def _write_file(path: str, data: bytes) -> None:
    with Path(path).open("xb") as file:
        file.write(data)
