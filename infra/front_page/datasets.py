"""Tab Datasets: the archives with their checks, and of each its report, its lineage and how it differs from another."""

import threading
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.front_page.pages import LONGEST_QUERY, query_of, render, rows_of
from infra.front_page.sample_pictures import read_sample_pictures
from tasks.catalogue.archives import list_archives, read_archive
from tasks.catalogue.difference import compare_archives
from tasks.catalogue.entries import VERDICTS
from tasks.dataset_watch.checks import has_failed, list_started
from tasks.dataset_watch.rules import MOST_CHECKS, NO_ARCHIVE, SOURCES, FoundArchive, is_archive, refusal
from tasks.errors import StudioError
from tasks.importing.changes import list_changes
from tasks.importing.import_records import read_import
from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import StorageError
from tasks.storage.steps import object_name

ARCHIVES, NAMES = 40, 10  # on a page of the list, among the names that a field offers
_SHOWN_CHANGES = 20  # of an import
_COMPARISON = threading.Lock()  # it holds all labels of two archives in memory


def show_tab(request: Request) -> Response:
    """Answer with the tab."""
    return render(request, "datasets.html", verdicts=VERDICTS, longest_query=LONGEST_QUERY, **_filters(request))


def show_list(request: Request) -> Response:
    """Answer with a page of the list; with the first, the address in the browser gets its filters.

    Raises:
        CatalogueError: The cursor or the verdict cannot be.
        StorageError: The object store cannot be reached.
    """
    cursor, filters = request.query_params.get("cursor", ""), _filters(request)
    page = list_archives(cursor=cursor, limit=rows_of(request, ARCHIVES), **filters)
    chosen = {name: value for name, value in filters.items() if value}
    template = "datasets_rows.html" if cursor else "datasets_list.html"
    answer = render(request, template, page=page, filters=chosen, sources=SOURCES)
    if not cursor:
        answer.headers["HX-Replace-Url"] = f"/datasets?{query_of(chosen)}".removesuffix("?")
    return answer


def _filters(request: Request) -> dict[str, Any]:
    """What `list_archives` is asked for; no verdict is None."""
    asked = request.query_params
    return {"search": asked.get("search", ""), "verdict": asked.get("verdict") or None}


def show_sample_pictures(request: Request) -> Response:
    """Answer with a few pictures of the report of a check, or with nothing: they are no reason for an alarm."""
    try:
        pictures = read_sample_pictures(str(request.path_params["run"]))
    except StorageError:
        pictures = []
    answer = render(request, "datasets_samples.html", pictures=pictures)
    if pictures:
        answer.headers["Cache-Control"] = "private, max-age=86400"  # a report is written once
    return answer


def show_archive(request: Request) -> Response:
    """Answer with the page of an archive.

    Raises:
        StorageError: The name is none.
    """
    name = _name(request)
    return render(request, "datasets_archive.html", name=name, address=str(object_name(name, Bucket.DATASETS)))


def show_facts(request: Request) -> Response:
    """Answer with what the newest check of an archive found.

    Raises:
        CatalogueError: There is no such archive.
        StorageError: The object store cannot be reached.
    """
    archive = read_archive(_name(request))
    imported = read_import(archive.digest or "")
    changes = list_changes(imported.changes, _SHOWN_CHANGES) if imported else []
    return render(request, "datasets_facts.html", archive=archive, sources=SOURCES, imported=imported, changes=changes)


def show_report(request: Request) -> Response:
    """Answer with the report of the newest check of an archive, or with what comes of its check.

    Raises:
        CatalogueError: There is no such archive.
        PrefectUnavailableError: There is no report, and Prefect's server does not answer.
        StorageError: The object store cannot be reached.
    """
    archive = read_archive(_name(request))
    key = object_name(archive.name, Bucket.DATASETS).key
    found = FoundArchive(key=key, etag=archive.etag, modified=archive.modified)
    checks = [] if archive.report else list_started(found)
    newest = checks[-1] if checks else None
    return render(
        request,
        "datasets_report.html",
        archive=archive,
        check=newest,
        has_ended=newest is not None and newest.is_over(datetime.now(UTC)),
        is_repeated=newest is not None and has_failed(newest) and len(checks) < MOST_CHECKS,
        reason=refusal(key) if is_archive(key) else NO_ARCHIVE,
    )


def show_names(request: Request) -> Response:
    """Answer with the names that hold what was typed.

    Raises:
        StorageError: The object store cannot be reached.
    """
    page = list_archives(limit=NAMES, search=request.query_params.get("other", ""))
    return render(request, "datasets_names.html", names=[entry.name for entry in page.entries])


def show_difference(request: Request) -> Response:
    """Answer with how an archive differs from another; one comparison is made at a time.

    Raises:
        CatalogueError: One is no archive that can be read.
        StorageError: One is not there, or the object store cannot be reached.
        StudioError: Another comparison is being made.
    """
    name, other = _name(request), request.query_params.get("other", "")
    if not _COMPARISON.acquire(blocking=False):
        raise StudioError("Expected one comparison at a time, found another going on. Try again when it has ended.")
    try:
        difference = compare_archives(name, other)
    finally:
        _COMPARISON.release()
    return render(request, "datasets_difference.html", text=difference.to_text())


def _name(request: Request) -> str:
    return request.query_params.get("name", "")


ROUTES = [
    Route("/datasets", show_tab),
    Route("/datasets/list", show_list),
    Route("/datasets/samples/{run:uuid}", show_sample_pictures),
    Route("/datasets/archive", show_archive),
    Route("/datasets/facts", show_facts),
    Route("/datasets/report", show_report),
    Route("/datasets/names", show_names),
    Route("/datasets/difference", show_difference),
]
