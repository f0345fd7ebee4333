"""The archives of bucket `datasets`, in the store's order, with their newest check."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from tasks.catalogue.cursors import CatalogueError, ListRequest
from tasks.catalogue.entries import VERDICTS, ArchiveEntry, ArchiveVerdict, Page, PageEntry
from tasks.catalogue.lineage_nodes import grouped
from tasks.catalogue.run_pages import version_pages
from tasks.dataset.findings import Verdict
from tasks.errors import expected_found_fix, safe_repr
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ListedObject, ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.storage.steps import object_name
from tasks.tracking.lineage import archives_of
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.registered_versions import RegisteredVersion, list_versions
from tasks.validation.check_records import CheckRecord, check_id, list_checks, read_checks

UNCHECKED: ArchiveVerdict = "unchecked"

_DATASETS = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)


def list_archives(
    *, cursor: str = "", limit: int = 50, search: str = "", verdict: str | None = None
) -> Page[ArchiveEntry]:
    """Return a page of the archives whose name holds `search`, in any case, and that have this verdict (None: any).

    An archive that is there from the first page to the last is in exactly one page, whatever is uploaded meanwhile.
    A page may have fewer than `limit` archives if their verdicts change while it is made.

    Raises:
        CatalogueError: The cursor is of another list, or the limit or the verdict cannot be.
        StorageError: The object store cannot be reached.
    """
    if verdict not in {None, *VERDICTS}:
        fix = "Ask for one of them, or for none to get all."
        raise CatalogueError(expected_found_fix(f"a verdict of {', '.join(VERDICTS)}", safe_repr(verdict), fix))
    request = ListRequest(
        listing="archives", filters={"search": search, "verdict": verdict or ""}, cursor=cursor, limit=limit
    )
    after = "".join(request.position)
    found = list(islice(_matches(after, search, _verdict_filter(verdict)), limit + 1))
    shown = found[:limit]
    entries = [entry for entry in _describe(shown) if verdict in {None, entry.verdict}]
    more = request.cursor_behind(shown[-1].key) if len(found) > limit else None
    return Page(entries=tuple(entries), next_cursor=more)


def read_archive(name: str) -> ArchiveEntry:
    """Return an archive by its key in bucket `datasets`, or by its `s3://` address there.

    Raises:
        CatalogueError: There is no such archive.
        StorageError: The name is none, or the object store cannot be reached.
    """
    address = object_name(name, Bucket.DATASETS)
    stored = _DATASETS.find(address.key) if address.bucket == Bucket.DATASETS else None
    if stored is None:
        fix = "Look for it with `studio datasets`, or upload it with `studio upload x.zip`."
        raise CatalogueError(expected_found_fix("an archive in bucket datasets", f"no {safe_repr(name)}", fix))
    return next(_describe([stored]))


def _matches(after: str, search: str, has_verdict: Callable[[ListedObject], bool]) -> Iterator[ListedObject]:
    wanted = _folded(search)
    for stored in _DATASETS.list_behind(after):
        if not stored.key.endswith("/") and wanted in _folded(stored.key) and has_verdict(stored):
            yield stored


def _folded(text: str) -> str:
    """A text as people mean it: `É` is `é`, typed as one sign or as two."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _verdict_filter(verdict: str | None) -> Callable[[ListedObject], bool]:
    if verdict is None:
        return lambda _stored: True
    wanted = verdict != UNCHECKED
    checks = list_checks(Verdict(verdict) if wanted else None)
    return lambda stored: (check_id(stored.key, stored.etag) in checks) == wanted


def _describe(archives: Iterable[ListedObject]) -> Iterator[ArchiveEntry]:
    archives = list(archives)
    checks = read_checks((stored.key, stored.etag) for stored in archives)
    versions = _versions() if archives else []
    trained = grouped((archive, each.name) for each in versions or () for archive in archives_of(each.tags))
    pages = grouped(
        (archive, page) for each in versions or () for page in version_pages(each) for archive in page.archives
    )
    for stored, check in zip(archives, checks, strict=True):
        learnt = None if versions is None else tuple(trained.get(stored.key, ()))
        yield _entry(stored, check, learnt, tuple(pages.get(stored.key, ())))


def _entry(
    stored: ListedObject, check: CheckRecord | None, versions: tuple[str, ...] | None, pages: tuple[PageEntry, ...]
) -> ArchiveEntry:
    return ArchiveEntry(
        name=S3Uri(Bucket.DATASETS, stored.key).name_for(Bucket.DATASETS),
        size=stored.size,
        etag=stored.etag.strip('"'),
        modified=stored.modified,
        verdict=check.verdict.value if check else UNCHECKED,
        task=check.task if check else None,
        classes=check.class_names if check else (),
        images=check.images if check else None,
        digest=check.digest if check else None,
        checked=check.checked if check else None,
        report=check.flow_run_id if check else None,
        versions=versions,
        pages=pages,
        label_sources=check.label_sources if check else (),
    )


def _versions() -> list[RegisteredVersion] | None:
    """All versions; None if MLflow is away."""
    try:
        return list_versions()
    except TrackingError:
        return None
