"""What a backup consists of: `backups/<name>.json`, which is written last, and the list of its objects.

The backups of a folder lie in one of ours below it, `yolo-studio`, so that others may use that folder, too. Those of
earlier releases lie in the folder itself, where they stay.

A backup is named by the second in which it was taken, or by the next one that no other has. Of one that is named by a
time to come nobody knows when it was taken: it counts as the oldest.
"""

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from infra.backup.content_store import Blob, Blobs
from infra.backup.moments import is_to_come
from infra.backup.private_folder import ensure_private
from infra.backup.stack_id import StackId
from infra.command_errors import StackError
from tasks.files import write_atomically

FORMAT = 2  # of manifests: those of format 1 name no stack
OWN = "yolo-studio"
_MANIFESTS = "backups"
_NAME = "%Y%m%dT%H%M%SZ"
_SECOND = timedelta(seconds=1)
_NAMED_WITHIN = timedelta(hours=1)  # of a name that others had, the next free one
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or {"..", "."} & set(path.split("/")) or "\0" in path:
        raise ValueError(f"expected a path inside the state folder, found {path!r}")
    return path


class KeptFile(BaseModel):
    """A file of the state folder, by its path in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, AfterValidator(_inside)]
    blob: Blob


class Manifest(BaseModel):
    """A whole backup: a file that has this form names nothing that was not written before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    stack: StackId | None = Field(None, description="Of which stack it is (infra/backup/stack_id.py).")
    layout: int = Field(ge=1, description="Of the state folder and the buckets (infra/layout.py).")
    release: str
    servers: dict[str, str] = Field(description="Whose databases these are: name and version.")
    taken: AwareDatetime
    databases: dict[Annotated[str, Field(pattern="^[a-z_]+$")], Blob]
    files: list[KeptFile]
    buckets: list[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]]
    versioned: list[str] = Field(description="The buckets that keep earlier versions.")
    objects: int
    size: int = Field(description="Bytes of all objects.")
    index: Blob
    left_out: list[str]


class ObjectEntry(NamedTuple):
    """An object, or one of its earlier versions; a marker says that it was deleted and has no bytes.

    Entries of one key are in the order in which they were written.
    """

    bucket: str
    key: str
    version: str | None
    etag: str
    size: int
    modified: str
    sha256: str | None
    content_type: str
    metadata: dict[str, str]

    @property
    def blob(self) -> Blob | None:
        """Its bytes; None for a marker."""
        return Blob(sha256=self.sha256, size=self.size) if self.sha256 else None

    @property
    def is_marker(self) -> bool:
        """Whether it says that the object was deleted."""
        return self.sha256 is None


class Pruning(NamedTuple):
    """Which backups were removed, with how many bytes, and how many of other stacks stay."""

    removed: list[str]
    freed: int
    others: int


