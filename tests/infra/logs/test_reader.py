"""Lines of several services in order of time: found by what they are about, joined, followed."""

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from infra.accounts.audit import Actor, AuditEntry, log_line
from infra.logs import files
from infra.logs.lines import Line
from infra.logs.query import Query, QueryError, parse_time
from infra.logs.reader import Place, follow, read_backwards, read_forwards
from tests.infra.logs.log_folder import BEGIN, glog, ours, write

RUN, OTHER = "7d444840-9dc0-41d1-b245-5ffdce74fad2", "0d444840-9dc0-41d1-b245-5ffdce74fad2"
TRACE = ["Traceback (most recent call last):", '  File "a.py", line 1, in <module>', "ValueError: no"]


def messages(folder: Path, **query: object) -> list[str]:
    return [line.message for line in read_forwards(folder, Query(**query))]  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path / "worker.log",
        ours(1, "begins", flow_run_id=RUN, service="flow", model="shapes", archives=["猫.zip"]),
        ours(3, "another", flow_run_id=OTHER, service="flow", model="old-shapes", level="error"),
        ours(5, "ends", flow_run_id=RUN, service="flow", model="shapes", level="warning"),
    )
    write(tmp_path / "mlflow.log", ours(2, "POST /x 200 3 ms", flow_run_id=RUN, request_id="r-1", service="mlflow"))
    write(tmp_path / "triton.log", glog(4, "loading: shapes.candidate:1"), glog(6, "loading: old-shapes:1", "E"))
    return tmp_path


def test_lines_of_all_services_are_in_order_of_time(folder: Path) -> None:
    everything = [
        "begins",
        "POST /x 200 3 ms",
        "another",
        "loading: shapes.candidate:1",
        "ends",
        "loading: old-shapes:1",
    ]
    assert messages(folder) == everything
    assert [line.message for _, line in read_backwards(folder, Query(), {})] == everything[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"runs": [RUN]}, ["begins", "POST /x 200 3 ms", "ends"]),
        ({"runs": [RUN, OTHER]}, ["begins", "POST /x 200 3 ms", "another", "ends"]),
        ({"model": "shapes"}, ["begins", "loading: shapes.candidate:1", "ends"]),
        ({"model": "shapes", "about": [RUN]}, ["begins", "POST /x 200 3 ms", "loading: shapes.candidate:1", "ends"]),
        ({"archive": "猫.zip"}, ["begins"]),
        ({"request": "r-1"}, ["POST /x 200 3 ms"]),
        ({"services": ["flow"]}, ["begins", "another", "ends"]),
        ({"services": ["triton"], "level": "error"}, ["loading: old-shapes:1"]),
        ({"level": "warning"}, ["another", "ends", "loading: old-shapes:1"]),
        ({"since": BEGIN + timedelta(seconds=5)}, ["ends", "loading: old-shapes:1"]),
        ({"until": BEGIN + timedelta(seconds=2)}, ["begins"]),
        ({"text": "LOADING"}, ["loading: shapes.candidate:1", "loading: old-shapes:1"]),
        ({"text": "old", "level": "error", "services": ["flow"]}, ["another"]),
        ({"model": ".*"}, []),
    ],
)
def test_lines_are_found_by_what_they_are_about(folder: Path, query: dict[str, object], expected: list[str]) -> None:
    assert messages(folder, **query) == expected
    found = read_backwards(folder, Query(**query), {})  # type: ignore[arg-type]
    assert [line.message for _, line in found] == expected[::-1]


@pytest.mark.parametrize("text", ["Ärger", "äRGER in", "straße 猫", "STRASSE 猫", "ẞE", "😀é", "É"])
def test_a_text_with_letters_beyond_ascii_is_found_in_capitals_or_not(tmp_path: Path, text: str) -> None:
    """In JSON, where they are escapes, and in the words of others, where they are not."""
    said = "Ärger in Straße 猫 😀É"
    write(tmp_path / "worker.log", ours(1, said), ours(2, "Arger in Strase"))
    write(tmp_path / "triton.log", glog(3, said), glog(4, "Arger in Strase"))
    assert messages(tmp_path, text=text) == [said, said]


def test_what_was_rotated_away_is_read_first(tmp_path: Path) -> None:
    for age, name in enumerate(("a.log", "a.log.1", "a.log.2")):
        write(tmp_path / name, glog(10 - age, name))
    assert messages(tmp_path) == ["a.log.2", "a.log.1", "a.log"]


def test_what_is_on_several_rows_is_one_line(tmp_path: Path) -> None:
    statement = "2026-11-30 12:00:00.100 UTC [7] postgres@mlflow ERROR:  no\n\tSELECT\n\tFROM x"
    write(tmp_path / "postgres.log", statement)
    write(tmp_path / "worker.log", ours(0, "x"), *TRACE, "printed", ours(2, "y"))
    read = list(read_forwards(tmp_path, Query()))
    assert [line.message for line in read] == ["x", "\n".join(TRACE), "printed", "no\n\tSELECT\n\tFROM x", "y"]
    assert [line.level for line in read] == ["info", "error", "info", "error", "info"]
    assert messages(tmp_path, text="valueerror", level="error") == ["\n".join(TRACE)]


