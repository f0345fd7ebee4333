"""The inputs of batch inference in the object store: their listing and their bytes."""

import io
import re
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.dataset.safe_zip import ZipError, open_zip
from tasks.dataset.zip_names import is_operating_system_file
from tasks.inference.image_lists import list_run_sources, named_run
from tasks.inference.image_zip import MAX_ENTRIES, POLICY, list_zip_images, read_zip_image
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import HEAD_BYTES, MediaKind, sniff_kind
from tasks.storage.globs import compile_glob, fixed_prefix
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.ranged_reads import ObjectChangedError, ObjectVersion, RangedObject, download, head_object, read
from tasks.storage.s3_client import StorageError
from tasks.storage.steps import object_name

MAX_BYTES = 1 << 30
OPEN_ARCHIVES = 4


def list_media(inputs: Sequence[str]) -> Iterator[ObjectVersion]:
    """Yield the objects that `inputs` name, in bucket `media` or at an s3:// address: keys, prefixes/ and globs.

    Each comes once, in the order of the inputs, and none is kept in memory. Files that macOS, Windows and network
    drives put into folders (`is_operating_system_file`) do not match prefixes and globs.

    Raises:
        StorageError: An input matches nothing.
    """
    earlier = _Matcher()
    for text in inputs:
        name = object_name(text, Bucket.MEDIA)
        exact = _exact(name)
        is_empty = True
        for stored in [exact] if exact else _matches(name):
            is_empty = False
            if stored.name not in earlier:
                yield stored
        if is_empty:
            raise StorageError(f"Expected images or videos at {name}, found none. Upload them, or correct the name.")
        earlier.add(name, exact=exact is not None)


def _exact(name: S3Uri) -> ObjectVersion | None:
    """Return the object of that very name, which may hold `*`, `?` or `[`."""
    try:
        return None if name.key.endswith("/") else head_object(name, "")
    except ObjectChangedError:
        return None


def _matches(name: S3Uri) -> Iterator[ObjectVersion]:
    fixed = fixed_prefix(name.key)
    if fixed is None and not name.key.endswith("/"):
        return
    pattern = compile_glob(name.key)
    prefix = name.key if fixed is None else fixed
    folder = prefix.rpartition("/")[0]
    for stored in ObjectStore(name.bucket).list(prefix):
        key = stored.key
        if not key.endswith("/") and pattern.match(key) and not is_operating_system_file(key.removeprefix(folder)):
            yield ObjectVersion(S3Uri(name.bucket, key), stored.size, stored.etag)


class _Matcher:
    """Matches the names that earlier inputs have matched; it holds the inputs, not the million objects."""

    def __init__(self) -> None:
        self._names = set[S3Uri]()
        self._patterns: list[tuple[str, re.Pattern[str]]] = []

    def add(self, name: S3Uri, *, exact: bool) -> None:
        if exact:
            self._names.add(name)
        else:
            self._patterns.append((name.bucket, compile_glob(name.key)))

    def __contains__(self, name: S3Uri) -> bool:
        return name in self._names or any(
            bucket == name.bucket and pattern.match(name.key) for bucket, pattern in self._patterns
        )


def list_media_sources(inputs: Sequence[str]) -> Iterator[MediaSource]:
    """Yield the images and videos that `inputs` name (see `list_media`), and the images in zips.

    Unreadable files come, too, with their fault, and a zip itself with each note for its owner. The images of
    `run:<flow run id>` (`list_run_sources`) come first, and each image once.

    Raises:
        StorageError: An input matches nothing.
    """
    runs = [run for run in map(named_run, inputs) if run]
    listed = {source.name: source for run in runs for source in list_run_sources(run)}
    yield from listed.values()
    for source in _list_stored_sources([text for text in inputs if not named_run(text)]):
        if source.name not in listed:
            yield source


def _list_stored_sources(inputs: Sequence[str]) -> Iterator[MediaSource]:
    for stored in list_media(inputs):
        key = stored.name.key
        kind = sniff_kind(key, b"")
        if kind is MediaKind.UNKNOWN:
            kind = sniff_kind(key, _head(stored))
        source = MediaSource(
            name=str(stored.name),
            bucket=stored.name.bucket,
            key=key,
            etag=stored.etag,
            size=stored.size,
            kind=kind,
            fault=_fault(stored, kind),
        )
        if kind is MediaKind.ARCHIVE:
            yield from _entries(source, stored)
        else:
            yield source


def _head(stored: ObjectVersion) -> bytes:
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


def _entries(archive: MediaSource, stored: ObjectVersion) -> Iterator[MediaSource]:
    try:
        listing = list_zip_images(io.BufferedReader(RangedObject(stored)))
    except (MediaError, ObjectChangedError) as error:
        yield replace(archive, fault=str(error))
        return
    for note in listing.notes:
        yield replace(archive, size=0, note=note)
    for entry in listing.entries:
        yield replace(
            archive,
            name=f"{archive.name}/{entry.name}",
            size=entry.size,
            kind=MediaKind.IMAGE,
            entry=entry.index,
            fault=entry.fault,
        )


class MediaStore:
    """Reads sources as they were planned, in any number of threads.

    Both methods raise MediaError for a source that cannot be read, ObjectChangedError for one that changed since, and a
    transient StorageError if the store stays away.
    """

    def __init__(self) -> None:
        self._archives = OrderedDict[tuple[S3Uri, str], zipfile.ZipFile]()
        self._lock = threading.Lock()

    def read(self, source: MediaSource) -> bytes:
        """Return the bytes of an object, or of a zip's entry unpacked."""
        _require_readable(source)
        if source.size > MAX_BYTES:
            raise MediaError(f"expected at most {MAX_BYTES:,} bytes, found {source.size:,}; shrink the image")
        if source.entry is None:
            return read(_stored(source))
        return read_zip_image(self._archive(source), source.entry)

    def fetch(self, source: MediaSource, path: Path) -> None:
        """Copy an object into a file, whole or not at all; a StorageError says that the disk has no room for it."""
        _require_readable(source)
        if source.entry is None:
            download(_stored(source), path)
        else:
            path.write_bytes(self.read(source))

    def _archive(self, source: MediaSource) -> zipfile.ZipFile:
        """Return the zip of an entry, its directory read; the last few are cached."""
        key = S3Uri(source.bucket, source.key), source.etag
        with self._lock:
            archive = self._archives.pop(key, None) or _open_archive(head_object(*key))
            self._archives[key] = archive
            while self._is_full():
                self._archives.popitem(last=False)  # a thread that reads it at this moment does so to the end
        return archive

    def _is_full(self) -> bool:
        entries = sum(len(archive.infolist()) for archive in self._archives.values())
        return len(self._archives) > OPEN_ARCHIVES or (len(self._archives) > 1 and entries > MAX_ENTRIES)


def _require_readable(source: MediaSource) -> None:
    if source.fault:
        raise MediaError(source.fault)


def _stored(source: MediaSource) -> ObjectVersion:
    return ObjectVersion(S3Uri(source.bucket, source.key), source.size, source.etag)


def _open_archive(stored: ObjectVersion) -> zipfile.ZipFile:
    try:
        return open_zip(io.BufferedReader(RangedObject(stored)), POLICY)
    except ZipError as error:
        raise MediaError(f"expected a zip of images, found a damaged archive ({error}); zip it again") from error
