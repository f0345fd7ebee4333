"""Model `predict` in the stack's Triton, as its clients meet it."""

import json
import os
import re
import struct
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from PIL import Image
from tritonclient.utils import InferenceServerException

from infra import publish_predict as publishing
from infra import supervisord
from infra.services import s3_client
from infra.stack_settings import StackSettings
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import NO_DEFAULT_VERSION
from tasks.settings import Settings
from tasks.vision import geometry
from tests.clients import Clients
from tests.model_repository import live_logs
from tests.tasks.dataset.archives import huge_png
from tests.tasks.serving.graphs import (
    constant_graph,
    encoded,
    filled,
    mirror_graph,
    noise,
    publish,
    rows,
    serve,
    smooth,
)
from tests.waiting import eventually

SIZE = 64
NAMES = ("cat", "dog", "newt")
GOOD = encoded(noise(40, 30))
LIVE = ServedModel(name="live-detect", version=1, task="detect", image_size=SIZE, class_names=NAMES, run_id="no-run")
FOUND = rows((10, 20, 30, 40, 0.9, 1), (12, 20, 30, 40, 0.6, 1), (5, 18, 9, 30, 0.2, 7))
PICTURE = encoded(noise(128, 96))  # gain 1/2, 8 rows of grey above


@pytest.fixture(scope="module")
def live(stack: StackSettings) -> ServedModel:  # noqa: ARG001
    """A detector that finds two dogs, and a third thing that is not so sure."""
    publish(LIVE, constant_graph(SIZE, {"detections": FOUND}))
    serve([LIVE], champion=1)
    return LIVE


def curl(data: bytes, **headers: str) -> tuple[int, Any]:
    """The bare bytes of a file, as `curl --data-binary @photo.jpg` sends them."""
    connection = HTTPConnection(Settings().triton_http_url, timeout=60)
    connection.request("POST", "/v2/models/predict/infer", data, {"Inference-Header-Content-Length": "0"} | headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        return answer.status, json.loads(body)["error"]
    return answer.status, json.loads(body[int(answer.headers["Inference-Header-Content-Length"]) + 4 :])


def over_http(data: bytes, parameters: dict[str, Any]) -> Any:
    tensor = triton_http.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], np.object_))
    with triton_http.InferenceServerClient(Settings().triton_http_url) as client:
        return json.loads(client.infer("predict", [tensor], parameters=parameters).as_numpy("json")[0])


def over_grpc(data: bytes, parameters: dict[str, Any]) -> Any:
    tensor = triton_grpc.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([data], np.object_))
    with triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client:
        return json.loads(client.infer("predict", [tensor], parameters=parameters).as_numpy("json")[0])


@pytest.mark.parametrize("ask", [over_http, over_grpc, lambda data, parameters: curl(data, **parameters)[1]])
@pytest.mark.parametrize("data", [PICTURE, encoded(noise(128, 96), "PNG")], ids=["jpeg", "png"])
def test_one_request_with_a_picture_and_a_name_returns_json(live: ServedModel, ask: Any, data: bytes) -> None:
    answer = ask(data, {"model": live.name})
    assert answer.pop("milliseconds") > 0
    assert answer == {
        "model": live.name,
        "version": 1,
        "task": "detect",
        "width": 128,
        "height": 96,
        "boxes": [[20, 24, 60, 64], [24, 24, 60, 64]],
        "labels": ["dog", "dog"],
        "scores": [0.9, 0.6],
    }


def test_thresholds_are_parameters(live: ServedModel) -> None:
    assert over_grpc(PICTURE, {"model": live.name, "confidence": "0.1"})["labels"] == ["dog", "dog", "class 7"]
    assert over_grpc(PICTURE, {"model": live.name, "iou": "0.5"})["scores"] == [0.9]
    assert over_http(PICTURE, {"model": live.name, "confidence": 0.95})["boxes"] == []


def test_boxes_are_in_pixels_of_the_picture_as_it_is_shown(live: ServedModel) -> None:
    exif = Image.Exif()
    exif[274] = 6
    answer = over_http(encoded(noise(96, 128), exif=exif), {"model": live.name})
    assert (answer["width"], answer["height"], answer["boxes"][0]) == (128, 96, [20, 24, 60, 64])