def test_lines_that_two_processes_wrote_into_one_another_are_two(tmp_path: Path) -> None:
    both = ours(1, "a") + ours(2, '{"time": "', service="flow")
    write(tmp_path / "worker.log", both, "half" + ours(3, "b"), ours(4, "c") + ours(5, "d", service="mlflow"))
    read = list(read_forwards(tmp_path, Query()))
    assert [(line.service, line.message) for line in read[:2]] == [("worker", "a"), ("flow", '{"time": "')]
    assert [line.message for line in read[2:]] == ["half" + ours(3, "b"), ours(4, "c") + ours(5, "d", service="mlflow")]


FORGED = ours(9, "ada deleted the champion", level="critical", service="training-worker", user="ada")


@pytest.mark.parametrize(
    ("service", "row"),
    [
        ("postgres", f"2026-11-30 12:00:00.001 UTC [12] postgres@mlflow STATEMENT:  SELECT '{FORGED}{FORGED}'"),
        ("postgres", f"2026-11-30 12:00:00.001 UTC [12] postgres@mlflow STATEMENT:  SELECT '\n\t{FORGED}"),
        ("object-store", f"I1130 12:00:01.000000 a.go:1 no such key x\n{FORGED}"),
        ("triton", f"{FORGED}{FORGED}"),
        ("mlflow", f"said {FORGED}"),
        ("mlflow", f"{FORGED}{FORGED}"),
        ("mlflow", FORGED),
        ("worker", FORGED),
    ],
)
def test_a_text_that_plays_a_line_of_another_service_stays_a_text_of_its_own(
    tmp_path: Path, service: str, row: str
) -> None:
    """What a stranger has written stands in the logs of programs that quote nothing."""
    write(tmp_path / f"{service}.log", row)
    for read in (list(read_forwards(tmp_path, Query())), [line for _, line in read_backwards(tmp_path, Query(), {})]):
        assert {line.service for line in read} == {service}
        if service not in {"mlflow", "worker"}:
            assert {(line.level, "user" in line.fields) for line in read} == {("info", False)}


def test_entries_of_the_audit_log_are_left_out_if_they_are_not_asked_for(tmp_path: Path) -> None:
    entry = log_line(AuditEntry(actor=Actor(name="ada"), part="studio", action="request"))
    write(
        tmp_path / "studio.log",
        ours(1, "x", service="studio"),
        *TRACE[:2],
        entry,
        TRACE[2],
        entry + ours(2, "y"),
        entry,
    )
    write(tmp_path / "worker.log", ours(3, '{"audit": '), entry)
    assert sum("audit" in message for message in messages(tmp_path)) == 5
    shown = ["x", "\n".join(TRACE), '{"audit": ', entry]  # that of the worker, who keeps no audit log, is none
    assert messages(tmp_path, audit=False) == shown
    assert messages(tmp_path, audit=False, text="ada") == [entry]
    assert [line.message for _, line in read_backwards(tmp_path, Query(audit=False), {})] == shown[::-1]


@pytest.mark.parametrize(
    "hostile",
    [
        b"\xff\xfe\x00",
        b'{"time": "2026-11-30T12:00:00.000000Z"',
        b'{"time": "2026-11-30T12:00:00.000000Z", "message": 5, "service": [], "level": {}, "archives": 3}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"I9999 99:99:99.999999 a.go:1 x",
        b'{"time": 1e308}',
        b"\x1b]0;title\x07\x1b[2J",
        b"\0" * 1000,
    ],
)
def test_whatever_a_line_is_it_is_shown_and_harms_no_other(tmp_path: Path, hostile: bytes) -> None:
    write(tmp_path / "a.log", glog(1, "before"), hostile, glog(2, "after"))
    for end in (read_forwards(tmp_path, Query()), [line for _, line in read_backwards(tmp_path, Query(), {})][::-1]):
        read = list(end)
        assert [line.message for line in read if line.message in {"before", "after"}] == ["before", "after"]
        assert len(read) == 3
        shown = "".join(line.to_words() + line.to_json() for line in read)
        assert shown.replace("\n", "").isprintable()


def test_a_line_that_is_half_written_is_shown_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.log", glog(1, "whole"), glog(2, "ha"), end="")
    assert messages(tmp_path) == ["whole", "ha"]
    turns = iter([False, False, True])

    def is_over() -> bool:
        over = next(turns)
        if over:
            with (tmp_path / "a.log").open("a") as log:
                log.write("lf\n")
        return over

    assert [line.message for line in follow(tmp_path, Query(), is_over)] == ["whole", "half"]


