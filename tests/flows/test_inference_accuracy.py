"""A run finds what Ultralytics' own predict finds in the same files: real scenes, in every shape."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from ultralytics.models import YOLO
from ultralytics.utils import ASSETS

from flows.run_inference import run_inference
from tasks.media.images import read_image
from tasks.parameters import InferenceParams
from tasks.vision.geometry import Floats, Letterbox, Rgb, box_iou_matrix
from tests.benchmarks import scenes
from tests.tasks.export.finders import finder

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("stack")]

SIZE = 640
CONFIDENCE, IOU = 0.25, 0.7
SAME_BOX, SAME_SCORE = 0.95, 0.02


class Found(NamedTuple):
    """Corners [n,4], confidences [n] and classes [n] in one picture."""

    xyxy: Floats
    class_scores: Floats
    classes: Floats


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    bus, zidane = (np.asarray(cv2.imread(str(ASSETS / name)), np.uint8) for name in ("bus.jpg", "zidane.jpg"))
    wide = cv2.resize(np.hstack([bus[400:900], zidane[:500]]), (3000, 400))
    shapes = {
        "portrait.jpg": bus,
        "landscape.jpg": zidane,
        "odd.jpg": zidane[:479, 101:742],
        "narrow.png": bus[:, 30:363],
        "panorama.jpg": wide,
        "square.png": bus[200:840, 85:725],
        "tiny.jpg": cv2.resize(bus, (40, 30), interpolation=cv2.INTER_AREA),
    }
    for name, image in shapes.items():
        assert cv2.imwrite(str(folder / name), image)
    return folder


@pytest.fixture(scope="module")
def weights(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that find much without having learned anything."""
    path = finder(tmp_path_factory.mktemp("weights"), "yolo11n", [_square(file) for file in sorted(files.iterdir())])
    model: Any = YOLO(str(path))
    # Fewer than the 300 that both sides keep at most, and not so sure that many have the same score of 1.
    for branch in model.model.model[-1].cv3:
        branch[-1].weight.data *= 0.45
    model.save(path)
    return path


def _square(file: Path) -> Rgb:
    image = read_image(file)
    return Letterbox.fit(image.shape[1], image.shape[0], SIZE).apply(image)


@pytest.fixture(scope="module")
def ours(weights: Path, files: Path) -> Mapping[str, Found]:
    """What a run finds, by file; with some of what it would leave out, see `agree`."""
    model, prefix = f"accurate-{uuid4().hex[:8]}", f"accuracy-{uuid4().hex[:8]}/"
    scenes.serve(model, weights, SIZE)
    for file in files.iterdir():
        boto3.client("s3").upload_file(str(file), "media", prefix + file.name)
    params = InferenceParams(confidence=CONFIDENCE - SAME_SCORE, iou=IOU, annotate=False)
    state = run_inference(model, [prefix], params, return_state=True)
    assert state.is_completed(), state.message
    key = f"{state.state_details.flow_run_id}/predictions.parquet"
    body = boto3.client("s3").get_object(Bucket="predictions", Key=key)["Body"].read()
    return dict(_by_file(pq.read_table(io.BytesIO(body)).to_pandas()))


def _by_file(rows: Any) -> Iterator[tuple[str, Found]]:
    for source, group in rows.groupby("source"):
        boxes = group[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        yield Path(source).name, Found(boxes, group["confidence"].to_numpy(), group["class_id"].to_numpy())


@pytest.fixture(scope="module")
def theirs(weights: Path, files: Path) -> Mapping[str, Found]:
    """What Ultralytics finds in this process."""
    model: Any = YOLO(str(weights))
    options = {"conf": CONFIDENCE - SAME_SCORE, "iou": IOU, "rect": False, "imgsz": SIZE, "device": "cpu"}
    found = {}
    for file in files.iterdir():
        boxes = model.predict(str(file), verbose=False, **options)[0].boxes.cpu().numpy()
        # A box that lies in the padding alone is clipped to a line, which a run leaves out.
        boxes = boxes[(boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all(axis=1)]
        found[file.name] = Found(boxes.xyxy, boxes.conf, boxes.cls)
    return found


def unmatched(found: Found, other: Found) -> list[str]:
    """The detections that count of one side for which the other has no partner of its own."""
    overlap = box_iou_matrix(found.xyxy, other.xyxy)
    same = (overlap >= SAME_BOX) & (found.classes[:, None] == other.classes[None])
    same &= np.abs(found.class_scores[:, None] - other.class_scores[None]) <= SAME_SCORE
    left, taken = list[str](), set[int]()
    for place in np.argsort(-found.class_scores, kind="stable").tolist():
        partners = [number for number in np.argsort(-overlap[place]).tolist() if same[place, number]]
        partner = next((number for number in partners if number not in taken), None)
        if partner is not None:
            taken.add(partner)
        # The score of a detection at the threshold may lie on its other side: those just below are partners only.
        elif found.class_scores[place] >= CONFIDENCE:
            left.append(
                f"class {found.classes[place]:.0f} {found.class_scores[place]:.3f} {found.xyxy[place].round(1)}"
            )
    return left


def test_a_run_finds_what_ultralytics_finds(ours: Mapping[str, Found], theirs: Mapping[str, Found]) -> None:
    nothing = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    counted = sum(int((found.class_scores >= CONFIDENCE).sum()) for found in theirs.values())
    assert counted > 20
    for name, found in theirs.items():
        mine = ours.get(name, nothing)
        assert not unmatched(found, mine), f"{name}: not found by the run"
        assert not unmatched(mine, found), f"{name}: found by the run alone"
