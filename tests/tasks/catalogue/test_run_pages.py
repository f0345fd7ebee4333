"""Which pages a run has left, and which there are about a version and about an archive."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tasks.catalogue import archives, run_pages
from tasks.catalogue.entries import PageEntry
from tasks.storage.object_store import ListedObject
from tasks.tracking.registered_versions import RegisteredVersion


def test_a_run_has_the_pages_that_the_store_has_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"1/report.html", "1/refusal.html", "2/evaluation.html", "1/other.html"}
    monkeypatch.setattr(run_pages._RUNS, "exists", stored.__contains__)
    monkeypatch.setattr(run_pages._PREDICTIONS, "exists", {"4/index.html"}.__contains__)
    assert run_pages.list_pages("4") == {"Gallery": "/predictions/4"}
    assert run_pages.list_pages("1") == {
        "Why it was refused": "/files/runs/1/refusal.html",
        "Report": "/files/runs/1/report.html",
    }
    assert run_pages.list_pages("3") == {}


def test_an_archive_has_the_pages_about_all_versions_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [str(uuid4()) for _ in range(3)]
    tags = {
        "archives": '{"a.zip": "d"}',
        "page.evaluation.html.1": json.dumps({"flow_run_id": runs[0], "archives": {"b.zip": "e"}, "split": "all"}),
        "page.refusal.html.1": json.dumps({"flow_run_id": runs[1], "archives": {}, "split": "val"}),
        "page.unknown.html.1": json.dumps({"flow_run_id": runs[2], "archives": {}, "split": "val"}),
    }
    version = RegisteredVersion(model="m", number=3, run_id="", created=datetime.now(UTC), tags=tags)
    stored = [ListedObject(name, 1, "", 0, datetime.now(UTC)) for name in ("a.zip", "b.zip", "c.zip")]
    monkeypatch.setattr(archives, "list_versions", lambda: [version])
    monkeypatch.setattr(archives, "read_checks", lambda keys: [None for _ in keys])
    refusal = PageEntry(
        title="Why it was refused",
        version="m/3",
        archives=("a.zip",),
        split="val",
        path=f"/files/runs/{runs[1]}/refusal.html",
    )
    evaluation = PageEntry(
        title="Evaluation",
        version="m/3",
        archives=("b.zip",),
        split="all",
        path=f"/files/runs/{runs[0]}/evaluation.html",
    )
    assert [each.pages for each in archives._describe(stored)] == [(refusal,), (evaluation,), ()]
    assert run_pages.version_pages(version) == (evaluation, refusal)
