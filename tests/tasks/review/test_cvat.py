"""The client of CVAT and what a round does with it, before a stand-in: `tests/cvat.py` says what that is."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.dataset.label_origins import Origin
from tasks.importing.importer import import_archive
from tasks.parameters import ReviewParams
from tasks.review import cvat, cvat_format, steps
from tasks.review.answers import Answers, sort_answers
from tasks.review.changes import Change
from tasks.review.comparison import compare_with_archive
from tasks.review.cvat import Cvat, CvatError, CvatUnavailableError
from tasks.review.cvat_format import CvatExportError, CvatTaskError
from tasks.review.rounds import Round, ToolName
from tasks.review.tools import choose_tool
from tasks.settings import Settings
from tests.cvat import PASSWORD, TOKEN, USER, CvatStandIn, Task, run_cvat
from tests.tasks.importing import sources
from tests.tasks.review.rounds import CLASS_NAMES, HEIGHT, WIDTH, review_round

RUN = "22222222-2222-2222-2222-222222222222"
ENTRIES = ("media/day/1.jpg", "media/night/1.jpg", "media/2.jpg", "media/\u00e9t\u00e9.jpg", "media/5.jpg")


@pytest.fixture
def server() -> Iterator[CvatStandIn]:
    with run_cvat() as server:
        yield server


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What bucket `runs` holds: the images of the round."""
    kept = {f"{RUN}/review-images/{entry}": sources.jpeg(at, WIDTH, HEIGHT) for at, entry in enumerate(ENTRIES)}
    monkeypatch.setattr(steps._RUNS, "get", kept.get)
    monkeypatch.setattr(steps._RUNS, "put", lambda key, data, *_: kept.update({key: data}))
    return kept


@pytest.fixture(autouse=True)
def environment(server: CvatStandIn, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("CVAT_URL", f"{server.address}/")
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
    monkeypatch.setattr(cvat, "JOB_IMAGES", 2)
    monkeypatch.setattr(cvat, "_SENT_IMAGES", 2)
    monkeypatch.setattr(cvat, "_POLL_S", 0.01)


def _round(task: str = "detect") -> Round:
    return review_round(task, *ENTRIES, tool=ToolName.CVAT)


def _show(review: Round, folder: Path) -> str:
    return steps.show_round.fn(RUN, "a review", review, folder)


def _only(server: CvatStandIn) -> Task:
    (task,) = server.tasks.values()
    return task


def _packed(review: Round, answers: Answers, folder: Path) -> Path:
    return steps.pack_answers.fn(RUN, answers, steps.answer_documents(review, answers), folder)


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "classify"])
def test_what_is_submitted_as_it_was_suggested_is_accepted(server: CvatStandIn, task: str, tmp_path: Path) -> None:
    review = _round(task)
    page = _show(review, tmp_path)
    made = _only(server)
    assert page == f"{server.address}/tasks/{made.id}"
    assert (made.name, len(made.images), made.jobs) == (f"review {RUN}", 5, ["new"] * 3)
    assert [*made.images.values()] == [sources.jpeg(at, WIDTH, HEIGHT) for at in range(5)]
    made.finish()
    answers = steps.read_answers.fn(RUN, review)
    assert (len(answers.submitted), answers.skipped, answers.still_open, answers.seconds) == (5, 0, 0, {})
    source = _packed(review, answers, tmp_path)
    summary = import_archive(source, tmp_path / "back.zip", steps.import_params(review, ReviewParams()), {})
    compared = compare_with_archive(tmp_path / "back.zip", review, summary.class_names, answers.seconds, RUN)
    totals = compared.totals
    assert (summary.format, summary.class_names) == ("cvat", CLASS_NAMES)
    assert (set(totals.changes), totals.untouched) == ({Change.ACCEPTED}, 5)
    assert {each.origin for each in compared.origins} == {
        Origin.ACCEPTED,
        *(() if task == "classify" else (Origin.HUMAN,)),
    }


