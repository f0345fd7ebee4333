"""The live log as monitor-model reads it: what was answered, and nothing that is damaged, hostile or of others."""

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_repository.predict.model_lookup import ServedModel
from tasks.evaluation.matching import LEAST_CONFIDENCE
from tasks.monitoring import live_log
from tasks.monitoring.live_log import LiveAnswers, read_live_log, read_picture
from tests.model_repository import live_logs
from tests.model_repository.live_logs import MODEL, write_log
from tests.tasks.serving.graphs import encoded

CELLS = (MODEL.name, MODEL.version, MODEL.task)


def read(
    folder: Path, model: tuple[str, int, str] = CELLS, days: float = 1, most: int = 100, seed: int = 0
) -> LiveAnswers:
    now = datetime.now().astimezone()
    return read_live_log(folder, model, 2, (now - timedelta(days=days), now), most, seed)


def write_lines(folder: Path, *lines: bytes | dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    whole = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / "live-0000000001.jsonl").write_bytes(b"".join(line + b"\n" for line in whole))


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A line as it is written."""
    folder = tmp_path_factory.mktemp("line")
    write_log(folder, 1)
    return live_logs.lines(folder)[0]


def test_what_was_written_is_read_from_the_confidence_of_the_validation_on(tmp_path: Path) -> None:
    write_log(tmp_path, 5)
    live = read(tmp_path)
    assert (live.logged, live.unreadable, live.ahead, len(live.answers)) == (5, 0, 0, 5)
    for each in live.answers:
        assert each.found.class_id.tolist() == [1, 0]
        assert each.found.xyxy.tolist() == [[20, 24, 60, 64], [10, 20, 18, 44]]
        assert (each.found.width, each.found.height, each.picture_at) == (128, 96, None)
        assert each.least == LEAST_CONFIDENCE
        assert each.looks.image_size == (128 * 96) ** 0.5
    assert len({each.looks for each in live.answers}) == 5


def test_each_version_has_its_own_answers(tmp_path: Path) -> None:
    """During a roll-out two of them answer at once."""
    for version, images in ((3, 2), (4, 3)):
        write_log(tmp_path, images, MODEL._replace(version=version))
    write_log(tmp_path, 1, ServedModel("other", 3, "detect", 64, ()))
    assert len(read(tmp_path).answers) == 2
    assert len(read(tmp_path, ("cells", 4, "detect")).answers) == 3
    assert len(read(tmp_path, ("cells", 3, "segment")).answers) == 0


def test_answers_of_other_days_are_left_out_and_those_to_come_are_told(tmp_path: Path, line: dict[str, Any]) -> None:
    times = (-3 * 86400, -3600, 30, 7200, 1e300)
    write_lines(tmp_path, *({**line, "time": line["time"] + each, "brightness": each % 250} for each in times))
    live = read(tmp_path)
    assert (live.logged, live.ahead, live.unreadable) == (2, 2, 0)


def test_a_picture_that_is_sent_again_and_again_counts_once(tmp_path: Path) -> None:
    for _ in range(3):
        write_log(tmp_path, 4)
    live = read(tmp_path)
    assert (live.logged, len(live.answers)) == (12, 4)


def test_of_many_answers_some_are_drawn_from_all_of_them(tmp_path: Path, line: dict[str, Any]) -> None:
    write_lines(tmp_path, *({**line, "brightness": number / 10} for number in range(2000)))
    chosen = [{each.looks.brightness for each in read(tmp_path, most=100, seed=seed).answers} for seed in (1, 1, 2)]
    assert len(chosen[0]) == 100
    assert chosen[0] == chosen[1] != chosen[2]
    assert 85 < np.mean([*chosen[0]]) < 115
    fewer = [each.looks.brightness for each in read(tmp_path, most=10, seed=1).answers]
    assert set(fewer) < chosen[0]


HOSTILE: dict[str, Any] = {
    "no object": b"[]",
    "no JSON": b"{",
    "bytes": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a number of many digits": b'{"time": ' + b"9" * 5000 + b"}",
    "an infinity": {"brightness": float("inf")},
    "no number": {"sharpness": "1"},
    "a negative side": {"width": -5},
    "a side of zero": {"height": 0},
    "a huge side": {"width": 10**12},
    "a class below zero": {"found": [[-1, 0.5, 0, 0, 1, 1]]},
    "a confidence of two": {"found": [[0, 2, 0, 0, 1, 1]]},
    "a box without an end": {"found": [[0, 0.5, 0, 0, 1e300, 1]]},
    "too many boxes": {"found": [[0, 0.5, 0, 0, 1, 1]] * 301},
    "no boxes": {"found": None},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_makes_no_sense_is_counted_and_the_rest_is_taken(tmp_path: Path, line: dict[str, Any], name: str) -> None:
    bad = HOSTILE[name]
    write_lines(tmp_path, line, bad if isinstance(bad, bytes) else {**line, **bad}, b"", {**line, "brightness": 7})
    live = read(tmp_path)
    assert (len(live.answers), live.unreadable) == (2, 1)


def test_classes_that_the_version_does_not_know_and_ends_beyond_the_image_are_cut(
    tmp_path: Path, line: dict[str, Any]
) -> None:
    write_lines(tmp_path, {**line, "found": [[2, 0.9, 0, 0, 1, 1], [1, 0.5, 5, 5, 1000, 1000]], "of later": 1})
    (answer,) = read(tmp_path).answers
    assert answer.found.class_id.tolist() == [1]
    assert answer.found.xyxy.tolist() == [[5, 5, 128, 96]]


def test_a_line_that_is_too_long_is_passed_over(
    tmp_path: Path, line: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_log, "LONGEST_LINE", 1000)
    write_lines(tmp_path, line, b"x" * 3500, {**line, "brightness": 7}, b"x" * 999, b"x" * 1000)
    live = read(tmp_path)
    assert (len(live.answers), live.unreadable) == (2, 3)


def test_neither_links_nor_pipes_nor_other_files_are_read(tmp_path: Path, line: dict[str, Any]) -> None:
    write_lines(tmp_path, line)
    (tmp_path / "notes.txt").write_text("mine")
    os.mkfifo(tmp_path / "live-0000000002.jsonl")
    (tmp_path / "live-0000000003.jsonl").symlink_to(tmp_path / "live-0000000001.jsonl")
    live = read(tmp_path)
    assert (live.logged, live.unreadable) == (1, 0)
    assert live.closed == {
        "live-0000000002.jsonl": "it is no file",
        "live-0000000003.jsonl": "Too many levels of symbolic links",
    }


def test_without_a_folder_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_pictures_are_read_as_long_as_they_are_there(tmp_path: Path) -> None:
    write_log(tmp_path, 3, pictures=True)
    answers = read(tmp_path).answers
    assert {read_picture(each) for each in answers} == {encoded(live_logs.picture(number)) for number in range(3)}
    assert read_picture(replace(answers[0], looks=answers[1].looks)) is None
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    assert {read_picture(each) for each in answers} == {None}


WHOLE = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, WHOLE)
    return folder


@given(cut=st.integers(0, 5000), junk=st.binary(max_size=40), drop=st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_damage_costs_the_lines_that_it_hits_and_no_other(written: Path, cut: int, junk: bytes, drop: int) -> None:
    """Wherever bytes are lost or come in: the lines that are whole are all read, and nothing else is believed."""
    (path,) = written.glob("*.jsonl")
    original = path.read_bytes()
    cut = min(cut, len(original))
    damaged = original[:cut] + junk + original[cut + drop :]
    whole = {*original.split(b"\n")} & {*damaged.split(b"\n")} - {b""}
    folder = written / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_bytes(damaged)
    live = read(folder)
    assert len(whole) <= live.logged <= WHOLE + 1
    lines = [line for line in damaged.split(b"\n") if line.strip()]
    assert live.logged + live.unreadable + live.ahead <= len(lines)
    expected = {json.loads(line)["brightness"] for line in whole}
    assert expected <= {each.looks.brightness for each in live.answers}
