"""Batch inference against the real Triton: what goes in comes out, in order, whatever is wrong with one of them."""

import json
import socket
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import inference
from tasks.core.detections import SCHEMA
from tasks.core.geometry import Rgb
from tasks.core.media import VideoWriter
from tasks.core.parameters import InferenceParams
from tasks.core.served import ServedModel
from tasks.inference import InferenceError, detect

EVERYTHING = InferenceParams(confidence=0.01)
Media = list[tuple[str, Path]]


def shapes(seed: int, width: int, height: int) -> Rgb:
    """Return an RGB picture with a few bright shapes on grey."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.uint8)
    reach = max(min(width, height) // 5, 2)
    for _ in range(4):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.circle(image, centre, int(rng.integers(1, reach)), tuple(rng.integers(0, 256, 3).tolist()), cv2.FILLED)
    return image


@pytest.fixture
def media(tmp_path: Path) -> Media:
    """Images of all shapes, an unreadable one among them, and a video with uneven times."""
    found: Media = []
    for number, (width, height) in enumerate([(640, 480), (481, 641), (1600, 120), (31, 47), (640, 480)] * 3):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), shapes(number, width, height))
        found.append((f"day {number % 2}/{number}.png", path))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(cv2.imencode(".jpg", shapes(0, 200, 200))[1].tobytes()[:900])
    found.insert(4, ("day 0/broken.jpg", broken))
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip) as writer:
        for number in range(12):
            writer.write(shapes(number, 321, 241), number * 40.0 + (number > 6) * 500)
    return [*found, ("clips/clip.mp4", clip)]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_input_comes_out_once_in_order(served: ServedModel, media: Media, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    summary = detect.fn(served, media, folder, EVERYTHING)
    coco = json.loads((folder / "coco.json").read_text())
    expected = [name for name, _ in media if "broken" not in name and "clip" not in name] + ["clips/clip.mp4"] * 12
    assert [image["file_name"] for image in coco["images"]] == expected
    assert [image.get("frame") for image in coco["images"]][-12:] == list(range(12))
    assert coco["images"][-1]["timestamp_ms"] == pytest.approx(11 * 40 + 500, abs=0.1)
    assert (summary.images, summary.videos, summary.frames, summary.inputs) == (15, 1, 12, 17)
    table = pq.read_table(folder / "predictions.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == summary.detections == len(coco["annotations"]) == sum(summary.histogram)
    keys = [expected.index(source) + (frame or 0) for source, frame in _keys(table)]
    assert keys == sorted(keys)


def _keys(table: pa.Table) -> list[tuple[str, int | None]]:
    return list(zip(table["source"].to_pylist(), table["frame"].to_pylist(), strict=True))


def test_an_unreadable_image_is_one_failure_and_stops_nothing(
    served: ServedModel, media: Media, tmp_path: Path
) -> None:
    summary = detect.fn(served, media, tmp_path / "out", InferenceParams())
    (line,) = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["input"] == "day 0/broken.jpg"
    assert "expected a whole JPEG" in json.loads(line)["reason"]
    assert summary.failed_inputs == 1
    assert summary.failure_share == pytest.approx(1 / 17)


def test_the_number_of_requests_in_flight_changes_nothing(served: ServedModel, media: Media, tmp_path: Path) -> None:
    tables = []
    for in_flight in (1, 8):
        folder = tmp_path / str(in_flight)
        detect.fn(served, media, folder, EVERYTHING.model_copy(update={"in_flight": in_flight}))
        tables.append(pq.read_table(folder / "predictions.parquet"))
    columns = [name for name in SCHEMA.names if name in {"source", "frame", "timestamp_ms"}]
    assert tables[0].select(columns).equals(tables[1].select(columns))
    for column in ("x1", "y1", "x2", "y2"):
        assert np.allclose(tables[0][column], tables[1][column], atol=1.6)


def test_boxes_lie_inside_the_original(served: ServedModel, media: Media, tmp_path: Path) -> None:
    detect.fn(served, media, tmp_path, EVERYTHING)
    sizes = {
        image["file_name"]: (image["width"], image["height"])
        for image in json.loads((tmp_path / "coco.json").read_text())["images"]
    }
    for row in pq.read_table(tmp_path / "predictions.parquet").to_pylist():
        width, height = sizes[row["source"]]
        assert 0 <= row["x1"] < row["x2"] <= width
        assert 0 <= row["y1"] < row["y2"] <= height
        assert (row["model_name"], row["model_version"]) == (served.name, served.version)


def test_pictures_to_look_at_are_written_and_named_in_the_summary(
    served: ServedModel, media: Media, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    summary = detect.fn(served, media, folder, InferenceParams())
    named = {path for item in summary.items for path in (item.thumbnail, item.annotated)}
    assert named == {path for path in files_in(folder) if path.startswith(("annotated/", "thumbnails/"))}
    assert len(named) == 32
    assert files_in(folder) - named == {"predictions.parquet", "coco.json", "failures.jsonl"}
    (clip,) = (item for item in summary.items if item.kind == "video")
    with av.open(str(folder / str(clip.annotated))) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == clip.frames == 12
    assert frames[-1].time == pytest.approx(0.94, abs=0.001)


def test_without_annotation_only_thumbnails_are_drawn(served: ServedModel, media: Media, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    summary = detect.fn(served, media, folder, InferenceParams(annotate=False))
    assert not (folder / "annotated").exists()
    assert {item.annotated for item in summary.items} == {None}
    assert len(list((folder / "thumbnails").iterdir())) == 16


def test_an_input_that_is_named_twice_is_done_once(served: ServedModel, media: Media, tmp_path: Path) -> None:
    summary = detect.fn(served, [*media[:2], media[0]], tmp_path / "out", InferenceParams())
    assert (summary.images, summary.failures) == (2, ())


def test_nothing_to_do_gives_empty_results(served: ServedModel, tmp_path: Path) -> None:
    summary = detect.fn(served, [], tmp_path, InferenceParams())
    assert (summary.inputs, summary.failure_share) == (0, 0.0)
    assert files_in(tmp_path) == {"predictions.parquet", "coco.json", "failures.jsonl"}


def test_a_version_that_is_not_served_is_an_error_that_names_it(
    served: ServedModel, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "PATIENCE_S", 0.5)
    missing = ServedModel(served.name, 987_654, *_rest(served))
    with pytest.raises(InferenceError, match=rf"{served.name} version 987654.*deploy_model"):
        detect.fn(missing, media, tmp_path, InferenceParams())


def _rest(model: ServedModel) -> tuple[str, int, tuple[str, ...], str]:
    return model.task, model.image_size, model.class_names, model.run_id


def test_a_server_that_is_down_is_an_error_and_leaves_whole_files(
    media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{closed_port()}"
    monkeypatch.setenv("TRITON_GRPC_URL", address)
    monkeypatch.setattr(inference, "PATIENCE_S", 1.0)
    model = ServedModel("nobody", 1, "detect", 64, ("thing",), "run")
    with pytest.raises(InferenceError, match=rf"Triton at {address} .*UNAVAILABLE.*make status"):
        detect.fn(model, media, tmp_path / "out", InferenceParams())
    assert files_in(tmp_path / "out") == {"predictions.parquet", "coco.json", "failures.jsonl"}
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == 0


def test_unreadable_inputs_need_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_GRPC_URL", f"127.0.0.1:{closed_port()}")
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    model = ServedModel("nobody", 1, "detect", 64, ("thing",), "run")
    summary = detect.fn(model, [("notes.txt", path)], tmp_path / "out", InferenceParams())
    assert (summary.inputs, summary.failed_inputs) == (1, 1)