def test_images_of_completed_jobs_are_submitted_and_deleted_ones_skipped(
    server: CvatStandIn, store: dict[str, bytes], tmp_path: Path
) -> None:
    """What people did to the others, and what they deleted there, waits."""
    review = _round()
    _show(review, tmp_path)
    task = _only(server)
    task.deleted = {1, 4}
    task.finish(0)
    task.shapes = [shape for shape in task.shapes if shape["frame"] != 0]
    answers = steps.read_answers.fn(RUN, review)
    assert [*answers.submitted] == [ENTRIES[0]]
    assert (answers.skipped, answers.still_open) == (1, 3)
    path = _packed(review, answers, tmp_path)
    first = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["annotations.xml", ENTRIES[0]]
        steps.keep_answers.fn(RUN, review, steps.answer_documents(review, answers))
        assert archive.read("annotations.xml") == store[f"{RUN}/review/answers.xml"]
    assert _packed(review, steps.read_answers.fn(RUN, review), tmp_path).read_bytes() == first


class _Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("heard", [True, False], ids=["after an answer", "before an answer"])
def test_a_round_that_is_killed_anywhere_becomes_one_task_with_each_image_once(
    server: CvatStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    """Killed at each of its requests in turn, and run again; until all is there, nobody finds the task."""
    review = _round()
    request = cvat._LimitedConnection.request
    left = 0

    def dies(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if not left and heard:
            raise _Killed
        answer = request(self, *arguments, **options)
        if not left:
            raise _Killed
        return answer

    monkeypatch.setattr(cvat._LimitedConnection, "request", dies)
    for kill in range(1, 100):
        server.tasks.clear()
        server.requests.clear()
        left = kill
        try:
            _show(review, tmp_path)
        except _Killed:
            if server.tasks and "prepared" in _only(server).name:
                left = 0
                assert steps.read_answers.fn(RUN, review).still_open == 5
        else:
            break
        left = 0
        _show(review, tmp_path)
        task = _only(server)
        assert (task.name, len(task.images), len(task.shapes)) == (f"review {RUN}", 5, 10)
    assert kill > 15


def test_images_that_cvat_is_still_making_are_waited_for(server: CvatStandIn, tmp_path: Path) -> None:
    """And a task whose images it could not make is made anew."""
    server.work = "failed"
    with pytest.raises(CvatError, match="Its log"):
        _show(_round(), tmp_path)
    first = _only(server)
    (request,) = server.requests.values()
    request["status"] = "started"
    asked = 0

    def goes_on(_: str, path: str, answer: Any) -> Any:
        nonlocal asked
        if path.startswith("/api/requests/"):
            asked += 1
            if asked == 3:
                server.attach(first, [*first.uploaded])
                request["status"] = "finished"
        return answer

    server.work, server.edit = "finished", goes_on
    _show(_round(), tmp_path)
    assert _only(server) is first
    first.name, first.images, request["status"] = f"review {RUN} (being prepared)", {}, "failed"
    _show(_round(), tmp_path)
    assert _only(server) is not first


def test_the_patrol_asks_whether_a_job_is_open(server: CvatStandIn, tmp_path: Path) -> None:
    _show(_round(), tmp_path)
    task = _only(server)
    with Cvat(Settings()) as tool:
        for state, is_open in (("rejected", True), ("in progress", True), ("completed", False)):
            task.jobs = ["completed", state, "completed"]
            assert tool.has_open_jobs(task.id) is is_open
        task.jobs = []
        assert tool.has_open_jobs(task.id)


def test_a_password_opens_a_session_and_closes_it(server: CvatStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", "")
    monkeypatch.setenv("CVAT_USERNAME", USER)
    monkeypatch.setenv("CVAT_PASSWORD", PASSWORD)
    monkeypatch.setenv("CVAT_ORGANIZATION", "us")
    with Cvat(Settings()) as tool:
        assert tool.find_task(RUN) is None
        assert server.sessions == 1
        assert server.headers[-1]["x-organization"] == "us"
    assert server.sessions == 0


def test_without_an_address_it_says_how_to_have_one() -> None:
    with pytest.raises(CvatError, match="CVAT_URL"):
        Cvat(Settings(cvat_url=""))


@pytest.mark.parametrize("address", ["ftp://x", "http://[", "http://127.0.0.1:1"])
def test_an_address_at_which_no_cvat_is_is_told(address: str) -> None:
    settings = Settings(cvat_url=address, cvat_access_token=SecretStr("a token"))
    with pytest.raises(CvatError, match="CVAT") as raised, Cvat(settings, 5) as tool:
        tool.find_task(RUN)
    assert "a token" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        ((401, {"detail": "\x1b[2J no"}), CvatError, "401 of GET.*CVAT_ACCESS_TOKEN"),
        ((200, b"<html>"), CvatError, "2.80"),
        ((200, b"\xff\xfe"), CvatError, "2.80"),
        ((200, b"[" * 100_000), CvatError, "2.80"),
        ((200, {"results": [{"id": "x; rm"}]}), CvatError, "2.80"),
        ((200, [7]), CvatError, "2.80"),
        ((200, None), CvatError, "2.80"),
        ((200, b" " * 2000), CvatError, "at most 1,000 bytes"),
        ((302, "http://127.0.0.1:1/api/tasks"), CvatError, "302 of GET"),
        ((502, {}), CvatUnavailableError, "502"),
    ],
)
def test_what_goes_wrong_is_told(
    server: CvatStandIn,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, Any],
    error: type[CvatError],
    match: str,
) -> None:
    monkeypatch.setattr(cvat, "MAX_ANSWER_BYTES", 1000 if answer[1] == b" " * 2000 else cvat.MAX_ANSWER_BYTES)
    server.edit = lambda *_: answer
    with Cvat(Settings()) as tool, pytest.raises(error, match=match) as raised:
        tool.find_task(RUN)
    assert type(raised.value) is error
    assert "\x1b" not in str(raised.value)


