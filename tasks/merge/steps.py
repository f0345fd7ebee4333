"""Steps that make one dataset of several archives: the plan, then the files, streamed from the zips."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from prefect import get_run_logger

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.findings import Report
from tasks.dataset.image_stats import ImageStats
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.merge.inputs import MergeInput
from tasks.merge.label_union import ImageCopy, joined_labels
from tasks.merge.manifest import ImageCounts, count_rows, write_manifest
from tasks.merge.pack_sample import pack_sample
from tasks.merge.plan import MergePlan, blocking_conflicts, plan_merge
from tasks.merge.pseudo_labelled_file import write_pseudo_labelled
from tasks.merge.remap import remap_labels
from tasks.merge.subsets import make_smoke_test_subset, relabel_val_split
from tasks.merge.vocabularies import write_vocabularies
from tasks.merge.yolo_writer import (
    GOLD_FOLDER,
    CopyJob,
    keypoint_keys,
    name_entries,
    plan_archive_copies,
    plan_gold_copies,
    with_end_mark,
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
_COPY_BATCH = 100
_STOPPED = "Writing the merge stopped at archive {!r}"
UniteLabels = Callable[[Sequence[ImageCopy]], str]


class MergeError(StudioError):
    """The archives cannot become one dataset."""


@dataclass(frozen=True, kw_only=True)
class ValidArchive:
    """An archive on this disk that was found valid: its name, file, task, image statistics, and SHA-256."""

    name: str
    path: Path
    task: str | None
    images: Mapping[str, ImageStats]
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class MergedDataset:
    """The dataset on disk: `data` for Ultralytics (data.yaml, or a folder for classify), and its classes.

    `images` counts those of each split, `gold` included; `gold` is the `data` with the gold images as val.
    """

    data: Path
    task: str
    class_names: tuple[str, ...]
    images: dict[str, int]
    gold: Path | None = None


def valid_archive(name: str, path: Path, report: Report, traits: bytes) -> ValidArchive:
    """Return an archive with the outcome of its check; `traits` are packed by `pack_image_stats`."""
    images = unpack_image_stats(traits)
    return ValidArchive(name=name, path=path, task=report.statistics.task, images=images, digest=report.digest)


@step
def plan_archives(archives: Sequence[ValidArchive], policy: MergePolicy, gold: ValidArchive | None = None) -> MergePlan:
    """Decide how the archives become one dataset; nothing is written, and `gold` is never trained on.

    Raises:
        MergeError: An archive is there twice, also as gold.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise MergeError(expected_found_fix("different archives", f"one of them twice in {names}", "Name each once."))
    if gold and gold.name in names:
        found = f"{gold.name!r} among the archives"
        fix = "Take it out of archives, or name another one in promotion.gold."
        raise MergeError(expected_found_fix("a gold archive that is not trained on", found, fix))
    with ExitStack() as opened:
        sources = [_source(archive, opened) for archive in archives]
        return plan_merge(sources, policy, _source(gold, opened) if gold else None)


def _source(archive: ValidArchive, opened: ExitStack) -> MergeInput:
    entries, dataset = opened.enter_context(open_dataset(archive.path, task=archive.task))
    return MergeInput(
        archive=archive.name,
        dataset=dataset,
        images=archive.images,
        entries=entries.checksums(archive.images),
        read=entries.read,
        digest=archive.digest,
    )


def require_mergeable(plan: MergePlan, policy: MergePolicy) -> None:
    """Log the conflicts that do not stop the merge.

    Raises:
        MergeError: There are others.
    """
    if blocking := blocking_conflicts(plan, policy):
        advice = "" if blocking[0].fatal else " Settle it, or set merge.on_conflict to warn."
        more = f" And {len(blocking) - SHOWN_CONFLICTS} more." if len(blocking) > SHOWN_CONFLICTS else ""
        raise MergeError(" ".join(conflict.message for conflict in blocking[:SHOWN_CONFLICTS]) + more + advice)
    log = get_run_logger()
    for conflict in plan.conflicts[:LOGGED_CONFLICTS]:
        log.warning("%s: %s", conflict.code, conflict.message)
    if (left := len(plan.conflicts) - LOGGED_CONFLICTS) > 0:
        log.warning("and %d more conflicts", left)
    if plan.left_out:
        why = "another split, the gold archive or a person's labels have them, too; artifact merge-plan names each"
        log.warning("left out %d images: %s", len(plan.left_out), why)


