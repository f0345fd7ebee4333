"""Which pages a run has left."""

import pytest

from tasks.catalogue import run_pages


def test_a_run_has_the_pages_that_the_store_has_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {"1/report.html", "1/refusal.html", "2/evaluation.html", "1/other.html"}
    monkeypatch.setattr(run_pages._RUNS, "exists", stored.__contains__)
    assert run_pages.list_pages("1") == {
        "Why it was refused": "/files/runs/1/refusal.html",
        "Report": "/files/runs/1/report.html",
    }
    assert run_pages.list_pages("3") == {}