class BackupFolder:
    """A folder of backups, which share their files; `root` is where in it they lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = folder / OWN
        has_earlier = all((folder / name).is_dir() for name in (_MANIFESTS, "blobs"))
        self.root = folder if has_earlier and not os.path.lexists(own) else own
        self.blobs = Blobs(self.root)
        self._manifests = self.root / _MANIFESTS

    @contextmanager
    def written(self) -> Iterator[None]:
        """Make the folder and hold it: nobody else takes or removes a backup here in the block.

        Only what is made here is shut to others: a folder that is there keeps its mode.

        Raises:
            StackError: Somebody does, the folder cannot be made, or what has our names in it is not ours alone.
        """
        with _made():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.root != self.folder:
                ensure_private(self.root)
            lock = os.fdopen(os.open(self.root / "lock", _LOCK, 0o600))
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackError(f"Another backup is being taken in {self.folder}: wait until it has ended.") from error
            with _made():
                ensure_private(self._manifests)
                self.blobs.prepare()
            yield

    def names(self) -> list[str]:
        """Return the names of the backups, the newest last, and first those of a time to come.

        A file with a name of another form is none.
        """
        moments = {path.stem: moment for path in self._manifests.glob("*.json") if (moment := _moment(path.stem))}
        return sorted(moments, key=lambda name: (not is_to_come(moments[name]), name))

    def newest_of_each_stack(self) -> dict[str, str]:
        """Return the newest backup of each stack, by the ids of those that have one; what is damaged is left out."""
        newest = {}
        for name in self.names():
            with suppress(StackError):
                _, manifest = self.read(name)
                if manifest.stack:
                    newest[manifest.stack] = name
        return newest

    def read(self, name: str | None = None) -> tuple[str, Manifest]:
        """Return a backup and its name; the newest if none is named.

        Raises:
            StackError: There is none of that name, or it is none of ours.
        """
        names = self.names()
        if not names or (name and name not in names):
            found = ", ".join(names) or "none"
            raise StackError(f"Expected {f'backup {name}' if name else 'a backup'} in {self.folder}, found {found}.")
        chosen = name or names[-1]
        path = self._manifests / f"{chosen}.json"
        content: Any = None
        try:
            content = json.loads(path.read_bytes())
            manifest = Manifest.model_validate(content)
        except (ValueError, ValidationError) as error:
            if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
                raise StackError(
                    f"Expected a backup of format {FORMAT}, found {content['format']} in {path}, which release "
                    f"{content.get('release')!r} has made: restore it with that release or a newer one."
                ) from error
            raise StackError(f"Expected a backup, found in {path} what is none: {error}") from error
        named = _moment(chosen)
        if named is None or not -_SECOND < named - manifest.taken < _NAMED_WITHIN:
            raise StackError(f"Expected a backup, found in {path} what is none: it was taken at {manifest.taken}.")
        return chosen, manifest

    def write(self, manifest: Manifest) -> str:
        """Make a backup count, now that all of its files are on the disk; returns its name."""
        os.sync()
        name = self._free_name(manifest.taken)
        with write_atomically(self._manifests / f"{name}.json") as unfinished:
            unfinished.touch(mode=0o600)
            with unfinished.open("w") as stream:
                stream.write(manifest.model_dump_json(indent=1))
                stream.flush()
                os.fsync(stream.fileno())
        return name

    def _free_name(self, taken: datetime) -> str:
        moment = taken.astimezone(UTC)
        while os.path.lexists(self._manifests / f"{moment:{_NAME}}.json"):
            moment += _SECOND
        return f"{moment:{_NAME}}"

    def objects(self, manifest: Manifest) -> Iterator[ObjectEntry]:
        """Yield the objects of a backup, bucket by bucket.

        Raises:
            StackError: The list of them is missing or damaged.
        """
        with gzip.open(self.blobs.require(manifest.index), "rt", encoding="utf-8") as lines:
            for line in lines:
                yield ObjectEntry(**json.loads(line))

    def write_index(self, entries: Iterable[ObjectEntry]) -> Blob:
        """Keep the list of objects."""
        return self.blobs.add(_packed(entries))

    def verify(self, manifest: Manifest) -> Iterator[str]:
        """Read every file of a backup; yield what is wrong.

        Raises:
            StackError: The list of its objects is missing or damaged.
        """
        seen = set[str]()
        for blob in self._blobs_of(manifest):
            if blob.sha256 not in seen and (fault := self.blobs.fault(blob)):
                yield fault
            seen.add(blob.sha256)

    def keep_newest(self, count: int, stack: str | None) -> Pruning:
        """Remove all but the newest backups of a stack, and the files that no other needs.

        Those of other stacks, and those that name none, stay.

        Raises:
            StackError: A backup is damaged, or somebody else writes to the folder: nothing is removed then.
        """
        with self.written():  # the files of a backup that is being taken are no backup's yet
            manifests = {name: self.read(name)[1] for name in self.names()}
            going = [name for name, manifest in manifests.items() if manifest.stack == stack][:-count]
            staying = [manifest for name, manifest in manifests.items() if name not in going]
            needed = {blob.sha256 for manifest in staying for blob in self._blobs_of(manifest)}
            for name in going:
                (self._manifests / f"{name}.json").unlink()
            # What was left by a backup that was killed goes, too.
            freed = sum(self.blobs.remove(digest) for digest in [*self.blobs.digests()] if digest not in needed)
            return Pruning(going, freed, sum(manifest.stack != stack for manifest in staying))

    def _blobs_of(self, manifest: Manifest) -> Iterator[Blob]:
        yield from (manifest.index, *manifest.databases.values(), *(kept.blob for kept in manifest.files))
        yield from filter(None, (entry.blob for entry in self.objects(manifest)))


def _moment(name: str) -> datetime | None:
    """When the backup of this name was taken; None if no backup has such a name."""
    try:
        moment = datetime.strptime(name, _NAME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if moment.strftime(_NAME) == name else None


@contextmanager
def _made() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StackError(f"Expected a folder for backups, found {error}. Name one that you may write to.") from error


def _packed(entries: Iterable[ObjectEntry]) -> Iterator[bytes]:
    """Lines of JSON, compressed; the same lines are the same bytes."""
    packer = zlib.compressobj(wbits=31)
    for entry in entries:
        yield packer.compress(json.dumps(entry._asdict()).encode() + b"\n")
    yield packer.flush()
