"""`studio logs` on files alone, as after a stack that is down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.logs.log_folder import glog, ours, write
from tests.paths import ROOT

RUN = "7d444840-9dc0-41d1-b245-5ffdce74fad2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs" / "worker.log", ours(1, "begins\x1b[2J", flow_run_id=RUN, service="flow"), ours(2, "x"))
    write(tmp_path / "logs" / "triton.log", glog(3, "unloaded", "E"))
    return tmp_path


def studio(state: Path, *arguments: str, check: int = 0) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"STUDIO_STATE_DIR": str(state), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "studio", "logs", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode == check, done.stderr
    return done


def test_lines_of_all_services_are_printed_as_people_read_them(folder: Path) -> None:
    assert studio(folder, "--since", "2026-11-30").stdout.splitlines() == [
        "2026-11-30 12:00:01.000 flow         begins\\x1b[2J",
        "2026-11-30 12:00:02.000 worker       x",
        "2026-11-30 12:00:03.000 triton       ERROR unloaded",
    ]


def test_a_run_is_found_in_the_files_when_nothing_else_answers(folder: Path) -> None:
    done = studio(folder, RUN, "--json")
    (line,) = json.loads(done.stdout)
    assert line == {
        "time": "2026-11-30T12:00:01.000000Z",
        "level": "info",
        "service": "flow",
        "logger": "l",
        "message": "begins\x1b[2J",
        "flow_run_id": RUN,
    }
    assert "without what Prefect knows" in done.stderr
    assert studio(folder, RUN.upper(), "--level", "error").stdout == ""


def test_without_a_question_it_is_the_last_minutes_and_says_so(folder: Path) -> None:
    done = studio(folder)
    assert (done.stdout, done.stderr.strip()) == ("", "from the last 10m on; --since shows more")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["not-an-id"], 2, "expected the id of a flow run"),
        (["--since", "soon"], 1, "Expected a time such as 10m"),
        (["--since", "1h", "--level", "loud"], 1, "Expected a level of debug"),
    ],
)
def test_what_cannot_be_asked_is_refused(folder: Path, arguments: list[str], code: int, message: str) -> None:
    assert message in " ".join(studio(folder, *arguments, check=code).stderr.split())


def test_who_reads_the_lines_may_stop(folder: Path) -> None:
    write(folder / "logs" / "worker.log", *(ours(number, "x" * 1000) for number in range(2000)))
    command = f"{sys.executable} -m studio logs --since 2026-11-30 | head -n 1"
    environment = os.environ | {"STUDIO_STATE_DIR": str(folder)}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S602
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
