"""Tables that can be read and copied, whatever the terminal."""

import json

import pytest
from prefect.states import Completed, Scheduled
from rich.console import Console

from studio import output, runs
from studio.runs import Run
from tasks.catalogue import run_pages
from tasks.storage.s3_client import StorageError

RUN = "3f0c1d0e-7d2b-4a63-9a39-0f6a1f1b2c3d"
ROWS = [(RUN, "shapes", tuple(f"archive-{number}.zip" for number in range(9)), None)]
COLUMNS = ("run", "model", "archives", "ended")


def test_what_is_no_terminal_gets_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(COLUMNS, ROWS)
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if RUN in line and "shapes" in line and "archive-8.zip" in line]
    assert err == ""


@pytest.mark.parametrize(("width", "left_out"), [(200, ""), (60, "archives, ended"), (20, "model, archives, ended")])
def test_a_narrow_terminal_leaves_out_columns_but_never_cuts_the_first(
    width: int, left_out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "OUT", Console(width=width, force_terminal=True))
    output.print_table(COLUMNS, ROWS)
    out, err = capsys.readouterr()
    assert RUN in out
    assert "archive-8.zip" not in out
    assert err == (f"no room for: {left_out}; --json has them\n" if left_out else "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_that_was_followed_is_told_with_the_addresses_of_its_pages(
    as_json: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("STUDIO_LIVE_URL", "http://127.0.0.1:8003/live")
    monkeypatch.setattr(runs, "connect", lambda: None)
    monkeypatch.setattr(Run, "state", Completed(message="3 classes"))
    monkeypatch.setattr(output, "follow", lambda *_: None)
    monkeypatch.setattr(run_pages._RUNS, "exists", {f"{RUN}/evaluation.html"}.__contains__)
    monkeypatch.setattr(run_pages._PREDICTIONS, "exists", frozenset().__contains__)
    output.finish(Run(RUN), "evaluate shapes", wait=True, as_json=as_json)
    address = f"http://127.0.0.1:8003/files/runs/{RUN}/evaluation.html"
    told = capsys.readouterr().out
    if as_json:
        assert json.loads(told)["pages"] == {"Evaluation": address}
    else:
        assert told.splitlines() == ["evaluate shapes: Completed: 3 classes", f"Evaluation: {address}"]

    def away(_: str) -> bool:
        raise StorageError("The object store is away.")

    monkeypatch.setattr(run_pages._RUNS, "exists", away)
    output.finish(Run(RUN), "evaluate shapes", wait=True, as_json=as_json)
    out, err = capsys.readouterr()
    assert ("Completed" in out, "its pages are not known: The object store is away." in err) == (True, True)


def test_who_does_not_follow_a_run_is_told_how_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr(runs, "connect", lambda: None)
    monkeypatch.setattr(Run, "state", Scheduled())
    output.finish(Run(RUN), "review with shapes", wait=False, as_json=True, hint="`studio runs --waiting` says where")
    out, err = capsys.readouterr()
    assert (json.loads(out)["run"], err) == (RUN, "`studio runs --waiting` says where\n")