def _zip(text: str | bytes, name: str = "annotations.xml") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("path", "value", "error", "match"),
    [
        ("/api/jobs", {"start_frame": -1}, CvatError, "-1 to 1"),
        ("/api/jobs", {"stop_frame": 2**31 - 1}, CvatError, "images 0 to 4"),
        ("/api/jobs", {"state": ["completed"], "start_frame": "0"}, CvatError, "2.80"),
        ("/dataset/download", b"no zip", CvatExportError, "an export of CVAT"),
        (
            "/dataset/download",
            _zip("<annotations/>", "x.xml"),
            CvatExportError,
            "annotations.xml in an export of CVAT, found none",
        ),
        ("/dataset/download", _zip("<annotations/>"), CvatError, "image '000000-1.jpg' in the export"),
        ("/dataset/download", _zip("<annotations><image"), CvatExportError, "XML"),
        ("/dataset/download", _zip(BOMB), CvatExportError, "XML"),
        ("/dataset/download", _zip('<a><image name="x"/><image name="x"/></a>'), CvatExportError, "twice"),
        ("/dataset/download", _zip(b"<a>" + b" " * 2**20 + b"</a>"), CvatExportError, "200 times its packed size"),
        ("/dataset/download", _zip(os.urandom(200_000)), CvatExportError, "at most 100000 bytes"),
    ],
)
def test_an_answer_that_does_not_fit_the_round_is_refused(  # noqa: PLR0917
    server: CvatStandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    path: str,
    value: Any,
    error: type[Exception],
    match: str,
) -> None:
    monkeypatch.setattr(cvat_format, "MAX_DOCUMENT_BYTES", 100_000)
    review = _round()
    _show(review, tmp_path)
    _only(server).finish()

    def lies(_: str, asked: str, answer: Any) -> Any:
        if not asked.endswith(path):
            return answer
        if isinstance(value, bytes):
            return answer[0], value
        jobs = answer[1]["results"]
        return answer[0], answer[1] | {"results": [jobs[0] | value, *jobs[1:]]}

    server.edit = lies
    with pytest.raises(error, match=match):
        steps.read_answers.fn(RUN, review)


