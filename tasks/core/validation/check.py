"""The check of a whole dataset: every rule is asked, every fault is collected, nothing is extracted."""

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.core.archive import Archive, ArchiveError, open_archive
from tasks.core.codes import Code
from tasks.core.dataset import Dataset, read_layout, split_empty
from tasks.core.errors import StudioError
from tasks.core.findings import Finding, Report, Severity, SplitStatistics, Statistics, error, explain, warning
from tasks.core.images import MAX_IMAGE_BYTES, check_image
from tasks.core.labels import MAX_LABEL_BYTES, Labels, parse_labels
from tasks.core.parameters import ValidationPolicy
from tasks.core.screening import folder_of

# More findings than this of one code and severity are counted but not kept.
MAX_KEPT = 1000
_MAX_THREADS = 8
_NOT_LABELS = ("classes.txt", "notes.txt", "labels.txt", "readme")


class DatasetError(StudioError):
    """An archive that cannot be used; `findings` are its errors."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings[:5]))
        self.findings = findings


def check_dataset(
    path: Path,
    archive: str,
    digest: str,
    policy: ValidationPolicy,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check the archive at `path` and report all its faults; raises nothing for what the file holds.

    `archive` and `digest` (SHA-256 in hex) go into the report. `progress` is called in this thread with the number of
    images done and of all images. Memory holds at most three encoded images a thread, whatever the archive.
    """
    kept = _Findings()
    opened, faults = open_archive(path, policy)
    kept.add(faults)
    statistics = Statistics()
    if opened is not None:
        with opened:
            dataset, faults = read_layout(opened)
            kept.add(faults)
            statistics = _check_labels(opened, dataset, kept)
            kept.add(_pairing_faults(opened, dataset, policy))
            _check_images(opened, dataset, kept, progress)
    return Report(
        archive=archive, digest=digest, findings=list(kept.kept), statistics=statistics, omitted=kept.omitted()
    )


@contextmanager
def open_dataset(path: Path, policy: ValidationPolicy | None = None) -> Iterator[tuple[Archive, Dataset]]:
    """Open an archive that was found valid, to stream its images and labels with `archive.read(name)`.

    The dataset's task is never None, except where no label file has a row. Raises DatasetError where the archive or
    its layout has an error; images and labels are not checked again (`read` raises ArchiveError for a damaged entry).
    """
    archive, faults = open_archive(path, policy or ValidationPolicy.model_validate({}))
    if archive is None:
        raise DatasetError(faults)
    with archive:
        dataset, problems = read_layout(archive)
        errors = [finding for finding in faults + problems if finding.severity is Severity.ERROR]
        if errors:
            raise DatasetError(errors)
        yield archive, replace(dataset, task=dataset.task or _first_task(archive, dataset))


def read_dataset(path: Path, policy: ValidationPolicy | None = None) -> Dataset:
    """Return the layout of an archive that was found valid, for planning; see `open_dataset`."""
    with open_dataset(path, policy) as (_, dataset):
        return dataset


class _Findings:
    """Keeps the first findings of each code and severity and counts the rest: a hostile archive can have millions.

    The same finding twice, as for an entry that is refused when it is listed and again when it is read, counts once.
    """

    def __init__(self) -> None:
        self.kept: dict[Finding, None] = {}
        self.counts: Counter[tuple[str, Severity]] = Counter()

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding in self.kept:
                continue
            key = finding.code, finding.severity
            self.counts[key] += 1
            if self.counts[key] <= MAX_KEPT:
                self.kept[finding] = None

    def omitted(self) -> dict[str, int]:
        left: Counter[str] = Counter()
        for (code, _), count in self.counts.items():
            left[code] += max(0, count - MAX_KEPT)
        return dict(sorted((+left).items()))


@dataclass
class _Tally:
    """Counts of one split while its labels are read."""

    images: int = 0
    labelled: int = 0
    instances: Counter[str] = field(default_factory=Counter)


def _check_labels(archive: Archive, dataset: Dataset, kept: _Findings) -> Statistics:
    """Parse every label file once and count what it holds for the splits of its images."""
    tallies = {split: _Tally(images=len(samples)) for split, samples in dataset.splits.items()}
    if dataset.task == "classify":
        return _classify_statistics(dataset, tallies)
    splits_of: defaultdict[str, list[str]] = defaultdict(list)
    for split, samples in dataset.splits.items():
        for label in {sample.label for sample in samples if sample.label}:
            splits_of[label].append(split)
    files_of: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted({label for label in dataset.labels.values() if label}):
        labels = _read_labels(archive, label, dataset, kept)
        if labels.task:
            files_of[labels.task].append(label)
        for split in splits_of[label]:
            _count(labels, tallies[split], dataset.class_names)
    kept.add(_mixed_tasks(files_of))
    kept.add(_unlabelled_splits(tallies))
    task = dataset.task or max(files_of, key=lambda kind: len(files_of[kind]), default=None)
    return _statistics(dataset, task, tallies)


def _statistics(dataset: Dataset, task: str | None, tallies: dict[str, _Tally]) -> Statistics:
    splits = {
        split: SplitStatistics(images=tally.images, labelled=tally.labelled, instances=dict(tally.instances))
        for split, tally in tallies.items()
    }
    return Statistics(task=task, class_names=list(dataset.class_names), splits=splits)


