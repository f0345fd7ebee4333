"""Pages of archives, in the real store."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.catalogue import archives
from tasks.catalogue.cursors import CatalogueError
from tasks.catalogue.entries import ArchiveEntry, Page, plain_values
from tasks.dataset.findings import Report, Severity, Statistics, make_finding
from tasks.finding_codes import Code
from tasks.storage.object_store import ListedObject, ObjectStore
from tasks.storage.s3_client import StorageError
from tasks.validation import check_records

pytestmark = pytest.mark.usefixtures("stack")
DATASETS = ObjectStore("datasets")


def upload(*keys: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: DATASETS.put(key, key.encode()), keys))


def check(key: str, *severities: Severity, digest: str = "d" * 64) -> None:
    """Leave the record of a check of what is stored now."""
    stored = DATASETS.find(key)
    assert stored is not None
    findings = [make_finding(each, Code.CLASS_FEW, "many", "few", "Add some.") for each in severities]
    statistics = Statistics(task="detect", class_names=["a"])
    report = Report(archive=key, digest=digest, findings=findings, statistics=statistics)
    check_records.record_check.fn(report, stored.etag, "run-1")


def pages(limit: int, **filters: Any) -> Iterator[Page[ArchiveEntry]]:
    cursor: str | None = ""
    while cursor is not None:
        page = archives.list_archives(cursor=cursor, limit=limit, **filters)
        cursor = page.next_cursor
        yield page


def names(limit: int, **filters: Any) -> list[str]:
    return [entry.name for page in pages(limit, **filters) for entry in page.entries]


HOSTILE = [f"h7/{name}.zip" for name in ("a", "a b", "ü", "<b>&", "x/%2e", "sub/a", "😀", "a+b")]


def test_pages_of_any_size_give_each_archive_once() -> None:
    upload(*HOSTILE)
    expected = sorted(HOSTILE)
    for limit in (1, 3, 7, 8, 9, 50):
        assert sorted(names(limit, search="h7/")) == expected


def test_the_last_page_has_no_cursor() -> None:
    upload("last-a.zip", "last-b.zip")
    assert [len(page.entries) for page in pages(1, search="last-")] == [1, 1]
    assert [page.next_cursor for page in pages(2, search="last-")] == [None]
    assert [page.entries for page in pages(2, search="last-nowhere")] == [()]


def test_a_search_minds_neither_case_nor_how_an_accent_was_typed() -> None:
    upload("search-É-Straße.zip")
    for search in ("SEARCH-é-", "search-e\u0301-strasse"):
        assert names(50, search=search) == ["search-É-Straße.zip"]


def test_folders_are_no_archives() -> None:
    DATASETS.put("folder-only/", b"")
    upload("folder-only/a.zip")
    assert names(50, search="folder-only") == ["folder-only/a.zip"]


def test_archives_are_found_by_their_verdict() -> None:
    upload(*(f"verdict-{number}.zip" for number in range(8)))
    for number, severities in enumerate([(), (), (Severity.WARNING,), (Severity.ERROR,), (Severity.ERROR,)]):
        check(f"verdict-{number}.zip", *severities)
    upload("verdict-4.zip")
    DATASETS.put("verdict-4.zip", b"replaced since it was checked")

    found = {
        verdict: sorted(names(limit, search="verdict-", verdict=verdict))
        for limit in (1, 50)
        for verdict in ("valid", "valid-with-warnings", "invalid", "unchecked")
    }
    assert found == {
        "valid": ["verdict-0.zip", "verdict-1.zip"],
        "valid-with-warnings": ["verdict-2.zip"],
        "invalid": ["verdict-3.zip"],
        "unchecked": ["verdict-4.zip", "verdict-5.zip", "verdict-6.zip", "verdict-7.zip"],
    }
    assert len(names(3, search="verdict-")) == 8


def test_an_entry_says_what_the_check_found() -> None:
    upload("told.zip", "silent.zip")
    check("told.zip", Severity.WARNING, digest="e" * 64)
    told, silent = archives.read_archive("told.zip"), archives.read_archive("s3://datasets/silent.zip")

    assert (told.name, told.size, told.verdict, told.task, told.classes) == (
        "told.zip",
        8,
        "valid-with-warnings",
        "detect",
        ("a",),
    )
    assert (told.images, told.digest, told.report) == (0, "e" * 64, "run-1")
    assert told.checked is not None
    assert abs(datetime.now(UTC) - told.checked) < timedelta(minutes=1)
    assert abs(told.checked - told.modified) < timedelta(minutes=1)
    assert (silent.verdict, silent.images, silent.checked, silent.versions) == ("unchecked", None, None, ())
    assert archives.list_archives(search="told.zip").entries == (told,)
    assert plain_values(told)["modified"] == told.modified.isoformat()


def test_a_key_that_looks_like_an_address_is_named_by_its_own() -> None:
    """A store of AWS has such keys, SeaweedFS does not."""
    stored = ListedObject("s3://media/a.zip", 1, "", 0, datetime.now(UTC))
    assert archives._entry(stored, None, (), ()).name == "s3://datasets/s3://media/a.zip"


@pytest.mark.parametrize("name", ["none.zip", "s3://media/told.zip", "told"])
def test_an_archive_that_is_not_there_is_a_clear_error(name: str) -> None:
    with pytest.raises(CatalogueError, match="Expected an archive in bucket datasets, found no"):
        archives.read_archive(name)


def test_a_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(StorageError, match="leave out"):
        archives.read_archive("../told.zip")


def test_a_verdict_that_is_none_is_refused() -> None:
    with pytest.raises(CatalogueError, match="a verdict of valid, valid-with-warnings, invalid, unchecked, found 'ok'"):
        archives.list_archives(verdict="ok")


def test_archives_are_listed_if_mlflow_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    upload("alone.zip")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert archives.read_archive("alone.zip").versions is None


def test_nothing_comes_twice_and_nothing_is_left_out_while_others_upload() -> None:
    """500 archives are there, and 50 more come while they are read, before, between and behind them."""
    present = [f"busy/{number % 10}/{number:05d}.zip" for number in range(500)]
    upload(*present)
    added = [f"busy/{number % 11}/{number * 10:05d}-new.zip" for number in range(50)]
    done = threading.Event()

    def add() -> None:
        for key in added:
            upload(key)
        done.set()

    seen: Counter[str] = Counter()
    uploader = threading.Thread(target=add)
    uploader.start()
    for page in pages(25, search="busy/"):
        seen.update(entry.name for entry in page.entries)
    uploader.join()

    assert done.is_set()
    assert {seen[key] for key in present} == {1}
    assert set(seen) <= {*present, *added}
    assert max(seen.values()) == 1
