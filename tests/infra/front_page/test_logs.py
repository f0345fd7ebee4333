"""Tab Logs: lines of real files, the newest first, whatever is in them."""

import html
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra.accounts.audit import Actor, AuditEntry, log_line
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from infra.front_page import searches
from tests.infra.front_page.in_process import NOBODY, ask
from tests.infra.logs.log_folder import glog, ours, write

RUN = "7d444840-9dc0-41d1-b245-5ffdce74fad2"
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e \"'&"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path))
    logs = tmp_path / "logs"
    logs.mkdir()
    return logs


def lines(visitor: Visitor | None = None, **query: object) -> str:
    answer = ask(f"/logs/lines?{urlencode(query)}", visitor=visitor)
    assert answer.status_code == 200, answer.text
    return answer.text


def said(text: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"<span>(message \d+)</span>", text)]


def test_lines_are_shown_the_newest_first_and_page_by_page(folder: Path) -> None:
    write(folder / "worker.log", *(ours(number, f"message {number}") for number in range(0, 250, 2)))
    write(folder / "object-store.log", *(glog(number, f"message {number}") for number in range(1, 250, 2)))
    shown, more = [], "/logs/lines?"
    for page in range(3):
        text = ask(more).text
        shown += said(text)
        found = re.search(r'hx-get="([^"]+)"', text)
        more = html.unescape(found[1]) if found else ""
        assert bool(more) == (page < 2)
        write(folder / "mlflow.log", ours(1e8 + page, "message 9999", service="mlflow"))
    assert shown == [f"message {number}" for number in range(249, -1, -1)]


def test_lines_are_chosen_by_what_they_are_about(folder: Path) -> None:
    write(
        folder / "worker.log",
        ours(1, "message 1", flow_run_id=RUN, model="shapes", service="flow"),
        ours(2, "message 2", level="error"),
    )
    write(folder / "object-store.log", glog(3, "message 3", "W"))
    assert said(lines()) == ["message 3", "message 2", "message 1"]
    assert said(lines(level="warning")) == ["message 3", "message 2"]
    assert said(lines(service="flow")) == ["message 1"]
    assert said(lines(text="MESSAGE 2")) == ["message 2"]
    assert said(lines(until="2026-11-30T12:00:02")) == ["message 1"]
    with temporary_settings({PREFECT_API_URL: f"http://{NOBODY}/api"}):
        of_run = lines(run=RUN)
    assert said(of_run) == ["message 1"]
    assert "Only what the log files have of it" in of_run
    assert said(lines(model="shapes")) == ["message 1"]


def test_whatever_a_line_says_is_shown_as_text(folder: Path) -> None:
    fields = {"flow_run_id": HOSTILE, "model": HOSTILE, "user": HOSTILE, "archives": [HOSTILE], "request_id": HOSTILE}
    write(folder / "worker.log", ours(1, f"{HOSTILE}\n{HOSTILE}", service=HOSTILE, logger=HOSTILE, **fields))
    text = lines()
    assert "<script" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J\\u202e") >= 7


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"run": "../x"}, "Expected the id of a flow run"),
        ({"level": "loud"}, "Expected a level of debug, info"),
        ({"since": "soon"}, "Expected a time such as 10m"),
        ({"cursor": "x"}, "Expected a cursor of logs"),
        ({"text": "x" * 2000}, "Expected at most 1000 characters of text"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder: Path, query: dict[str, str], message: str) -> None:  # noqa: ARG001
    answer = ask(f"/logs/lines?{urlencode(query)}")
    assert (answer.status_code, message in html.unescape(answer.text)) == (400, True)


def test_a_cursor_names_no_file_but_a_log(folder: Path) -> None:
    """It is signed by nothing: places in it are numbers of files among the logs, and others are none."""
    from tasks.catalogue.cursors import ListRequest

    write(folder / "worker.log", ours(1, "message 1"))
    (folder.parent / "secrets.json").write_text(ours(2, "message 2"))
    asked = ListRequest(listing="logs", filters={}, cursor="", limit=100)
    number = (folder.parent / "secrets.json").stat().st_ino
    for place in (f"../secrets:{number}:10", f"worker:{number}:10", "worker:0:99999", "x"):
        cursor = asked.cursor_behind("2026-11-30T12:00:00+00:00", "0", place)
        assert "message 2" not in lines(cursor=cursor)
    assert ask("/logs/lines?" + urlencode({"cursor": asked.cursor_behind("soon", "x")})).status_code == 400


def test_a_search_that_takes_too_long_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "worker.log", ours(1, "message 1"))
    monkeypatch.setattr(searches, "LONGEST_S", -1.0)
    text = lines()
    assert "The search took too long, and earlier lines were not read" in text
    assert "No line is like that" not in text


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_entries_of_the_audit_log_are_for_admins(folder: Path, role: str) -> None:
    entry = log_line(AuditEntry(actor=Actor(name="boss"), part="studio", action="request"))
    write(folder / "studio.log", entry, ours(1, "message 1", service="studio") + entry, ours(2, "message 2"))
    for query in ({}, {"text": "boss"}, {"service": "studio", "level": "debug"}):
        shown = lines(visitor=Visitor(name="x", role=UserRole.parse(role)), **query)
        assert ("boss" in shown.replace('value="boss"', "")) == (role == "admin"), query
    assert "boss" in lines()  # the owner of the machine


def test_the_tab_offers_the_services_that_have_logs(folder: Path) -> None:
    write(folder / "triton.log", glog(1, "x"))
    text = ask("/logs?service=triton&text=%22%3E%3Cscript%3E").text
    assert '<option value="triton" selected>' in text
    assert "<script>" not in text.replace('<script src="', "")
