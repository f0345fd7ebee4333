"""What a version finds in images, from whoever has it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prefect.logging import disable_run_logger

from tasks.dataset.image_stats import ImageStats
from tasks.evaluation import steps as evaluation_steps
from tasks.inference import done_inputs, publication, work_queue
from tasks.inference.results.chunk_results import ChunkResultWriter, merge_chunk_results
from tasks.inference.results.summary import Failure
from tasks.inference.results.yolo_labels import to_label_lines
from tasks.inference.usable_images import UsableImage
from tasks.inference.work_plan import MediaSource
from tasks.labelling import predictions
from tasks.labelling.reuse import LabelNeeds
from tasks.media.file_type import MediaKind
from tasks.tracking import registry
from tasks.tracking.registry import ModelVersion
from tasks.vision.detections import Detections
from tests.tasks.evaluation.test_version_evaluation import ROWS, SIDE, perfect, unpacked
from tests.tasks.inference.results.examples import MODEL, picture

NAMES = ("red", "white")
VERSION = ModelVersion(name="cells", version=7, run_id="", task="detect", image_size=64, class_names=NAMES)


def source(name: str, kind: MediaKind = MediaKind.IMAGE) -> MediaSource:
    return MediaSource(name=name, bucket="media", key=name, etag=f"of {name}", size=1, kind=kind)


def results(folder: Path, versions: dict[str, int], failed: str = "") -> None:
    """What a run has left: each image with one detection, by a version."""
    parts = []
    for number, (name, version) in enumerate(versions.items()):
        with ChunkResultWriter(folder / "parts", number, replace(MODEL, version=version)) as part:
            part.add(picture(0, source=name))
            if failed and number == 0:
                part.fail(Failure(source=failed, reason="gone"))
        parts.append(part.path)
    merge_chunk_results(parts, folder)


def test_only_images_that_nobody_has_predicted_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(tmp_path / "old", {"a": 7, "elsewhere": 7})
    results(tmp_path / "own", {"b": 7, "c": 8}, failed="d")
    asked: list[str] = []
    listed = [*map(source, "abcd"), source("film", MediaKind.VIDEO)]
    listed += [replace(source("e"), fault="no image"), replace(source("z"), note="!")]
    monkeypatch.setattr(predictions, "list_media_sources", lambda _: listed)
    monkeypatch.setattr(predictions, "flow_run_id", lambda: "own")
    monkeypatch.setattr(registry, "find_champion", lambda _: VERSION)
    monkeypatch.setattr(done_inputs, "read_done", lambda *_: {("a", "of a"): "old", ("b", "before"): "old"})
    monkeypatch.setattr(publication, "is_published", lambda _: False)
    monkeypatch.setattr(publication, "fetch_results", lambda run, _: tmp_path / run)
    monkeypatch.setattr(work_queue, "open_queue", lambda _: None)
    monkeypatch.setattr(predictions, "_ask_triton", lambda _, wanted, *__: asked.extend(each.name for each in wanted))
    with disable_run_logger():
        predicted = predictions.predict_inputs(VERSION, ["any"], LabelNeeds((0.5, 0.5)), None, tmp_path)
    assert asked == ["b", "c", "d"]
    assert [(each.source, len(each.rows)) for each in predicted.found] == [("b", 1), ("a", 1)]  # 8 answered for c
    assert [(each.source, each.reason, each.severity) for each in predicted.failures] == [
        ("e", "no image", "error"),
        ("z", "!", "warning"),
        ("d", "gone", "error"),
    ]
    assert (set(predicted.sources), predicted.videos, predicted.run) == ({"a", "b", "c", "d"}, 1, None)


def test_weights_predict_in_rounds_of_which_only_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and the process that predicts with them are left out."""
    rounds: list[list[bytes]] = []

    def read(_: object, asked: MediaSource) -> UsableImage | Failure:
        if asked.name == "b":
            return Failure(source="b", reason="gone")
        return UsableImage(data=asked.name.encode(), ending=".jpg", checksum=(0, 0), stats=ImageStats(1, 1))

    def predict(paths: list[Path], *given: object) -> list[Detections]:
        assert not Path(str(given[-1])).exists()
        rounds.append([path.read_bytes() for path in sorted((tmp_path / "weights").rglob("*.jpg"))])
        return [picture(0, source=path.name) for path in paths]

    monkeypatch.setattr(predictions, "IMAGES_ON_DISK", 2)
    monkeypatch.setattr(predictions, "MediaStore", lambda: None)
    monkeypatch.setattr(predictions, "read_usable_image", read)
    monkeypatch.setattr(registry, "fetch_weights", lambda _, folder: folder / "best.pt")
    monkeypatch.setattr(evaluation_steps, "predict_files", predict)
    failures: list[Failure] = []
    wanted, needs = [*map(source, "abcde")], LabelNeeds((0.5, 0.5))
    found = predictions._predict_with_weights(VERSION, wanted, needs, None, tmp_path / "weights", failures)
    assert [(each.source, len(each.rows)) for each in found] == [(name, 1) for name in "acde"]
    assert rounds == [[b"a"], [b"c", b"d"], [b"e"]]
    assert [each.source for each in failures] == ["b"]
    assert not [*(tmp_path / "weights").rglob("*.jpg")]


@pytest.mark.parametrize("task", [*ROWS, "classify"])
def test_what_weights_find_is_told_as_a_run_of_inference_tells_it(task: str, tmp_path: Path) -> None:
    data = unpacked(tmp_path, task)
    version = replace(VERSION, task=task, class_names=data.class_names)
    for image, found in zip(data.images, perfect(data, task), strict=True):
        told = predictions.to_predicted(version, "a.jpg", found, 0.5)
        assert (told.source, told.width, told.height, told.model_version) == ("a.jpg", SIDE, SIDE, 7)
        if task == "classify":
            assert [row["class_id"] for row in told.rows] == [image.class_id]
            continue
        (line,) = to_label_lines(task, told.width, told.height, told.rows, [row["class_id"] for row in told.rows])
        number, *coordinates = map(float, line.split())
        assert number == image.rows[0].class_id
        points, true = np.array(coordinates), image.rows[0].coordinates
        if task in {"detect", "pose"}:
            assert points[:4] == pytest.approx(true[:4], abs=0.02)
        else:  # an outline begins anywhere, and that of a mask has more points
            spans = [(own.reshape(-1, 2).min(0), own.reshape(-1, 2).max(0)) for own in (points, true)]
            assert np.concatenate(spans[0]) == pytest.approx(np.concatenate(spans[1]), abs=0.05)
        assert predictions.to_predicted(version, "a.jpg", found, 0.95).rows == []