@pytest.mark.parametrize(
    ("data", "headers", "status", "words"),
    [
        (b"junk", {"model": LIVE.name}, 400, "expected a JPEG or PNG file"),
        (huge_png(20_000, 20_000), {"model": LIVE.name}, 400, "expected at most 100000000 pixels"),
        (GOOD + bytes(33_554_432), {"model": LIVE.name}, 400, "expected at most 33554432 bytes"),
        (GOOD, {"model": "stranger"}, 404, "expected a model that is served, found none named 'stranger'"),
        (GOOD, {}, 400, "expected a model name"),
        (GOOD, {"model": "../live-detect"}, 400, "expected a model name"),
        (GOOD, {"model": "live-detect/versions/1"}, 400, "expected a model name"),
        (GOOD, {"model": "predict"}, 404, "found 'predict' version . with task ''"),
        (GOOD, {"model": LIVE.name, "version": "7"}, 404, r"found version 7: ask for one of \[1\]"),
        (GOOD, {"model": LIVE.name, "version": "1/config"}, 400, "expected `version` as a whole number"),
        (GOOD, {"model": LIVE.name, "confidence": "2"}, 400, "expected `confidence` from 0 to 1"),
    ],
)
def test_what_cannot_be_answered_is_reported_and_the_server_lives(
    live: ServedModel, data: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    found, message = curl(data, **headers)
    assert found == status, message
    assert re.search(words, message), message
    assert curl(PICTURE, model=live.name)[0] == 200


def test_headers_of_others_are_no_parameters(live: ServedModel) -> None:
    assert curl(PICTURE, **{"Model": live.name, "X-Model": "other", "Version-Hint": "7"})[0] == 200


def test_a_request_that_is_no_picture_at_all_leaves_the_server_alive(live: ServedModel) -> None:
    tensor = triton_grpc.InferInput("image", [2], "BYTES")
    tensor.set_data_from_numpy(np.array([GOOD, GOOD], np.object_))
    with (
        triton_grpc.InferenceServerClient(Settings().triton_grpc_url) as client,
        pytest.raises(InferenceServerException, match="shape"),
    ):
        client.infer("predict", [tensor])
    assert curl(PICTURE, model=live.name)[0] == 200


SEGMENT = {
    "detections": rows((8, 12, 40, 44, 0.8, 0)),
    "coefficients": rows((1.0, 0.0), width=2),
    # A disc of radius 12 around (24, 28), as a slope that is 0 on its edge; and a second prototype that does not count.
    "prototypes": np.stack(
        [
            12 - np.hypot(*np.meshgrid(np.arange(16) * 4 + 2 - 24, np.arange(16) * 4 + 2 - 28)),
            np.full((16, 16), 50.0),
        ]
    ),
}
POSE = {
    "detections": rows((10, 20, 30, 40, 0.9, 0)),
    "keypoints": np.pad(np.array([[[10, 20, 0.9], [30, 40, 0.1]]], np.float32), ((0, 299), (0, 0), (0, 0))),
}
OBB = {"detections": rows((10, 20, 30, 40, 0.9, 2)), "rotated": rows((20, 30, 20, 10, np.pi / 2), width=5)}


@pytest.fixture(scope="module")
def tasks(stack: StackSettings) -> Callable[..., Any]:  # noqa: ARG001
    def ask(task: str, graph: bytes, data: bytes, size: int = SIZE, **parameters: Any) -> Any:
        names = tuple(parameters.pop("names", NAMES))
        model = ServedModel(
            name=f"live-{task}-{size}", version=1, task=task, image_size=size, class_names=names, run_id="no-run"
        )
        publish(model, graph)
        serve([model])
        return over_http(data, {"model": model.name, **parameters})

    return ask


def test_a_segment_model_gives_polygons(tasks: Any) -> None:
    answer = tasks("segment", constant_graph(SIZE, SEGMENT), PICTURE)
    (ring,) = answer["polygons"]
    assert (answer["task"], answer["labels"], answer["boxes"]) == ("segment", ["cat"], [[16, 8, 80, 72]])
    expected = np.hypot(*(np.mgrid[: 96 * 8, : 128 * 8].transpose(1, 2, 0) / 8 - (40, 48)).transpose(2, 0, 1)) < 24
    drawn = filled(ring, 128, 96)
    assert (drawn & expected).sum() / (drawn | expected).sum() > 0.93


def test_a_pose_model_gives_keypoints(tasks: Any) -> None:
    answer = tasks("pose", constant_graph(SIZE, POSE), PICTURE)
    assert answer["keypoints"] == [[[20, 24, 0.9], [60, 64, 0.1]]]


def test_an_obb_model_gives_corners(tasks: Any) -> None:
    answer = tasks("obb", constant_graph(SIZE, OBB), PICTURE)
    corners = {(x, y) for x, y in answer["polygons"][0]}
    assert corners == {(30, 24), (50, 24), (30, 64), (50, 64)}
    assert answer["labels"] == ["newt"]


def test_a_classify_model_gives_probabilities_best_first(tasks: Any) -> None:
    graph = constant_graph(SIZE, {"scores": np.array([0.2, 0.7, 0.1], np.float32)})
    answer = tasks("classify", graph, PICTURE)
    assert (answer["labels"], answer["scores"]) == (["dog", "cat", "newt"], [0.7, 0.2, 0.1])
    assert tasks("classify", graph, PICTURE, confidence="0.15")["labels"] == ["dog", "cat"]


def test_a_classifier_is_shown_the_centre_as_in_training(tasks: Any) -> None:
    """Through the real server and its own libraries, number by number."""
    picture = smooth(150, 90)
    names = [str(index) for index in range(24 * 24 * 3)]
    answer = tasks("classify", mirror_graph(24), encoded(picture, "PNG"), 24, names=names)
    shown = dict(zip(answer["labels"], answer["scores"], strict=True))
    numbers = [shown[name] for name in names]
    expected = geometry.center_crop(picture, 24)
    np.testing.assert_array_equal(np.round(np.array(numbers).reshape(24, 24, 3) * 255), expected)


class Callers(Clients):
    """Two of them, asking a moment after each answer until they are left; every answer's version is kept."""

    def __init__(self, model: str) -> None:
        self.model, self.versions, self.failures = model, list[int](), list[object]()
        super().__init__(2)

    def run(self) -> None:
        """Ask again and again."""
        while not self.stop.wait(0.01):
            status, answer = curl(PICTURE, model=self.model)
            if status == 200:
                self.versions.append(answer["version"])
            else:
                self.failures.append(answer)


def test_clients_never_see_a_roll_out(stack: StackSettings) -> None:  # noqa: ARG001
    """The old version is dropped at once, while `predict` still believes that it is the champion."""
    name = "live-rolled"
    old, new = (
        ServedModel(name=name, version=version, task="detect", image_size=SIZE, class_names=NAMES, run_id="no-run")
        for version in (1, 2)
    )
    for model in (old, new):
        publish(model, constant_graph(SIZE, {"detections": FOUND}))
    serve([old], champion=1)
    with Callers(name) as clients:
        for model in (new, old, new, old):
            serve([model], champion=model.version)
    assert not clients.failures
    assert set(clients.versions) == {1, 2}


def test_without_a_champion_the_newest_answers_and_any_version_can_be_requested(stack: StackSettings) -> None:  # noqa: ARG001
    name = "live-versions"
    both = [
        ServedModel(name=name, version=version, task="detect", image_size=SIZE, class_names=NAMES, run_id="no-run")
        for version in (1, 3)
    ]
    for model in both:
        publish(model, constant_graph(SIZE, {"detections": FOUND}))
    serve(both)
    assert over_http(PICTURE, {"model": name})["version"] == 3
    assert over_http(PICTURE, {"model": name, "version": 1})["version"] == 1
    serve(both, champion=NO_DEFAULT_VERSION)
    status, words = curl(PICTURE, model=name, version="3")
    assert status == 200
    status, words = curl(PICTURE, model=name)
    assert status == 404
    assert "ask for one of [1, 3] as `version`" in words


def test_changed_files_are_served_by_the_next_start_and_the_same_files_are_left_alone(
    stack: StackSettings, live: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_client(stack)
    assert not publishing.publish(store)
    for path in publishing.SOURCE.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = (tmp_path / "request.py").read_text().replace("CONFIDENCE = 0.25", "CONFIDENCE = 0.75")
    (tmp_path / "request.py").write_text(changed)
    with Callers(live.name) as clients:
        with monkeypatch.context() as patch:
            patch.setattr(publishing, "SOURCE", tmp_path)
            assert publishing.publish(store)
        # As after a load that failed: nothing to publish, and Triton still serves the other one.
        assert publishing.ensure_served(stack, store)
        assert not publishing.ensure_served(stack, store)
        assert curl(PICTURE, model=live.name)[1]["scores"] == [0.9]
        assert publishing.publish(store)
        assert publishing.ensure_served(stack, store)
        assert curl(PICTURE, model=live.name)[1]["scores"] == [0.9, 0.6]
    assert not clients.failures
    keys = [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="models", Prefix="predict/")["Contents"]]
    assert len({key.split("/")[1] for key in keys if key.endswith(".py")}) == 1


def test_the_length_of_bytes_is_believed_by_nobody(live: ServedModel) -> None:
    """A tensor that says that it is longer than what was sent is refused by Triton itself."""
    head = json.dumps(
        {
            "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}],
            "parameters": {"model": live.name},
        }
    ).encode()
    connection = HTTPConnection(Settings().triton_http_url, timeout=60)
    body = head + struct.pack("<I", 2**31) + b"four"
    connection.request("POST", "/v2/models/predict/infer", body, {"Inference-Header-Content-Length": str(len(head))})
    assert connection.getresponse().status >= 400
    connection.close()
    assert curl(PICTURE, model=live.name)[0] == 200


def logged(model: str, count: int) -> list[dict[str, Any]]:
    """The lines about a model in the log of the stack, which samples every request."""
    folder = Path(os.environ["STUDIO_LIVE_LOG_DIR"])

    def found() -> list[dict[str, Any]]:
        own = [line for line in live_logs.lines(folder) if line["model"] == model]
        return own if len(own) >= count else []

    return eventually(found, f"{count} answers of {model} in {folder}")


def test_answers_are_in_the_live_log_as_the_version_gave_them(stack: StackSettings) -> None:
    """Two versions answer at once, and requests of any confidence; one that failed is in no log."""
    name = "live-logged"
    both = [
        ServedModel(name=name, version=version, task="detect", image_size=SIZE, class_names=NAMES, run_id="no-run")
        for version in (1, 2)
    ]
    for model in both:
        publish(model, constant_graph(SIZE, {"detections": FOUND}))
    serve(both, champion=2)
    assert curl(PICTURE, model=name, confidence="0.95")[0] == 200
    assert curl(PICTURE, model=name, version="1", confidence="0.1", iou="0.5")[0] == 200
    assert curl(PICTURE, model=name, confidence="auto")[0] == 400
    lines = logged(name, 2)
    assert [line["version"] for line in lines] == [2, 1]
    for line in lines:
        assert [row[:2] for row in line["found"]] == [[1, 0.9], [1, 0.6], [7, 0.2]]
        assert (line["width"], line["height"], line["least"]) == (128, 96, 0.01)
        assert "picture" not in line
    folder = stack.state_dir / "live-log"
    assert [path.name for path in (folder, *folder.iterdir()) if path.stat().st_mode & 0o077] == []


def test_answers_come_while_the_log_cannot_be_written_and_the_server_says_so(stack: StackSettings) -> None:
    folder, away = stack.state_dir / "live-log", stack.state_dir / "live-log-away"
    folder.mkdir(exist_ok=True)
    folder.rename(away)
    try:
        folder.write_text("in its place")
        publish(LIVE, constant_graph(SIZE, {"detections": FOUND}))
        serve([LIVE], champion=1)
        assert [curl(PICTURE, model=LIVE.name)[0] for _ in range(20)] == [200] * 20
        warning = "expected .*live-log .STUDIO_LIVE_LOG_DIR. to take a sample of the answers"
        log = supervisord.log_file(stack, "triton")
        eventually(lambda: re.search(warning, log.read_text()), "a warning")
    finally:
        folder.unlink()
        away.rename(folder)
    assert curl(PICTURE, model=LIVE.name)[0] == 200
    assert logged(LIVE.name, 1)
