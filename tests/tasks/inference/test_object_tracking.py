"""Drawn objects that move, cross, vanish and come back keep their ids."""

import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pytest
import yaml

from tasks.inference import object_tracking
from tasks.inference.object_tracking import ObjectTrackingError, Tracker
from tasks.vision.detections import Detections
from tasks.vision.geometry import enclosing_boxes


def frame(number: int, *rows: Iterable[float], rate: float = 30.0) -> Detections:
    """Detections of rows (centre x, y, confidence, class), 40 x 60 pixels each."""
    array = np.reshape(np.array(rows, np.float32), (-1, 4))
    boxes = np.concatenate([array[:, :2] - [20, 30], array[:, :2] + [20, 30]], axis=1).astype(np.float32)
    return Detections(
        width=640,
        height=480,
        xyxy=boxes,
        confidence=array[:, 2],
        class_id=array[:, 3].astype(np.int32),
        source="v.mp4",
        frame=number,
        timestamp_ms=number * 1000 / rate,
    )


def ids(found: Detections) -> list[int]:
    assert found.tracker_id is not None
    assert found.tracker_id.dtype == np.int64
    return [int(number) for number in found.tracker_id]


def crossing(number: int) -> Detections:
    """Two objects that pass each other, the order of their detections turning about."""
    rows = [(100 + 6 * number, 200, 0.9, 0), (500 - 6 * number, 230, 0.8, 0)]
    return frame(number, *(rows if number % 2 else rows[::-1]))


def test_objects_that_cross_keep_their_ids_and_their_rows() -> None:
    follow = Tracker()
    first = ids(follow(crossing(0)))
    assert sorted(first) == [1, 2]
    for number in range(1, 60):
        given = crossing(number)
        found = follow(given)
        assert ids(found) == (first[::-1] if number % 2 else first)
        assert (found.xyxy == given.xyxy).all()


@pytest.mark.parametrize(("away", "same"), [(20, True), (40, False)])
def test_an_object_keeps_its_id_for_a_second(away: int, same: bool) -> None:
    follow = Tracker()
    for number in range(30):
        assert ids(follow(frame(number, (100 + number, 200, 0.9, 0)))) == [1]
    for number in range(30, 30 + away):
        assert ids(follow(frame(number))) == []
    back = [ids(follow(frame(number, (100 + number, 200, 0.9, 0)))) for number in range(30 + away, 33 + away)]
    assert back == ([[1], [1], [1]] if same else [[0], [2], [2]])


def test_the_time_stamps_tell_the_frame_rate() -> None:
    """Ten frames at two a second are long, at 30 a second they are nothing."""
    for rate, id_back in (2, 0), (30, 1):
        follow = Tracker()
        for number in range(10):
            follow(frame(number, (100, 200, 0.9, 0), rate=rate))
        for number in range(10, 20):
            follow(frame(number, rate=rate))
        assert ids(follow(frame(20, (100, 200, 0.9, 0), rate=rate))) == [id_back]


def test_a_new_object_is_followed_once_it_is_confirmed_and_a_weak_one_never() -> None:
    follow = Tracker()
    still = (100, 200, 0.9, 0)
    assert ids(follow(frame(0, still))) == [1]
    assert ids(follow(frame(1, (400, 100, 0.8, 1), still, (300, 400, 0.05, 0)))) == [0, 1, 0]
    assert ids(follow(frame(2, (400, 100, 0.8, 1), still, (300, 400, 0.05, 0)))) == [2, 1, 0]
    # Once followed, it may be seen badly, and be taken for another class.
    assert ids(follow(frame(3, (400, 100, 0.15, 2), still))) == [2, 1]


def test_videos_side_by_side_do_not_disturb_one_another() -> None:
    def video(_: int) -> list[list[int]]:
        follow = Tracker()
        return [ids(follow(crossing(number))) for number in range(60)]

    alone = video(0)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(video, range(8))) == [alone] * 8


def test_rotated_boxes_are_followed_and_absurd_ones_do_no_harm() -> None:
    follow = Tracker()
    for number in range(5):
        rows = [[100 + 5 * number, 200, 80, 20, 0.5], [1e30, 1e30, 80, 20, 0.5], [300, 300, 1e-30, 20, 0.5]]
        rotated = np.array(rows, np.float32)
        box, confidence = enclosing_boxes(rotated), np.full(3, 0.9, np.float32)
        found = Detections(
            width=640,
            height=480,
            xyxy=box,
            confidence=confidence,
            class_id=np.zeros(3, np.int32),
            source="v.mp4",
            frame=number,
            xywhr=rotated,
        )
        assert ids(follow(found)) == [1, 0, 0]


def test_the_settings_are_those_of_ultralytics() -> None:
    text = files("ultralytics").joinpath("cfg/trackers/bytetrack.yaml").read_text()
    assert yaml.safe_load(text) == object_tracking.BYTE_TRACK


def test_a_missing_package_is_named_and_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_tracking, "find_spec", lambda name: None if name == "lap" else find_spec(name))
    with pytest.raises(ObjectTrackingError, match="install lap"):
        Tracker()


def test_importing_the_module_does_not_import_ultralytics() -> None:
    code = "import sys, tasks.inference.object_tracking; sys.exit(not {'ultralytics', 'torch'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