def test_what_an_export_says_besides_is_left_out_and_told(server: CvatStandIn, tmp_path: Path) -> None:
    """Of other images nothing is taken; numbers that are none are counted; a class that somebody has added is one."""
    review = _round()
    _show(review, tmp_path)
    _only(server).finish()
    odd = "".join(
        f'<image name="{name}" width="{WIDTH}" height="{HEIGHT}">'
        '<box label="cell" xtl="nan" ytl="1" xbr="9" ybr="9"/><box label="cell" xtl="1" ytl="1" xbr="inf" ybr="9"/>'
        '<box label="new &lt;one&gt;" xtl="1" ytl="1" xbr="9e6" ybr="9"/></image>'
        for name in ("../../etc/passwd", "000009-x.jpg", *cvat_format.name_files(_round()))
    )
    server.edit = lambda _, path, answer: (
        (200, _zip(f"<annotations>{odd}</annotations>")) if path.endswith("/download") else answer
    )
    answers = steps.read_answers.fn(RUN, review)
    source = _packed(review, answers, tmp_path)
    summary = import_archive(source, tmp_path / "back.zip", steps.import_params(review, ReviewParams()), {})
    assert summary.images == {"train": 5}
    assert summary.class_names == (*CLASS_NAMES, "new <one>")
    assert summary.objects == {"new <one>": 5}
    assert summary.changes["left out: a box whose numbers are not right"] == 10


def test_an_export_elsewhere_is_not_fetched_and_hears_no_key(server: CvatStandIn, tmp_path: Path) -> None:
    review = _round()
    _show(review, tmp_path)
    _only(server).finish()
    with run_cvat() as other:
        server.address = other.address
        with pytest.raises(CvatError, match=r"addresses of 127\.0\.0\.1"):
            steps.read_answers.fn(RUN, review)
        assert other.asked == []


def test_an_export_under_the_scheme_of_a_proxy_is_fetched_under_ours(server: CvatStandIn, tmp_path: Path) -> None:
    """CVAT behind one that speaks HTTPS calls itself http, or the other way round."""
    review = _round()
    _show(review, tmp_path)
    _only(server).finish()
    server.address = server.address.replace("http:", "https:")
    assert len(steps.read_answers.fn(RUN, review).submitted) == 5


def test_a_task_with_other_images_or_labels_is_refused(server: CvatStandIn, tmp_path: Path) -> None:
    """Suggestions would lie elsewhere in it."""

    def turned(_: str, path: str, answer: Any) -> Any:
        if path.endswith("/data/meta"):
            answer[1]["frames"][0] |= {"width": HEIGHT, "height": WIDTH}
        return answer

    server.edit = turned
    with pytest.raises(CvatError, match="in their sizes"):
        _show(_round(), tmp_path)
    assert "prepared" in _only(server).name
    server.edit = lambda *given: given[2]
    _only(server).labels[0]["name"] = "another"
    with pytest.raises(CvatError, match=r"labels \['cell'\]"):
        _show(_round(), tmp_path)
    _only(server).images.popitem()
    with pytest.raises(CvatError, match="5 images of this round"):
        _show(_round(), tmp_path)


def test_lists_without_an_end_are_not_followed(server: CvatStandIn) -> None:
    def more(_: str, path: str, answer: Any) -> Any:
        return (answer[0], answer[1] | {"next": "http://x"}) if path == "/api/jobs" else answer

    server.tasks[7] = Task(7, f"review {RUN}", [], 1, jobs=["new"])
    server.edit = more
    with Cvat(Settings()) as tool, pytest.raises(CvatError, match="at most 100 pages"):
        tool.has_open_jobs(7)


def test_a_round_of_poses_is_refused_before_it_begins() -> None:
    with pytest.raises(CvatTaskError, match="a skeleton of CVAT has no box"):
        choose_tool("cvat", "pose", Settings())


def test_a_task_that_somebody_has_deleted_is_all_open(server: CvatStandIn) -> None:
    review = _round()
    assert steps.read_answers.fn(RUN, review) == sort_answers(ENTRIES, {})
    assert server.tasks == {}