@step
def write_merge(
    archives: Sequence[ValidArchive], plan: MergePlan, folder: Path, gold: ValidArchive | None = None
) -> MergedDataset:
    """Write the plan's dataset into the fresh `folder`; images byte for byte, but see `with_end_mark`.

    `archives` and `gold` are the plan's. Names come from the archive's place in the list and a running number, so none
    collide.

    Raises:
        MergeError: The folder exists, an archive has changed since its check, or the disk is full.
    """
    _make(folder)
    name_entries(plan, folder)
    written: defaultdict[str, ImageCounts] = defaultdict(ImageCounts)
    with ExitStack() as opened:
        entries = [opened.enter_context(open_dataset(each.path, task=each.task))[0] for each in archives]

        def read(copy: ImageCopy) -> bytes:
            with _explain_faults(_STOPPED.format(archives[copy.archive].name)):
                return entries[copy.archive].read(copy.label) if copy.label else b""

        def join(copies: Sequence[ImageCopy]) -> str:
            return joined_labels(copies, read, plan.classes.class_ids, plan.task).text

        for number, archive in enumerate(archives):
            _stream(archive.name, entries[number], plan_archive_copies(plan, number, folder), written, join)
    names = plan.classes.class_names
    keypoints = keypoint_keys(plan)
    data = write_data_yaml(folder, plan.task, names, {split: split for split in plan.images}, keypoints)
    write_manifest(data, written)
    if plan.vocabularies:
        write_vocabularies(data, plan.vocabularies)
    write_pseudo_labelled(data, plan.pseudo_labelled)
    images = plan.images
    gold_data = None
    if gold and plan.gold:
        measured: defaultdict[str, ImageCounts] = defaultdict(ImageCounts)
        with open_dataset(gold.path, task=gold.task) as (entries_of_gold, _):
            _stream(gold.name, entries_of_gold, plan_gold_copies(plan.gold, plan.task, folder), measured)
        gold_data = write_data_yaml(folder / GOLD_FOLDER, plan.task, names, {"train": "val", "val": "val"}, keypoints)
        write_manifest(gold_data, {"train": measured["val"], "val": measured["val"]})
        if plan.gold.vocabularies:
            write_vocabularies(gold_data, plan.gold.vocabularies)
        images |= {"gold": len(plan.gold.samples)}
    return MergedDataset(data=data, task=plan.task or "detect", class_names=names, images=images, gold=gold_data)


@step
def write_relabelled_split(
    data: Path, task: str, own_names: Sequence[str], other_names: Sequence[str], folder: Path
) -> Path:
    """Link split `val` of `data` into the fresh `folder` for a model with other classes, and return its `data`.

    `data` is that of a merge, or its `gold`, and `own_names` its classes; classes are the same by the rules of merging.
    Labels have the ids of `other_names`; those of classes that the other model lacks are dropped, in a tree with their
    images. The original must stay at its path.

    Raises:
        MergeError: The folder exists, or no image shows a class that both have.
    """
    _make(folder)
    with _explain_faults(f"Writing the images in {folder} stopped"):
        view = relabel_val_split(data, task, own_names, other_names, folder)
    if view is None:
        own, other = (safe_repr(list(names), 200) for names in (own_names, other_names))
        found = f"none: one has {own}, the other {other}"
        fix = "These two cannot be compared."
        raise MergeError(expected_found_fix("images of a class that both models have", found, fix))
    return view


@step
def write_smoke_test_subset(dataset: MergedDataset, folder: Path, images: int = 8) -> Path:
    """Link `images` images of train and half as many of val into the fresh `folder`, and return its `data`.

    The same ones each time, labelled and of as many classes as possible. The dataset must stay at its path.

    Raises:
        MergeError: The folder exists, or the disk is full.
    """
    _make(folder)
    with _explain_faults(f"Writing the rehearsal in {folder} stopped"):
        return make_smoke_test_subset(dataset.data, dataset.task, dataset.class_names, folder, images)


@step
def write_sample(dataset: MergedDataset, folder: Path) -> Path:
    """Write `validation-sample.zip` into the existing `folder`, and return it: a deployment is compared on it.

    It holds at most `SAMPLE_IMAGES` images of val, byte for byte, with their labels: those first that show classes not
    shown yet. The same data gives the same bytes.

    Raises:
        MergeError: The disk is full.
    """
    path = folder / SAMPLE
    with _explain_faults(f"Writing {path} stopped"):
        pack_sample(dataset.data, dataset.task, dataset.class_names, path, SAMPLE_IMAGES)
    return path


def _make(folder: Path) -> None:
    """Ultralytics keeps label caches by path and size, so a folder is used once."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as exc:
        raise MergeError(f"Expected a folder that does not exist, found {folder}. Name another one.") from exc


@contextmanager
def _explain_faults(what: str) -> Iterator[None]:
    try:
        yield
    except (ArchiveError, OSError) as exc:
        raise MergeError(f"{what}: {exc}") from exc


def _stream(
    name: str,
    archive: Archive,
    jobs: Iterator[CopyJob],
    written: defaultdict[str, ImageCounts],
    join: UniteLabels = lambda _: "",
) -> None:
    """Write images and labels from the archive `name`, byte for byte but for class ids; count them by split.

    `join` returns the labels of a picture that several archives have.
    """
    batches = iter(lambda: list(islice(jobs, _COPY_BATCH)), [])
    with _explain_faults(_STOPPED.format(name)), ThreadPoolExecutor(WRITERS) as pool:
        for counts in pool.map(partial(_write, archive, join), batches):
            for split, tally in counts.items():
                written[split].add(tally.images, tally.rows)


def _write(archive: Archive, join: UniteLabels, jobs: Sequence[CopyJob]) -> dict[str, ImageCounts]:
    written: defaultdict[str, ImageCounts] = defaultdict(ImageCounts)
    for job in jobs:
        _write_file(job.image_file, with_end_mark(archive.read(job.image)))
        rows = Counter[int]() if job.class_id is None else Counter([job.class_id])
        text = _labels(archive, job, join)
        if text is not None:
            _write_file(job.label_file, text.encode())
            rows = count_rows(text)
        written[job.split].add(1, rows)
    return written


def _labels(archive: Archive, job: CopyJob, join: UniteLabels) -> str | None:
    """Return the label file of an image; None if it has none."""
    if any(copy.label for copy in job.copies):
        return join(job.copies)
    if job.label is None:
        return None
    return remap_labels(archive.read(job.label).decode("utf-8-sig"), job.class_ids, job.task)


def _write_file(path: str, data: bytes) -> None:
    with Path(path).open("xb") as file:
        file.write(data)
