"""Reads every label and decodes every image of an archive, side by side."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.findings import Finding
from tasks.dataset.image_stats import MAX_IMAGE_BYTES, ImageStats, check_image
from tasks.dataset.labels import MAX_LABEL_BYTES
from tasks.dataset.layout import Dataset
from tasks.finding_codes import Code
from tasks.validation.collector import Collector
from tasks.validation.label_table import LabelTable, read_labels

Progress = Callable[[int, int], None]
_MAX_THREADS = 8
_Seen = tuple[ImageStats | None, list[Finding]]


class DatasetContents(NamedTuple):
    """All labels, and the images that decode, by name."""

    labels: LabelTable
    images: dict[str, ImageStats]


def read_contents(
    archive: Archive, dataset: Dataset, collector: Collector, progress: Progress | None
) -> DatasetContents:
    """Return the contents of the entries; `collector` gets all that is wrong with each by itself.

    Labels are parsed in one thread of the pool while the others decode. `progress` gets the number of images done and
    of all images.
    """
    images: dict[str, ImageStats] = {}
    faults: list[Finding] = []
    labelled = dataset.task != "classify"  # a class is the same however the image is turned
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        parsing = pool.submit(_parse, archive, dataset, collector)
        for done, (image, (traits, problems)) in enumerate(_decode(pool, 2 * threads, archive, dataset), 1):
            faults += (each for each in problems if labelled or each.code is not Code.IMAGE_EXIF_ROTATED)
            if traits is not None:
                images[image] = traits
            if progress:
                progress(done, len(dataset.labels))
        labels = parsing.result()
    # Only now, because until here the collector is the parser's.
    collector.add(faults)
    # Entries that nothing else reads may be damaged, and then so may be the rest.
    read = {*dataset.labels, *dataset.labels.values(), *dataset.lists}
    collector.add(filter(None, (archive.damage(name) for name in archive.entries if name not in read)))
    return DatasetContents(labels, images)


def _parse(archive: Archive, dataset: Dataset, collector: Collector) -> LabelTable:
    damaged: dict[str, Finding] = {}
    names = sorted({label for label in dataset.labels.values() if label})

    def readable() -> Iterator[tuple[str, bytes]]:
        for name in names:
            try:
                yield name, archive.read(name, MAX_LABEL_BYTES)
            except ArchiveError as exc:
                damaged[name] = exc.finding

    table = read_labels(readable() if dataset.task != "classify" else (), dataset.rules, collector.add)
    collector.add(damaged.values())
    # A file that cannot be read was labelled by somebody: its own finding says what is wrong.
    return replace(table, written={**table.written, **dict.fromkeys(damaged, 1)})


def _decode(pool: ThreadPoolExecutor, ahead: int, archive: Archive, dataset: Dataset) -> Iterator[tuple[str, _Seen]]:
    """Yield each image in order: this thread reads, at most `ahead` images before those that others decode."""
    pending: deque[tuple[str, Future[_Seen]]] = deque()
    for image in dataset.labels:
        pending.append((image, _submit(pool, archive, image)))
        if len(pending) > ahead:
            name, seen = pending.popleft()
            yield name, seen.result()
    for name, seen in pending:
        yield name, seen.result()


def _submit(pool: ThreadPoolExecutor, archive: Archive, image: str) -> Future[_Seen]:
    try:
        return pool.submit(check_image, archive.read(image, MAX_IMAGE_BYTES), image)
    except ArchiveError as exc:
        damaged: Future[_Seen] = Future()
        damaged.set_result((None, [exc.finding]))
        return damaged
