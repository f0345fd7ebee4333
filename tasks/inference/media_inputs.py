"""The inputs of batch inference in the object store: what there is, and its bytes."""

import fnmatch
import io
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from tasks.dataset.zip_names import is_operating_system_file
from tasks.inference.image_zip import MAX_ENTRIES, list_zip_images, read_zip_image
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import HEAD_BYTES, MediaKind, sniff_kind
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.ranged_reads import ObjectChangedError, ObjectVersion, RangedObject, download, head_object, read
from tasks.storage.s3_client import StorageError
from tasks.storage.steps import object_name

MAX_BYTES = 1 << 30
OPEN_ARCHIVES = 4


def list_media(inputs: Sequence[str]) -> Iterator[ObjectVersion]:
    """Yield the objects that `inputs` name, in bucket `media` or at an s3:// address: keys, prefixes/ and globs.

    Each comes once, in the order of the inputs, and none is kept in memory. Of prefixes and globs, what macOS, Windows
    and network drives put beside files is left out (`is_operating_system_file`). Raises StorageError at an input that
    matches nothing.
    """
    before = _SeenNames()
    for text in inputs:
        name, none = object_name(text, Bucket.MEDIA), True
        exact = _exact(name)
        for stored in [exact] if exact else _matches(name):
            none = False
            if stored.name not in before:
                yield stored
        if none:
            raise StorageError(f"Expected images or videos at {name}, found none. Upload them, or correct the name.")
        before.add(name, exact=exact is not None)


def _exact(name: S3Uri) -> ObjectVersion | None:
    """The object of that very name, also one with a sign in it that could be a glob's."""
    try:
        return None if name.key.endswith("/") else head_object(name, "")
    except ObjectChangedError:
        return None


def _matches(name: S3Uri) -> Iterator[ObjectVersion]:
    wild = _first_sign(name.key)
    if wild is None and not name.key.endswith("/"):
        return
    pattern, folder = _pattern(name.key), name.key[:wild].rpartition("/")[0]
    for found in ObjectStore(name.bucket).list(name.key[:wild]):
        key = found.key
        if not key.endswith("/") and pattern.match(key) and not is_operating_system_file(key.removeprefix(folder)):
            yield ObjectVersion(S3Uri(name.bucket, key), found.size, found.etag)


def _first_sign(key: str) -> int | None:
    return min((key.index(sign) for sign in "*?[" if sign in key), default=None)


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(re.escape(key) if _first_sign(key) is None else fnmatch.translate(key))


class _SeenNames:
    """What the inputs before this one have named: they are remembered, not the million objects that they match."""

    def __init__(self) -> None:
        self._names = set[S3Uri]()
        self._prefixes, self._patterns = dict[str, tuple[str, ...]](), dict[str, list[re.Pattern[str]]]()

    def add(self, name: S3Uri, *, exact: bool) -> None:
        if exact:
            self._names.add(name)
        elif _first_sign(name.key) is None:
            self._prefixes[name.bucket] = (*self._prefixes.get(name.bucket, ()), name.key)
        else:
            self._patterns.setdefault(name.bucket, []).append(_pattern(name.key))

    def __contains__(self, name: S3Uri) -> bool:
        return (
            name in self._names
            or name.key.startswith(self._prefixes.get(name.bucket, ()))
            or any(pattern.match(name.key) for pattern in self._patterns.get(name.bucket, ()))
        )


def list_media_sources(inputs: Sequence[str]) -> Iterator[MediaSource]:
    """Yield the images and videos that `inputs` name (see `list_media`), and of zips the images in them.

    What cannot be looked at comes, too, with its fault, and a zip itself with what its owner has to be told. Raises
    StorageError at an input that matches nothing.
    """
    for stored in list_media(inputs):
        key = stored.name.key
        kind = sniff_kind(key, b"")
        if kind is MediaKind.UNKNOWN:
            kind = sniff_kind(key, _or_nothing(stored))
        if kind is MediaKind.ARCHIVE:
            yield from _entries(stored)
        else:
            yield MediaSource(
                str(stored.name), *stored.name, stored.etag, stored.size, None, kind, _fault(stored, kind)
            )


