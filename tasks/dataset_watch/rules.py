"""Which objects of bucket `datasets` are archives, and which of these have not been checked as they are now."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from tasks.errors import safe_repr
from tasks.parameters import Archive
from tasks.storage.object_names import Bucket, S3Uri, parse_s3_uri
from tasks.validation.check_records import check_id

QUEUE = "checks"  # of checks that begin by themselves
EXTENSION = ".zip"
SOURCES = "sources/"  # archives in the formats of other tools, which import-dataset reads and no check
NO_ARCHIVE = (
    f"expected a name that ends in {EXTENSION}, outside folder {SOURCES}, whose archives are for import-dataset"
)
MAX_KEY_BYTES = 1024  # of S3
MOST_CHECKS = 3  # of an archive that fail without a verdict; then nobody checks it by itself
_EXAMPLES = 20  # names of objects that are left out, of which a report shows no more
_NAME = TypeAdapter[str](Archive)


def idempotency_key(key: str, etag: str) -> str:
    """Return the SHA-256 (hex) of key and ETag: Prefect starts one check of the same bytes, whoever asks for it."""
    return hashlib.sha256(check_id(key, etag).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class FoundArchive:
    """An archive in bucket `datasets`: its key, the tag of its content, and the second in which it was written."""

    key: str
    etag: str
    modified: datetime

    @property
    def check_id(self) -> str:
        """The name of its check, by key and ETag; its record and its mark are found by it."""
        return check_id(self.key, self.etag)

    @property
    def idempotency_key(self) -> str:
        """The key for which Prefect starts one run."""
        return idempotency_key(self.key, self.etag)

    @property
    def written(self) -> datetime:
        """The latest moment at which it can have been written: stores tell whole seconds."""
        return self.modified + timedelta(seconds=1)

    @property
    def address(self) -> str:
        """The archive as a parameter of flows; a key that looks like an address would name another object."""
        return _address(self.key)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What bucket `datasets` holds: how many archives, those that are to be checked, and what is left out.

    `unusable` says of keys that end in `.zip` why no flow takes them, `others` are examples of the `other_objects`.
    """

    archives: int
    unchecked: tuple[FoundArchive, ...]
    unusable: Mapping[str, str]
    other_objects: int
    others: tuple[str, ...]


def survey(
    listed: Iterable[FoundArchive],
    checked: Collection[str],
    marks: Mapping[str, datetime],
    failures: Mapping[str, Sequence[datetime]],
) -> Survey:
    """Sort the objects of a listing by what has to be done.

    Args:
        listed: The objects of bucket `datasets`.
        checked: The `check_id`s of what has a verdict.
        marks: When a check was started, by `check_id`. One from before the archive was written is of an earlier upload
            of the same bytes, which somebody has deleted.
        failures: When checks of each key failed without a verdict. Such a check is started again, until `MOST_CHECKS`
            of an archive as it is now have failed.
    """
    archives = other_objects = 0
    unchecked: list[FoundArchive] = []
    unusable: dict[str, str] = {}
    others: list[str] = []
    for found in listed:
        if not is_archive(found.key):
            other_objects += 1
            others += [found.key] if len(others) < _EXAMPLES else []
        elif reason := refusal(found.key):
            unusable[found.key] = reason
        else:
            archives += 1
            name = found.check_id
            failed = [time for time in failures.get(found.key, ()) if time >= found.modified]
            begun = max([found.modified, *failed])
            is_known = name in checked or len(failed) >= MOST_CHECKS or (name in marks and marks[name] >= begun)
            unchecked += [] if is_known else [found]
    return Survey(
        archives=archives,
        unchecked=tuple(unchecked),
        unusable=unusable,
        other_objects=other_objects,
        others=tuple(others),
    )


def is_archive(key: str) -> bool:
    """Return whether the name of an object is that of a dataset archive, and not of one that is to be imported."""
    return key.lower().endswith(EXTENSION) and not key.startswith(SOURCES)


def refusal(key: str) -> str:
    """Return why no flow takes an archive of this key; empty if flows do."""
    address = _address(key)
    try:
        if len(key.encode()) > MAX_KEY_BYTES:
            return f"expected a key of at most {MAX_KEY_BYTES} bytes, found {safe_repr(key)}"
        _NAME.validate_python(address)
        name = parse_s3_uri(address, Bucket.DATASETS)
    except UnicodeEncodeError:
        return f"expected a key that is Unicode text, found {safe_repr(key)}"
    except ValidationError as error:
        return error.errors()[0]["msg"]
    except ValueError as error:
        return str(error)
    return "" if name.key == key else f"expected the name of an object, found {key!r}"


def _address(key: str) -> str:
    return S3Uri(Bucket.DATASETS, key).name_for(Bucket.DATASETS)


def find_checked(archives: Iterable[FoundArchive], checks: Mapping[str, datetime]) -> frozenset[FoundArchive]:
    """Return the archives that a check has read as they are now: it began after they were written.

    `checks` has the begin of the newest check of each key.
    """
    return frozenset(found for found in archives if found.key in checks and checks[found.key] >= found.written)
