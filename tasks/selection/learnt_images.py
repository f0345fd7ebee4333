"""The images that a version has learnt, found again in archives by what the directories of these say."""

import io
from collections.abc import Iterable

import numpy as np

from tasks.dataset.safe_zip import ZipError, open_zip
from tasks.inference.image_zip import POLICY
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.merge.training_images import Checksum
from tasks.storage.object_names import Bucket
from tasks.storage.ranged_reads import ObjectChangedError, ObjectVersion, RangedObject, head_object
from tasks.storage.steps import object_name


def list_learnt_sources(archives: Iterable[str], learnt: frozenset[Checksum]) -> list[MediaSource]:
    """Return each image of `learnt` once, as an entry of one of these archives; those that are gone hold none.

    No image is read: the directory of a zip has the CRC-32 and the size of each entry.

    Raises:
        StorageError: The object store stays away.
    """
    found: dict[Checksum, MediaSource] = {}
    for archive in sorted(archives):
        try:
            stored = head_object(object_name(archive, Bucket.DATASETS), "")
            for checksum, source in _entries(stored):
                if checksum in learnt:
                    found.setdefault(checksum, source)
        except (ObjectChangedError, ZipError):
            continue
    return sorted(found.values(), key=lambda source: source.name)


def draw_sample(sources: list[MediaSource], count: int, seed: int) -> list[MediaSource]:
    """Return at most `count` of the sources, drawn by the seed, in their order."""
    drawn = np.random.default_rng(seed).permutation(len(sources))[:count]
    return [sources[place] for place in sorted(drawn.tolist())]


def _entries(stored: ObjectVersion) -> Iterable[tuple[Checksum, MediaSource]]:
    with open_zip(io.BufferedReader(RangedObject(stored)), POLICY) as archive:
        for index, entry in enumerate(archive.infolist()):
            source = MediaSource(
                name=f"{stored.name}/{entry.filename}",
                bucket=stored.name.bucket,
                key=stored.name.key,
                etag=stored.etag,
                size=entry.file_size,
                kind=MediaKind.IMAGE,
                entry=index,
            )
            yield (entry.CRC, entry.file_size), source