def _or_nothing(stored: ObjectVersion) -> bytes:
    try:
        return read(stored, length=HEAD_BYTES)
    except ObjectChangedError:
        return b""


def _fault(stored: ObjectVersion, kind: MediaKind) -> str | None:
    if kind is MediaKind.UNKNOWN:
        return "expected an image, a video or a zip of images, found another kind of file; remove it"
    if kind is MediaKind.IMAGE and stored.size > MAX_BYTES:
        return f"expected an image of at most {MAX_BYTES:,} bytes, found {stored.size:,}; shrink it"
    return None


def _entries(stored: ObjectVersion) -> Iterator[MediaSource]:
    name, place, etag = str(stored.name), stored.name, stored.etag
    try:
        listing = list_zip_images(_opened(stored))
    except (MediaError, ObjectChangedError) as error:
        yield MediaSource(name, *place, etag, stored.size, None, MediaKind.ARCHIVE, str(error))
        return
    for note in listing.notes:
        yield MediaSource(name, *place, etag, 0, None, MediaKind.ARCHIVE, None, note)
    for entry in listing.entries:
        yield MediaSource(f"{name}/{entry.name}", *place, etag, entry.size, entry.index, MediaKind.IMAGE, entry.fault)


def _opened(stored: ObjectVersion) -> io.BufferedReader:
    return io.BufferedReader(RangedObject(stored))


class MediaStore:
    """Reads sources as they were planned; any number of threads may do so.

    A source that cannot be read gives MediaError, one that is not what was planned ChangedError; a store that stays
    away gives a StorageError that is `transient`.
    """

    def __init__(self) -> None:
        self._archives, self._lock = OrderedDict[tuple[S3Uri, str], zipfile.ZipFile](), threading.Lock()

    def read(self, source: MediaSource) -> bytes:
        """Return the bytes of an object, or of a zip's entry unpacked."""
        _require_readable(source)
        if source.size > MAX_BYTES:
            raise MediaError(f"expected at most {MAX_BYTES:,} bytes, found {source.size:,}; shrink the image")
        if source.entry is None:
            return read(_stored(source))
        return read_zip_image(self._archive(source), source.entry)

    def fetch(self, source: MediaSource, path: Path) -> None:
        """Copy an object into a file, which is there only when it is whole.

        Raises StorageError where the disk has no room for it, before it begins.
        """
        _require_readable(source)
        if source.entry is None:
            download(_stored(source), path)
        else:
            path.write_bytes(self.read(source))

    def _archive(self, source: MediaSource) -> zipfile.ZipFile:
        """The zip of an entry, its directory read: the last few are kept."""
        which = S3Uri(source.bucket, source.key), source.etag
        with self._lock:
            archive = self._archives.pop(which, None) or _archive(head_object(*which))
            self._archives[which] = archive
            while self._is_full():
                self._archives.popitem(last=False)  # whoever reads it at this moment does so to the end
        return archive

    def _is_full(self) -> bool:
        entries = sum(len(archive.infolist()) for archive in self._archives.values())
        return len(self._archives) > OPEN_ARCHIVES or (len(self._archives) > 1 and entries > MAX_ENTRIES)


def _require_readable(source: MediaSource) -> None:
    if source.fault:
        raise MediaError(source.fault)


def _stored(source: MediaSource) -> ObjectVersion:
    return ObjectVersion(S3Uri(source.bucket, source.key), source.size, source.etag)


def _archive(stored: ObjectVersion) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(cast("io.BytesIO", _opened(stored)))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise MediaError(f"expected a zip of images, found a damaged archive ({error}); zip it again") from error
