"""The live log of model `predict`: what is in it, how large it gets, and what happens if it cannot be written."""

import base64
import fcntl
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.stack_settings import ROOT
from model_repository.predict import live_log
from model_repository.predict.live_log import LiveLog, LiveLogSettings, open_live_log
from model_repository.predict.log_folder import FILES, LogFolder
from model_repository.predict.model_lookup import ServedModel
from tasks.dataset.image_stats import check_image
from tasks.monitoring.profiles import looks_of
from tests.model_repository.live_logs import SIZE, keep, lines, picture, write_log
from tests.tasks.serving.graphs import encoded, smooth
from tests.waiting import eventually

# ---- what is in it --------------------------------------------------------------------------------------------------


def test_a_line_says_what_answered_and_what_was_found_from_one_confidence_on(tmp_path: Path) -> None:
    """Whatever the request asked for: its own confidence would make requests that cannot be compared."""
    write_log(tmp_path / "log", 1)
    (line,) = lines(tmp_path / "log")
    assert abs(line.pop("time") - time.time()) < 60
    looks = [line.pop(name) for name in ("brightness", "contrast", "sharpness")]
    assert all(value > 0 for value in looks)
    assert line == {
        "model": "cells",
        "version": 3,
        "task": "detect",
        "width": 128,
        "height": 96,
        "least": 0.01,
        "found": [[1, 0.9, 20.0, 24.0, 60.0, 64.0], [0, 0.02, 10.0, 20.0, 18.0, 44.0]],
    }


def test_of_a_classifier_the_best_class_of_the_whole_image_is_kept(tmp_path: Path) -> None:
    write_log(tmp_path, 1, ServedModel("cells", 1, "classify", SIZE, ("cat", "dog")))
    assert lines(tmp_path)[0]["found"] == [[1, 0.7, 0.0, 0.0, 128.0, 96.0]]


@pytest.mark.parametrize("shape", [(90, 150), (1500, 2000), (1, 1)])
def test_an_image_looks_as_the_check_of_a_data_set_sees_it(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = smooth(shape[1], shape[0])
    image[::3, ::2] //= 2
    log = LiveLog(LiveLogSettings(tmp_path), print)
    keep(log, image)
    log.close()
    (line,) = lines(tmp_path)
    if shape == (1, 1):
        return  # the check refuses so small an image
    stats, _ = check_image(cv2.imencode(".png", image[..., ::-1])[1].tobytes(), "x.png")
    assert stats is not None
    logged = [line["brightness"], line["contrast"], line["sharpness"], (line["width"] * line["height"]) ** 0.5]
    np.testing.assert_allclose(logged, looks_of(stats), rtol=0.01, atol=1)


def test_pictures_are_kept_if_they_are_asked_for_alone(tmp_path: Path) -> None:
    write_log(tmp_path / "without", 1)
    assert "picture" not in lines(tmp_path / "without")[0]
    write_log(tmp_path / "with", 1, pictures=True)
    assert base64.b64decode(lines(tmp_path / "with")[0]["picture"]) == encoded(picture(0))


def test_it_is_off_unless_a_folder_is_named_and_a_wrong_setting_turns_it_off_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.delenv("STUDIO_LIVE_LOG_DIR", raising=False)
    assert open_live_log(said.append) is None
    monkeypatch.setenv("STUDIO_LIVE_LOG_DIR", str(tmp_path))
    monkeypatch.setenv("STUDIO_LIVE_LOG_SHARE", "often")
    assert open_live_log(said.append) is None
    assert said == [
        "there is no live log: expected STUDIO_LIVE_LOG_SHARE as a number from 0 to 1, found 'often': mend it"
    ]
    for name, value in (("MIB", "0"), ("MIB", "nan"), ("SHARE", "-0.1"), ("PICTURES", "yes, please")):
        with pytest.raises(ValueError, match=f"expected STUDIO_LIVE_LOG_{name} as"):
            LiveLogSettings.parse({"STUDIO_LIVE_LOG_DIR": "/x", f"STUDIO_LIVE_LOG_{name}": value})
    given = {"DIR": "/x", "SHARE": "0.5", "MIB": "2", "PICTURES": "True"}
    settings = LiveLogSettings.parse({f"STUDIO_LIVE_LOG_{name}": value for name, value in given.items()})
    assert settings == LiveLogSettings(Path("/x"), 0.5, 2 << 20, pictures=True)
    assert LiveLogSettings.parse({"STUDIO_LIVE_LOG_DIR": "/x"}) == LiveLogSettings(Path("/x"))


def test_the_share_of_the_requests_is_what_is_asked_for(tmp_path: Path) -> None:
    for share, least, most in ((0.0, 0, 0), (0.05, 400, 600), (1.0, 10_000, 10_000)):
        log = LiveLog(LiveLogSettings(tmp_path, share), print)
        assert least <= sum(log.is_due() for _ in range(10_000)) <= most


def test_only_its_user_reads_it(tmp_path: Path) -> None:
    write_log(tmp_path / "log", 2)
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "log").iterdir() if path.stat().st_mode & 0o077] == []


# ---- how large it gets ----------------------------------------------------------------------------------------------


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_oldest_goes_and_the_bound_holds(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path, 8000)
    for number in range(1000):
        folder.append(json.dumps({"number": number, "pad": "x" * (number % 90)}).encode())
        assert size(tmp_path) <= 8000
    numbers = [line["number"] for line in lines(tmp_path)]
    assert numbers == list(range(numbers[0], 1000))
    assert size(tmp_path) > 8000 * (1 - 2 / FILES)