def _classify_statistics(dataset: Dataset, tallies: dict[str, _Tally]) -> Statistics:
    for split, samples in dataset.splits.items():
        tallies[split].labelled = len(samples)
        tallies[split].instances.update(folder_of(sample.image).rpartition("/")[2] for sample in samples)
    return _statistics(dataset, "classify", tallies)


def _read_labels(archive: Archive, label: str, dataset: Dataset, kept: _Findings) -> Labels:
    try:
        data = archive.read(label, MAX_LABEL_BYTES)
    except ArchiveError as exc:
        kept.add([exc.finding])
        return Labels(None, (), 1)
    labels, faults = parse_labels(data, label, dataset.rules)
    kept.add(faults)
    return labels


def _count(labels: Labels, tally: _Tally, names: tuple[str, ...]) -> None:
    # A file whose lines are all faulty was labelled by somebody: its own findings say what is wrong.
    tally.labelled += labels.written > 0
    tally.instances.update(names[row.class_id] if names else str(row.class_id) for row in labels.rows)


def _mixed_tasks(files_of: dict[str, list[str]]) -> Iterator[Finding]:
    main = max(files_of, key=lambda kind: len(files_of[kind]), default=None)
    for task, files in files_of.items():
        for name in files if task != main else ():
            expected = f"labels for {main}, as in {len(files_of[main or task])} other files"
            fix = "Export the dataset with one kind of label only."
            yield error(Code.LABEL_COLUMNS, explain(expected, f"labels for {task}", fix), path=name)


def _unlabelled_splits(tallies: dict[str, _Tally]) -> Iterator[Finding]:
    for split, tally in tallies.items():
        if tally.images and not tally.labelled:
            yield split_empty(split, f"{tally.images} images without a single label")


def _pairing_faults(archive: Archive, dataset: Dataset, policy: ValidationPolicy) -> list[Finding]:
    ambiguous = _ambiguous(dataset)
    if dataset.task == "classify":
        return ambiguous
    return [*ambiguous, *_orphans(archive, dataset), *_unlabelled(dataset, policy)]


def _ambiguous(dataset: Dataset) -> list[Finding]:
    images_of: defaultdict[str, list[str]] = defaultdict(list)
    for image in dataset.labels:
        images_of[image.rpartition(".")[0]].append(image)
    fix = "Keep one of them, or rename the others together with their labels."
    return [
        error(Code.LABEL_AMBIGUOUS, explain("one image for a label", " and ".join(images), fix), path=images[1])
        for images in images_of.values()
        if len(images) > 1
    ]


def _orphans(archive: Archive, dataset: Dataset) -> Iterator[Finding]:
    """Look at text files where labels lie: in folders called labels, and beside labels that have their image."""
    used = {label for label in dataset.labels.values() if label}
    folders = {folder_of(label) for label in used}
    for name in sorted(archive.entries):
        base = name.rpartition("/")[2].lower()
        if not base.endswith(".txt") or base.startswith(_NOT_LABELS) or name in used or name in dataset.lists:
            continue
        if folder_of(name) in folders or "labels" in name.split("/")[:-1]:
            fix = "Add the image, or remove this file; the names must agree to the letter, capitals too."
            yield warning(Code.LABEL_ORPHAN, explain("an image for each label file", "none", fix), path=name)


def _unlabelled(dataset: Dataset, policy: ValidationPolicy) -> list[Finding]:
    label_of = {sample.image: sample.label for samples in dataset.splits.values() for sample in samples}
    bare = [image for image, label in label_of.items() if label is None]
    if len(bare) <= policy.max_unlabelled_share * len(label_of):
        return []
    expected = f"a label file for at least {1 - policy.max_unlabelled_share:.0%} of the images"
    found = f"{len(bare)} of {len(label_of)} images without one"
    fix = "Label them, check that images and labels have the same names, or raise max_unlabelled_share."
    return [warning(Code.IMAGE_UNLABELLED, explain(expected, found, fix), path=bare[0])]


def _check_images(
    archive: Archive, dataset: Dataset, kept: _Findings, progress: Callable[[int, int], None] | None
) -> None:
    for done, faults in enumerate(_inspect(archive, dataset.labels), 1):
        kept.add(faults)
        if progress:
            progress(done, len(dataset.labels))


def _inspect(archive: Archive, images: Iterable[str]) -> Iterator[list[Finding]]:
    """Yield the findings of each image in order: this thread reads, the others decode, and reading never runs ahead."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    pending: deque[Future[list[Finding]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for image in images:
            pending.append(_submit(pool, archive, image))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _submit(pool: ThreadPoolExecutor, archive: Archive, image: str) -> Future[list[Finding]]:
    try:
        return pool.submit(check_image, archive.read(image, MAX_IMAGE_BYTES), image)
    except ArchiveError as exc:
        damaged: Future[list[Finding]] = Future()
        damaged.set_result([exc.finding])
        return damaged


def _first_task(archive: Archive, dataset: Dataset) -> str | None:
    for label in filter(None, dataset.labels.values()):
        labels, _ = parse_labels(archive.read(label, MAX_LABEL_BYTES), label, dataset.rules)
        if labels.task:
            return labels.task
    return None