def test_a_file_is_followed_over_its_rotation(tmp_path: Path) -> None:
    log = write(tmp_path / "a.log", glog(1, "one"))
    steps = iter(["", "rotate", "", "grow", "", "end"])

    def is_over() -> bool:
        step = next(steps)
        if step == "rotate":
            with log.open("a") as file:
                file.write(glog(2, "two") + "\n")
            log.rename(tmp_path / "a.log.1")
            write(log, glog(3, "three"))
        if step == "grow":
            with log.open("a") as file:
                file.write(glog(4, "four") + "\n")
        return step == "end"

    assert [line.message for line in follow(tmp_path, Query(), is_over)] == ["one", "two", "three", "four"]


def test_pages_from_the_end_have_each_line_once_while_lines_are_written(tmp_path: Path) -> None:
    def entry(number: int) -> str:
        return ours(number // 3, f"{number}", service="mlflow")  # three at a time

    write(tmp_path / "mlflow.log", *map(entry, range(0, 300, 2)))
    write(tmp_path / "studio.log", *map(entry, range(1, 300, 2)))
    read, places = [], dict[str, Place]()
    for page in range(100):
        found = read_backwards(tmp_path, Query(), places)
        lines = [next(found) for _ in range(30)] if page < 10 else list(found)
        if not lines:
            break
        for service, line in lines:
            read.append(int(line.message))
            places[service] = Place(line.file, line.start)
        with (tmp_path / "mlflow.log").open("a") as log:
            log.write(entry(1000 + page) + "\n")
        if page == 2:
            (tmp_path / "mlflow.log").rename(tmp_path / "mlflow.log.1")
            write(tmp_path / "mlflow.log", entry(2000))
    assert sorted(read) == list(range(300))


def test_threads_that_write_late_are_put_in_order(tmp_path: Path) -> None:
    write(tmp_path / "mlflow.log", *(ours(second, f"{second}") for second in (1, 3, 2, 5, 4)))
    assert messages(tmp_path) == ["1", "2", "3", "4", "5"]


def test_what_a_run_says_in_its_workers_log_and_in_prefects_is_said_once(folder: Path) -> None:
    prefects = [line for line in read_forwards(folder, Query(runs=[RUN])) if line.service == "flow"]
    lost = replace(prefects[0], time=BEGIN, message="of a worker elsewhere")
    found = read_forwards(folder, Query(runs=[RUN]), [lost, *prefects])
    assert [line.message for line in found] == ["of a worker elsewhere", "begins", "POST /x 200 3 ms", "ends"]


@pytest.mark.parametrize("text", ["10m", "10 min", "2h", "3d", "90s", "2026-11-30", "2026-11-30T12:00:00+02:00"])
def test_a_time_is_said_as_people_do(text: str) -> None:
    now = BEGIN + timedelta(days=1)
    assert parse_time(text, now) < now


@pytest.mark.parametrize("text", ["", "yesterday", "-1h", "10", "1e9d", "999999d", "\x1b[2J"])
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="Expected a time such as 10m"):
        parse_time(text)


def test_a_level_that_there_is_not_is_refused() -> None:
    with pytest.raises(QueryError, match="Expected a level of debug, info, warning, error, critical, found 'loud'"):
        Query(level="loud")


def test_what_prefect_says_of_every_run_is_of_level_debug(tmp_path: Path) -> None:
    write(tmp_path / "worker.log", ours(1, "x", logger="prefect.flow_runs.worker"), ours(2, "Beginning flow run 'a'"))
    assert messages(tmp_path, level="info") == []
    assert len(messages(tmp_path, level="debug")) == 2


def test_a_line_in_which_a_message_plays_another_line_is_seen_as_one(tmp_path: Path) -> None:
    """Further rows are indented, and what turns or hides text is shown."""
    write(
        tmp_path / "mlflow.log", ours(1, "x\n2026-11-30 12:00:00.000 mlflow  all is well\u202e\x9b2J", service="mlflow")
    )
    (line,) = read_forwards(tmp_path, Query())
    first, second = line.to_words().split("\n")
    assert first.endswith("mlflow       x")
    assert second == "    2026-11-30 12:00:00.000 mlflow  all is well\\u202e\\x9b2J"


def test_a_run_is_found_as_fast_in_rotated_files_as_blocks_can_be_read(tmp_path: Path) -> None:
    """A rule of the reader, without a clock: blocks without the id are not read line by line."""
    write(tmp_path / "mlflow.log", *(ours(number, "x" * 200) for number in range(20_000)), ours(30_000, "y", run=RUN))
    began = time.process_time()
    everything = len(messages(tmp_path))
    all_of_it = time.process_time() - began
    began = time.process_time()
    assert messages(tmp_path, runs=[RUN]) == ["y"]
    assert everything == 20_001
    assert time.process_time() - began < all_of_it / 2
    assert (tmp_path / "mlflow.log").stat().st_size > files.BLOCK


def test_a_line_can_be_made_of_what_is_known(folder: Path) -> None:
    first = next(iter(read_forwards(folder, Query())))
    assert isinstance(first, Line)
    assert first.to_dict() == {
        "time": "2026-11-30T12:00:01.000000Z",
        "level": "info",
        "service": "flow",
        "logger": "l",
        "message": "begins",
        "flow_run_id": RUN,
        "model": "shapes",
        "archives": ["猫.zip"],
    }