def test_a_bound_that_is_lowered_holds_from_the_next_line_on(tmp_path: Path) -> None:
    for number in range(100):
        LogFolder(tmp_path, 8000).append(b"%04d" % number * 10)
    LogFolder(tmp_path, 1000).append(b"last")
    assert size(tmp_path) <= 1000


def test_a_line_that_is_longer_than_all_may_be_is_refused_and_costs_none_of_the_others(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path, 1000)
    folder.append(b"first")
    with pytest.raises(OSError, match="a line of 2000 bytes in a log of 1000"):
        folder.append(b"x" * 2000)
    folder.append(b"y" * 900)
    assert [path.read_bytes()[:2] for path in sorted(tmp_path.glob("*.jsonl"))] == [b"fi", b"yy"]


MANY = """
import sys
from pathlib import Path
from model_repository.predict.log_folder import LogFolder
folder = LogFolder(Path(sys.argv[1]), int(sys.argv[2]))
for number in range(300):
    folder.append(f'{{"writer": {sys.argv[3]}, "number": {number}, "pad": "{"x" * (number % 97)}"}}'.encode())
"""


def test_several_writers_keep_the_bound_together_and_lose_nothing_else(tmp_path: Path) -> None:
    bound, over = 20_000, list[int]()
    command = [sys.executable, "-c", MANY, str(tmp_path), str(bound)]
    running = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in range(4)]
    while any(each.poll() is None for each in running):
        with (tmp_path / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            over += [total for total in [size(tmp_path)] if total > bound]
    assert [each.returncode for each in running] == [0] * 4
    assert over == []
    found = lines(tmp_path)
    assert size(tmp_path) <= bound
    for writer in range(4):
        numbers = [line["number"] for line in found if line["writer"] == writer]
        assert numbers == list(range(numbers[0], 300)) if numbers else True
    assert len(found) > 100


def test_no_clock_says_which_file_is_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(2_000_000_000, 0, -1_000_000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    write_log(tmp_path, 30, max_bytes=4000)
    times = [line["time"] for line in lines(tmp_path)]
    assert times == sorted(times, reverse=True)
    assert len(times) > 5
    assert next(clock) == times[-1] - 1_000_000


# ---- what cannot be written -----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from model_repository.predict.log_folder import LogFolder
write = os.write
def half(file, data):
    write(file, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
LogFolder(Path(sys.argv[1]), 10000).append(b'{"number": 2}')
"""


def test_a_writer_that_is_killed_leaves_half_a_line_and_costs_no_other(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path, 10_000)
    folder.append(b'{"number": 1}')
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    folder.append(b'{"number": 3}')
    (path,) = tmp_path.glob("*.jsonl")
    assert path.read_bytes() == b'{"number": 1}\n{"numbe\n{"number": 3}\n'


FULL = """
import resource, sys
from pathlib import Path
from model_repository.predict.log_folder import LogFolder
folder = LogFolder(Path(sys.argv[1]), 100000)
folder.append(b"a" * 500)
resource.setrlimit(resource.RLIMIT_FSIZE, (800, -1))
try:
    folder.append(b"b" * 500)
except OSError as error:
    print(error)
"""


def test_a_disk_that_takes_half_a_line_keeps_none_of_it(tmp_path: Path) -> None:
    """The kernel itself cuts the write short, as on a disk that is full."""
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "No space left" in done.stdout
    (path,) = tmp_path.glob("*.jsonl")
    assert path.read_bytes() == b"a" * 500 + b"\n"


def taken_s(log: LiveLog, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        keep(log, picture(0))
    return time.perf_counter() - began


@pytest.mark.parametrize("fault", ["no folder above", "a file in its place", "its file is a link"])
def test_what_cannot_be_written_is_lost_with_one_warning_and_no_request_fails(tmp_path: Path, fault: str) -> None:
    said: list[str] = []
    folder = tmp_path / "above" / "log" if fault == "no folder above" else tmp_path / "log"
    if fault == "a file in its place":
        folder.write_text("")
    if fault == "its file is a link":
        folder.mkdir()
        (folder / "live-0000000001.jsonl").symlink_to(tmp_path / "other")
    log = LiveLog(LiveLogSettings(folder), said.append)
    for _ in range(50):
        keep(log, picture(0))
    log.close()
    assert len(said) == 1
    assert f"expected {folder} (STUDIO_LIVE_LOG_DIR) to take a sample" in said[0]
    assert not (tmp_path / "other").exists()


def test_a_folder_that_goes_comes_back_with_the_next_answer(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    log = LiveLog(LiveLogSettings(folder), print)
    keep(log, picture(0))
    eventually(lambda: folder.is_dir() and len(lines(folder)) == 1, "a line")
    shutil.rmtree(folder)
    keep(log, picture(1))
    log.close()
    assert len(lines(folder)) == 1


def test_a_folder_that_hangs_holds_no_request_up(tmp_path: Path) -> None:
    said: list[str] = []
    LogFolder(tmp_path, 1000).append(b"{}")
    log = LiveLog(LiveLogSettings(tmp_path), said.append)
    with (tmp_path / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert taken_s(log, 100) < 5
        assert len(said) == 1
        assert "more slowly than they come" in said[0]
        began = time.perf_counter()
        log.close()
        assert time.perf_counter() - began < 2 * live_log.STOP_S + 1
    eventually(lambda: len(lines(tmp_path)) > 1, "what waited")


def test_warnings_come_again_when_some_minutes_have_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = LiveLog(LiveLogSettings(tmp_path / "above" / "log"), said.append)
    monkeypatch.setattr(live_log, "WARNING_S", 0.0)
    for number in range(3):
        keep(log, picture(0))
        eventually(lambda wanted=number + 1: len(said) == wanted, "a warning")  # type: ignore[misc]
    log.close()
