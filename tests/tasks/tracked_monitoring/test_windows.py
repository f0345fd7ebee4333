"""The window of a version: what runs of inference and the live log have of it, with room for both."""

import io
import json
from collections.abc import Callable, Collection
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
from tasks.inference import publication
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.media.images import read_image
from tasks.monitoring.window import Window
from tasks.orchestration.current_run import now
from tasks.parameters import InferenceParams, MonitoringParams
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.tracked_monitoring import windows
from tasks.tracking import registry
from tasks.tracking.inference_runs import InferenceRun
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
    """Reads a window of runs of inference, the newest first, each with so many images or as it is given.

    `chosen` are the numbers of those whose images were chosen for people.
    """

    def read(of_runs: Any, log: Path | None, chosen: Collection[int] = (), **monitoring: Any) -> Window:
        monkeypatch.setattr(windows, "log_step", lambda *_: None)  # there is no run whose log it could be
        given = of_runs if isinstance(of_runs, list) else [of_runs]
        answered = [batch(each) if isinstance(each, int) else each for each in given if each]
        runs = {str(number): each for number, each in enumerate(answered)}
        listed = [
            InferenceRun(
                run_id="",
                flow_run_id=run,
                model="cells",
                versions=(3,),
                created=now(),
                figures={},
                chosen=int(run) in chosen,
            )
            for run in runs
        ]
        monkeypatch.setattr(windows, "_recent_runs", lambda *_: iter(listed))
        monkeypatch.setattr(windows, "_least_of", lambda run, _: runs[run].least)
        monkeypatch.setattr(windows, "_read_run", lambda run, *_: runs[run])
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


def kept_from(confidence: float, images: int, name: str) -> Any:
    run = batch(images)
    found = [replace(each, source=f"{name}/{number}") for number, each in enumerate(run.found)]
    return replace(run, found=found, least=np.full(2, confidence))


@pytest.mark.parametrize("largest", [3, 500])
def test_a_run_that_has_kept_hardly_anything_does_not_stand_for_the_week(
    read: Callable[..., Window], largest: int
) -> None:
    """Whatever its size, and though it is the newest."""
    runs = [kept_from(0.99, largest, "sure"), kept_from(0.25, 60, "a"), kept_from(0.3, 60, "b")]
    window = read(runs, None)
    assert window.least.tolist() == [0.3, 0.3]
    assert (len(window.found), window.runs) == (120, 2)
    (remark,) = window.remarks
    assert remark == (
        "Runs of inference that are left out, as what they have was kept from a higher confidence on: 1. All else is "
        "compared from confidence 0.3 on."
    )


def test_runs_that_repeat_the_same_images_do_not_fill_the_window(read: Callable[..., Window]) -> None:
    runs = [*(kept_from(0.25, 20, "a") for _ in range(3)), kept_from(0.25, 20, "b")]
    assert len(read(runs, None, images=50).found) == 40


def test_runs_that_repeat_the_same_images_do_not_outweigh_others(read: Callable[..., Window]) -> None:
    runs = [*(kept_from(0.5, 50, "same") for _ in range(20)), kept_from(0.25, 300, "others")]
    window = read(runs, None)
    assert (window.least.tolist(), len(window.found), window.runs) == ([0.25, 0.25], 300, 1)


def test_a_picture_that_is_written_over_is_another_one_each_time(
    read: Callable[..., Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the newest one of a camera."""
    run = batch_of({"latest.jpg": saved("JPEG")}, monkeypatch)
    runs = [
        replace(run, sources={name: replace(run.sources[name], etag=etag) for name in run.sources}) for etag in "5443"
    ]
    window = read(runs, None)
    assert (len(window.found), window.runs, len(window.looked_at)) == (3, 4, 3)


def test_what_was_chosen_for_people_to_correct_is_left_out_and_counted(read: Callable[..., Window]) -> None:
    """Such runs are no drift, however new and large they are, and they take no room from the others."""
    runs = [kept_from(0.25, 500, "chosen"), kept_from(0.25, 20, "a"), kept_from(0.25, 30, "b"), kept_from(0.25, 9, "c")]
    window = read(runs, None, chosen={0, 3})
    assert ({each.source.partition("/")[0] for each in window.found}, window.runs) == ({"a", "b"}, 2)
    (remark,) = window.remarks
    assert remark.startswith("Runs of inference that are left out: 2. Their images were chosen for people to correct")


def test_each_run_that_is_left_out_is_counted(read: Callable[..., Window]) -> None:
    runs = [*(kept_from(0.99, 40, f"sure-{number}") for number in range(4)), kept_from(0.25, 60, "a")]
    window = read(runs, None, images=50)
    assert (len(window.found), window.runs) == (50, 1)
    assert window.remarks[0].startswith("Runs of inference that are left out, as what they have was kept from a higher")
    assert "confidence on: 4." in window.remarks[0]


def test_an_image_is_that_of_the_newest_run_that_is_compared(read: Callable[..., Window]) -> None:
    wide = [replace(each, width=20) for each in kept_from(0.25, 3, "a").found]
    runs = [kept_from(0.99, 3, "a"), replace(kept_from(0.25, 3, "a"), found=wide), kept_from(0.25, 3, "a")]
    assert [each.width for each in read(runs, None).found] == [20] * 3


def test_a_run_alone_is_compared_from_where_it_was_kept(read: Callable[..., Window]) -> None:
    window = read([kept_from(0.99, 60, "sure")], None)
    assert (window.least.tolist(), len(window.found), window.remarks) == ([0.99, 0.99], 60, ())


def test_a_line_that_says_that_nothing_was_kept_leaves_the_others_as_they_are(
    read: Callable[..., Window], tmp_path: Path
) -> None:
    write_log(tmp_path / "log", 20)
    path = next((tmp_path / "log").glob("*.jsonl"))
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"least": 1}), *others]) + "\n")
    window = read(0, tmp_path / "log")
    assert window.least.tolist() == [0.01, 0.01]
    assert window.live == 19
    (remark,) = window.remarks
    assert remark.startswith(
        "Live requests that are left out, as what they have was kept from a higher confidence on: 1"
    )


def test_a_run_about_classes_of_another_version_is_left_out(
    monkeypatch: pytest.MonkeyPatch, read: Callable[..., Window]
) -> None:
    least_of = windows._least_of
    read(0, None)
    given = {"ours": {"dog": 0.5}, "another's": {"horse": 0.5}}
    monkeypatch.setattr(publication, "find_parameters", lambda run: InferenceParams(class_confidence=given[run]))
    least = least_of("ours", VERSION)
    assert least is not None
    assert least.tolist() == [0.25, 0.5]
    assert least_of("another's", VERSION) is None


def test_a_log_that_is_not_there_is_told_and_costs_no_run(read: Callable[..., Window], tmp_path: Path) -> None:
    window = read(3, tmp_path / "none")
    assert (len(window.found), window.live) == (3, None)
    assert window.remarks == (f"No live request was sampled yet: there is no {tmp_path}/none (STUDIO_LIVE_LOG_DIR).",)
    (tmp_path / "none").write_text("")
    assert "Live requests are left out: expected the live log of Triton in" in read(3, tmp_path / "none").remarks[0]


def test_a_log_without_answers_of_the_version_says_so(read: Callable[..., Window], tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for _ in range(2):
        window = read(3, tmp_path / "log")
        assert (len(window.found), window.live) == (3, 0)
        assert window.remarks == ("No live request that this version has answered was sampled in these days.",)
        write_log(tmp_path / "log", 2, MODEL._replace(version=4))


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
