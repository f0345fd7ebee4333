"""The check of a whole dataset: every rule runs, every fault is collected, nothing is extracted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.dataset.archive import Archive, ArchiveError, open_archive
from tasks.dataset.findings import Finding, Report, Severity, Statistics
from tasks.dataset.image_stats import ImageStats, format_findings
from tasks.dataset.labels import MAX_LABEL_BYTES, LabelSpec, parse_labels
from tasks.dataset.layout import Dataset, read_layout
from tasks.errors import StudioError
from tasks.parameters import ValidationPolicy
from tasks.validation.class_lists import class_list_findings
from tasks.validation.class_names import class_findings
from tasks.validation.collector import Collector
from tasks.validation.duplicates import duplicate_findings, find_duplicates
from tasks.validation.label_rules import label_findings
from tasks.validation.label_table import LabelTable, read_labels
from tasks.validation.pairing import pairing_findings
from tasks.validation.pseudo_labels import copied_label_findings, count_origins, origin_findings
from tasks.validation.quality import quality_findings
from tasks.validation.reader import Progress, read_contents
from tasks.validation.report.html import render_report
from tasks.validation.split_counts import count_splits, label_sizes, unlabelled_splits


class DatasetError(StudioError):
    """An archive that cannot be used; `findings` are its errors."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(finding.message for finding in findings[:5]))
        self.findings = findings


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The report on an archive, and what it was written from; `images` holds those that decode."""

    report: Report
    dataset: Dataset = field(default_factory=Dataset)
    labels: LabelTable = field(default_factory=lambda: read_labels((), LabelSpec(), list))
    images: Mapping[str, ImageStats] = field(default_factory=dict)


def inspect_dataset(
    path: Path, archive: str, digest: str, policy: ValidationPolicy, progress: Progress | None = None
) -> Inspection:
    """Check the archive at `path` and keep what its page is drawn from; raises nothing for what the file holds.

    `archive` and `digest` (SHA-256 in hex) go into the report. `progress` is called in this thread with the number of
    images done and of all images. Memory holds at most three encoded images a thread, and a few hundred bytes for each
    image and label row.
    """
    collector = Collector(policy)
    opened, faults = open_archive(path, policy)
    collector.add(faults)
    if opened is None:
        return Inspection(report=_report(archive, digest, collector, Statistics()))
    with opened:
        dataset, faults = read_layout(opened)
        collector.add(faults)
        labels, images = read_contents(opened, dataset, collector, progress)
        statistics = count_splits(dataset, labels)
        origins = count_origins(dataset, labels, statistics)
        statistics = statistics.model_copy(update={"origins": origins})
        collector.add(format_findings(opened.entries))
        collector.add(pairing_findings(opened, dataset, policy))
        collector.add(unlabelled_splits(dataset, statistics))
        collector.add(origin_findings(dataset, labels, statistics))
        collector.add(label_findings(labels, label_sizes(dataset, images), policy.imgsz, dataset.class_names))
        collector.add(class_list_findings(opened, dataset.class_names))
        collector.add(class_findings(statistics, policy))
        collector.add(quality_findings(images))
        splits_of = _splits_of(dataset)
        twins = find_duplicates(images, opened.checksums(images), splits_of, opened.read)
        collector.add(duplicate_findings(twins, splits_of))
        collector.add(copied_label_findings(dataset, labels, images, twins))
    report = _report(archive, digest, collector, statistics)
    return Inspection(report=report, dataset=dataset, labels=labels, images=images)


def render_inspection(inspection: Inspection, path: Path, policy: ValidationPolicy) -> str:
    """Return the page of an inspection as HTML; pictures are read from the archive at `path` again."""
    opened, _ = open_archive(path, policy)
    with opened or nullcontext():
        return render_report(
            inspection.report,
            inspection.dataset,
            inspection.labels,
            inspection.images,
            opened.read if opened else _read_nothing,
            policy.imgsz,
        )


@contextmanager
def open_dataset(
    path: Path, policy: ValidationPolicy | None = None, task: str | None = None
) -> Iterator[tuple[Archive, Dataset]]:
    """Open an archive that was found valid, to stream its images and labels with `archive.read(name)`.

    `task` is that of its report; without it, the first label decides. It is None if no label file has a row. Images and
    labels are not checked again: `read` raises ArchiveError for a damaged entry.

    Raises:
        DatasetError: The archive or its layout has an error.
    """
    archive, faults = open_archive(path, policy or ValidationPolicy.model_validate({}))
    if archive is None:
        raise DatasetError(faults)
    with archive:
        dataset, problems = read_layout(archive)
        errors = [finding for finding in faults + problems if finding.severity is Severity.ERROR]
        if errors:
            raise DatasetError(errors)
        yield archive, replace(dataset, task=dataset.task or task or _first_task(archive, dataset))


def _read_nothing(name: str) -> bytes:
    raise KeyError(name)


def _report(archive: str, digest: str, collector: Collector, statistics: Statistics) -> Report:
    return Report(
        archive=archive,
        digest=digest,
        findings=collector.findings(),
        statistics=statistics,
        omitted=collector.omitted(),
    )


def _splits_of(dataset: Dataset) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for split, samples in dataset.splits.items():
        for image in {sample.image for sample in samples}:
            splits.setdefault(image, []).append(split)
    return splits


def _first_task(archive: Archive, dataset: Dataset) -> str | None:
    for label in filter(None, dataset.labels.values()):
        try:
            labels, _ = parse_labels(archive.read(label, MAX_LABEL_BYTES), label, dataset.rules)
        except ArchiveError as exc:
            raise DatasetError([exc.finding]) from exc
        if labels.task:
            return labels.task
    return None
