"""The work of a run of inference: which images and videos, in which chunks."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.media.file_type import MediaKind

IMAGES_PER_CHUNK = 64


@dataclass(frozen=True, slots=True)
class MediaSource:
    """One image, or one video: an object in the store, or an entry of a zip there.

    `name` is what results call it. `size` is in bytes, of the object or of the unpacked entry; `etag` is that of the
    object. `entry` counts from 0 in the zip's directory, and is None for an object of its own. `kind` is as far as the
    name tells. `fault` says why it cannot be read, where that is known before; a zip that could not be listed is such.
    One with a `note` is not looked at: it is a zip whose owner has to be told something.
    """

    name: str
    bucket: str
    key: str
    etag: str
    size: int
    entry: int | None
    kind: MediaKind
    fault: str | None = None
    note: str | None = None

    def to_line(self) -> str:
        """Return it as JSON on one line."""
        fields = (self.name, self.bucket, self.key, self.etag, self.size, self.entry, self.kind, self.fault, self.note)
        return json.dumps(fields, separators=(",", ":"))

    @staticmethod
    def from_line(line: str) -> "MediaSource":
        """Return what `to_line` wrote."""
        return _source(json.loads(line))


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one worker does at a time; `number` counts from 0."""

    number: int
    sources: tuple[MediaSource, ...]

    def to_line(self) -> str:
        """Return it as JSON on one line."""
        sources = ",".join(source.to_line() for source in self.sources)
        return f'{{"number":{self.number},"sources":[{sources}]}}'

    @staticmethod
    def from_line(line: str) -> "Chunk":
        """Return what `to_line` wrote."""
        found = json.loads(line)
        return Chunk(found["number"], tuple(map(_source, found["sources"])))


def _source(fields: Sequence[Any]) -> MediaSource:
    name, bucket, key, etag, size, entry, kind, *told = fields
    return MediaSource(name, bucket, key, etag, size, entry, MediaKind(kind), *told)


def split_into_chunks(sources: Iterable[MediaSource], images_per_chunk: int = IMAGES_PER_CHUNK) -> Iterator[Chunk]:
    """Yield the sources in their order: a video alone, everything else in groups of at most `images_per_chunk`."""
    number, group = 0, list[MediaSource]()
    for source in sources:
        video = source.kind is MediaKind.VIDEO
        if group and (video or len(group) == images_per_chunk):
            yield Chunk(number, tuple(group))
            number, group = number + 1, []
        if video:
            yield Chunk(number, (source,))
            number += 1
        else:
            group.append(source)
    if group:
        yield Chunk(number, tuple(group))
