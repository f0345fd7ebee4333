"""The window of a version: what runs of inference and the live log have of it, with room for both."""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_repository.predict.geometry import Letterbox
from model_repository.predict.live_log import LiveLog, LiveLogSettings
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.prediction_file import write_embeddings
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.media.images import read_image
from tasks.monitoring.window import Window
from tasks.orchestration.current_run import now
from tasks.parameters import MonitoringParams
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.tracked_monitoring import windows
from tasks.tracking import registry
from tasks.tracking.registry import ModelVersion
from tasks.training.job import PredictionJob
from tasks.vision.detections import Detections
from tests.model_repository.live_logs import MODEL, picture, write_log
from tests.tasks.serving.graphs import encoded, rows

VERSION = ModelVersion(name="cells", version=3, run_id="", task="detect", image_size=64, class_names=("cat", "dog"))


def batch(images: int) -> Any:
    """What a run of inference has found; its images cannot be looked at."""
    found = [
        Detections(
            width=10,
            height=10,
            xyxy=np.zeros((0, 4), np.float32),
            confidence=np.zeros(0, np.float32),
            class_id=np.zeros(0, np.int32),
            source=f"s3://media/{number}.jpg",
        )
        for number in range(images)
    ]
    return windows._Answered(found=found, sources={}, least=np.array([0.25, 0.005]), frames=0)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Window]:
    """Reads a window beside a run of inference, with so many images or as it is given."""

    def read(of_run: Any, log: Path | None, **monitoring: Any) -> Window:
        monkeypatch.setattr(windows, "log_step", lambda *_: None)  # there is no run whose log it could be
        monkeypatch.setattr(windows, "_recent_runs", lambda *_: iter(["run"] if of_run else []))
        answered = batch(of_run) if isinstance(of_run, int) else of_run
        monkeypatch.setattr(windows, "_read_run", lambda *_: answered)
        if log is None:
            monkeypatch.delenv("STUDIO_LIVE_LOG_DIR", raising=False)
        else:
            monkeypatch.setenv("STUDIO_LIVE_LOG_DIR", str(log))
        return windows.read_window(VERSION, MonitoringParams(**monitoring), tmp_path / "window")

    return read


def test_without_a_live_log_nothing_is_said_of_it(read: Callable[..., Window]) -> None:
    window = read(3, None)
    assert (len(window.found), window.live, window.runs, window.remarks) == (3, None, 1, ())
    assert window.least.tolist() == [0.25, 0.005]


def test_live_requests_count_beside_runs_from_the_confidence_that_both_know(
    read: Callable[..., Window], tmp_path: Path
) -> None:
    write_log(tmp_path / "log", 4)
    window = read(3, tmp_path / "log")
    assert (len(window.found), window.live, window.runs) == (7, 4, 1)
    assert window.least.tolist() == [0.25, 0.01]
    profile = window.profile()
    assert np.isfinite(profile.pictures["brightness"]).tolist() == [False] * 3 + [True] * 4
    # The second object is below what the run has kept of its class.
    assert (profile.image.tolist(), profile.class_id.tolist()) == ([3, 4, 5, 6], [1, 1, 1, 1])


@pytest.mark.parametrize(("of_runs", "live", "expected"), [(80, 80, (25, 25)), (10, 80, (10, 40)), (80, 10, (40, 10))])
def test_each_has_a_half_of_the_room_unless_the_other_needs_less(
    read: Callable[..., Window], tmp_path: Path, of_runs: int, live: int, expected: tuple[int, int]
) -> None:
    write_log(tmp_path / "log", live)
    window = read(of_runs, tmp_path / "log", images=50)
    assert (len(window.found) - (window.live or 0), window.live) == expected


def test_a_log_that_is_not_there_is_told_and_costs_no_run(read: Callable[..., Window], tmp_path: Path) -> None:
    window = read(3, tmp_path / "none")
    assert (len(window.found), window.live) == (3, None)
    assert "Live requests are left out: expected the live log of Triton in" in window.remarks[0]


def test_what_cannot_be_read_is_told(read: Callable[..., Window], tmp_path: Path) -> None:
    write_log(tmp_path / "log", 2)
    with next((tmp_path / "log").glob("*.jsonl")).open("ab") as file:
        file.write(b"{\n")
    (tmp_path / "log" / "live-9999999999.jsonl").symlink_to("/dev/zero")
    window = read(0, tmp_path / "log")
    assert window.live == 2
    assert [each.partition(":")[2].strip() for each in window.remarks] == [
        "1.",
        "1, such as live-9999999999.jsonl (Too many levels of symbolic links).",
    ]


def test_kept_pictures_are_there_to_be_shown_and_embedded(read: Callable[..., Window], tmp_path: Path) -> None:
    write_log(tmp_path / "log", 3, pictures=True)
    write_log(tmp_path / "log", 2, MODEL._replace(version=4))
    window = read(0, tmp_path / "log", pictures=2)
    paths = [each.path for each in window.looked_at.values() if each.path]
    assert len(window.looked_at) == 3
    assert len(paths) == 2
    assert {path.read_bytes() for path in paths} < {encoded(picture(number)) for number in range(3)}


