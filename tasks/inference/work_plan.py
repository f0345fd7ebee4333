"""The work of a run of inference: which images and videos, in which chunks."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from tasks.media.file_type import MediaKind

IMAGES_PER_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSource:
    """One image or video: an object in the store, or an entry of a zip there.

    Attributes:
        name: The name that results use.
        etag: That of the object.
        size: In bytes, of the object or of the unpacked entry.
        kind: By the name alone.
        entry: The number, from 0, in the directory of the zip; None for an object of its own.
        fault: Why it cannot be read, if that is known before it is read.
        note: A warning about the zip for its owner; a source with a note is not read.
    """

    name: str
    bucket: str
    key: str
    etag: str
    size: int
    kind: MediaKind
    entry: int | None = None
    fault: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The sources that a worker does at a time; `number` counts from 0."""

    number: int
    sources: tuple[MediaSource, ...]

    def to_line(self) -> str:
        """Return it as JSON on one line."""
        return json.dumps([self.number, *map(_to_values, self.sources)], separators=(",", ":"))

    @staticmethod
    def from_line(line: str) -> "Chunk":
        """Read a line of `to_line`."""
        number, *sources = json.loads(line)
        return Chunk(number, tuple(map(_to_source, sources)))


_FIELDS = [field.name for field in fields(MediaSource)]
_to_values = attrgetter(*_FIELDS)


def _to_source(values: Sequence[Any]) -> MediaSource:
    named = dict(zip(_FIELDS, values, strict=True))
    return MediaSource(**named | {"kind": MediaKind(named["kind"])})


def split_into_chunks(sources: Iterable[MediaSource], images_per_chunk: int = IMAGES_PER_CHUNK) -> Iterator[Chunk]:
    """Yield the sources in their order: a video alone, everything else in groups of at most `images_per_chunk`."""
    return itertools.starmap(Chunk, enumerate(_groups(sources, images_per_chunk)))


def _groups(sources: Iterable[MediaSource], images_per_chunk: int) -> Iterator[tuple[MediaSource, ...]]:
    group: list[MediaSource] = []
    for source in sources:
        is_video = source.kind is MediaKind.VIDEO
        if group and (is_video or len(group) == images_per_chunk):
            yield tuple(group)
            group = []
        if is_video:
            yield (source,)
        else:
            group.append(source)
    if group:
        yield tuple(group)