def test_what_is_no_picture_is_counted(read: Callable[..., Window], tmp_path: Path) -> None:
    log = LiveLog(LiveLogSettings(tmp_path / "log", pictures=True), print)
    image = picture(0)
    log.keep(MODEL, {"detections": rows()}, Letterbox.fit(128, 96, 64), image, b"\x89PNG, or so it says")
    log.close()
    window = read(0, tmp_path / "log")
    assert [each.path for each in window.looked_at.values()] == [None]
    (remark,) = window.remarks
    assert remark.startswith("Images that cannot be looked at: 1, 'live request at ")
    assert "(expected a whole JPEG, PNG" in remark


def batch_of(files: dict[str, bytes | Exception], monkeypatch: pytest.MonkeyPatch, **sizes: int) -> Any:
    """What a run of inference has found in these files; the object store is a dict."""

    class Store:
        def read(self, source: MediaSource) -> bytes:
            body = files[source.name]
            if isinstance(body, Exception):
                raise body
            return body

    sources = {
        name: MediaSource(name=name, bucket="media", key=name, etag="1", size=sizes.get(name, 1), kind=MediaKind.IMAGE)
        for name in files
    }
    run = batch(len(files))
    found = [replace(each, source=name) for each, name in zip(run.found, files, strict=True)]
    monkeypatch.setattr(windows, "MediaStore", Store)
    return replace(run, found=found, sources=sources)


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(0)).save(file, kind)
    return file.getvalue()


def test_what_inference_answers_can_be_looked_at(read: Callable[..., Window], monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = saved("JPEG")
    files: dict[str, bytes | Exception] = {
        "a.gif": saved("GIF"),
        "a.avif": saved("AVIF"),
        "a.jp2": saved("JPEG2000"),
        "a.jpg": jpeg,
        **dict.fromkeys(("cam1", "upload.bin", "v1.2/image", "x.zip/entry", "b.png"), jpeg),
    }
    window = read(batch_of(files, monkeypatch), None)
    assert window.remarks == ()
    assert len(window.looked_at) == len(files)
    brightness = window.profile().pictures["brightness"]
    assert brightness == pytest.approx(np.full(len(files), brightness[3]), abs=2)
    shapes = [read_image(each.path).shape for each in window.looked_at.values() if each.path]
    assert shapes == [(96, 128, 3)] * len(files)


def test_an_image_that_cannot_be_looked_at_is_named_with_its_reason(
    read: Callable[..., Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, bytes | Exception] = {
        "half.jpg": saved("JPEG")[:500],
        "gone.jpg": ObjectChangedError("expected the object of that time, found another"),
        "large": saved("JPEG"),
    }
    (remark,) = read(batch_of(files, monkeypatch, large=1 << 27), None).remarks
    assert remark.startswith("Images that cannot be looked at: 3, 'half.jpg' (expected ")
    assert "'gone.jpg' (expected the object of that time, found another)" in remark
    assert "'large' (expected at most 67,108,864 bytes, found 134,217,728)" in remark


def test_days_are_those_of_the_runs(read: Callable[..., Window], tmp_path: Path, monkeypatch: Any) -> None:
    write_log(tmp_path / "log", 2)
    monkeypatch.setattr(windows, "now", lambda: now() + timedelta(days=2))
    assert read(0, tmp_path / "log", days=1).live == 0
    assert read(0, tmp_path / "log", days=3).live == 2


def test_embeddings_are_kept_for_another_attempt(
    read: Callable[..., Window], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie under what they were made of: other images or other weights meet none of them."""
    prefixes = []

    def predict(job: PredictionJob, prefix: str) -> None:
        prefixes.append(prefix)
        write_embeddings(job.embeddings[0], [np.arange(3, dtype=np.float32)] * len(job.chunks[0]))

    (tmp_path / "best.pt").write_bytes(b"weights")
    monkeypatch.setattr(registry, "fetch_weights", lambda *_: tmp_path / "best.pt")
    monkeypatch.setattr(evaluation_steps, "predict_images", predict)
    monkeypatch.setattr(windows, "flow_run_id", lambda: "run")
    write_log(tmp_path / "log", 3, pictures=True)
    window = read(0, tmp_path / "log")
    fewer = replace(window, looked_at=dict(list(window.looked_at.items())[:2]))
    for number, each in enumerate((window, window, fewer)):
        embedded = windows.embed(each, VERSION, None, tmp_path / f"embeddings-{number}")
        assert embedded.profile().embeddings.shape == (3, 3)
    assert all(prefix.startswith("run/embeddings/") for prefix in prefixes)
    assert prefixes[0] == prefixes[1] != prefixes[2]
