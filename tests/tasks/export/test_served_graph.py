"""Exported graphs of every task answer what Ultralytics' own predict answers for the same weights.

These models have learned nothing; see finders.py.
"""

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from ultralytics.models import YOLO
from ultralytics.utils import ASSETS, ops

from infra.stack_settings import StackSettings
from tasks.export.exporter import write_graph
from tasks.vision.geometry import Floats, Letterbox, Rgb, box_iou_matrix, center_crop
from tests.tasks.export.finders import finder

pytestmark = pytest.mark.slow

PHOTOS = ("bus.jpg", "zidane.jpg")
Answers = dict[str, Floats]


class Case(NamedTuple):
    """`+free`: only the head that needs no NMS is left. 96 pixels have 189 anchors, 160 have 525 and 320 have 2100."""

    architecture: str
    classes: int
    size: int
    keypoints: tuple[int, int] | None = None

    @property
    def task(self) -> str:
        suffix = self.architecture.removesuffix("+free").partition("-")[2]
        return {"": "detect", "seg": "segment", "cls": "classify"}.get(suffix, suffix)


CASES = [
    Case("yolo11n", 1, 96),
    Case("yolo26n+free", 80, 160),
    Case("yolo11n-seg", 80, 160),
    Case("yolo26n-seg+free", 1, 96),
    Case("yolo11n-pose", 80, 160),
    Case("yolo11n-pose", 1, 96, keypoints=(5, 2)),
    Case("yolo26n-pose+free", 1, 96),
    Case("yolo11n-obb", 3, 320),
    Case("yolo26n-obb", 1, 96),
    Case("yolo26n-obb+free", 80, 160),
    Case("yolo11n-cls", 80, 96),
    Case("yolo26n-cls", 1, 64),
]
# Each of the others takes 3 to 7 seconds more: `make proof`.
ORDINARY = [CASES[0], CASES[2]]
OTHERS = [case for case in CASES if case not in ORDINARY]
every_case = pytest.mark.parametrize(
    "case",
    [*ORDINARY, *(pytest.param(case, marks=pytest.mark.heavy) for case in OTHERS)],
    ids=lambda case: f"{case.architecture}-{case.classes}-{case.size}",
)


class Exported(NamedTuple):
    weights: Path
    graph: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Exported]:
    """Weights of a case and their graph, made once."""

    @cache
    def make(case: Case) -> Exported:
        folder = tmp_path_factory.mktemp("case")
        changed: dict[str, Any] = {"kpt_shape": list(case.keypoints)} if case.keypoints else {}
        weights = finder(folder, case.architecture, squares(case), case.classes, **changed)
        return Exported(weights, write_graph(weights, folder / "out", case.size))

    return make


def photo(name: str) -> Rgb:
    bgr: Any = cv2.imread(str(ASSETS / name))
    return np.ascontiguousarray(bgr[..., ::-1])


def squares(case: Case) -> list[Rgb]:
    images = [photo(name) for name in PHOTOS]
    if case.task == "classify":
        return [center_crop(image, case.size) for image in images]
    return [Letterbox.fit(image.shape[1], image.shape[0], case.size).apply(image) for image in images]


def ask(graph: Path, images: NDArray[np.uint8]) -> Answers:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def predict(weights: Path, image: Rgb, size: int) -> Any:
    model: Any = YOLO(str(weights))
    options = {"conf": 0.001, "iou": 0.7, "rect": False, "device": "cpu", "verbose": False}
    return model.predict(np.ascontiguousarray(image[..., ::-1]), imgsz=size, **options)[0]


def image_of(answers: Answers, index: int) -> Answers:
    """The answers for one image, without the rows that are no detection."""
    one = {name: values[index] for name, values in answers.items()}
    if "scores" in one:
        return one
    used = one["detections"][:, 4] > 0
    return {name: values if name == "prototypes" else values[used] for name, values in one.items()}


def pair(ours: Floats, theirs: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of the same detections in two `[n,6]`: same class, score within 0.001, IoU of 0.99 or more.

    Of a hundred one may have no partner: where an overlap is at the limit of the NMS, or two scores are the same but
    for rounding, the last digit of a convolution decides which box stays.
    """
    apart = np.abs(ours[None, :, :4] - theirs[:, None, :4]).max(2) + 100 * np.abs(ours[None, :, 4] - theirs[:, None, 4])
    apart += 1000.0 * (ours[None, :, 5] != theirs[:, None, 5])
    place, nearest = linear_sum_assignment(apart)
    a, b = theirs[place], ours[nearest]
    # Of a box of less than a pixel the last digits are no small share; Ultralytics clips some to a line.
    same = (box_iou_matrix(a[:, :4], b[:, :4]).diagonal() >= 0.99) | (np.abs(a[:, :4] - b[:, :4]).max(1) < 0.05)
    same &= (np.abs(a[:, 4] - b[:, 4]) < 1e-3) & (a[:, 5] == b[:, 5])
    assert same.sum() >= 0.99 * max(len(ours), len(theirs)) > 0
    return nearest[same], place[same]


def theirs_of(found: Any) -> Floats:
    return np.column_stack([found.xyxy.numpy(), found.conf.numpy(), found.cls.numpy()])


def clipped(detections: Floats, size: int) -> Floats:
    """As Ultralytics does afterwards."""
    return np.column_stack([detections[:, :4].clip(0, size), detections[:, 4:]])


@every_case
def test_a_graph_answers_as_ultralytics_predicts(case: Case, exported: Callable[[Case], Exported]) -> None:
    """Boxes, scores, masks, keypoints, rotated boxes and probabilities."""
    answers = ask(exported(case).graph, np.stack(squares(case)))
    for index, name in enumerate(PHOTOS):
        found = image_of(answers, index)
        image = photo(name) if case.task == "classify" else squares(case)[index]
        CHECKS[case.task](found, predict(exported(case).weights, image, case.size), case)


def check_detections(found: Answers, theirs: Any, case: Case) -> None:
    pair(clipped(found["detections"], case.size), theirs_of(theirs.boxes))


def check_masks(found: Answers, theirs: Any, case: Case) -> None:
    boxes = torch.from_numpy(found["detections"][:, :4])
    prototypes, coefficients = torch.from_numpy(found["prototypes"]), torch.from_numpy(found["coefficients"])
    masks = ops.process_mask(prototypes, coefficients, boxes, (case.size, case.size), upsample=True).numpy() > 0
    seen = masks.any(axis=(1, 2))  # Ultralytics drops a detection without a mask
    order, place = pair(clipped(found["detections"][seen], case.size), theirs_of(theirs.boxes))
    ours, expected = masks[seen][order], theirs.masks.data.numpy()[place] > 0
    shared, joint = (ours & expected).sum(axis=(1, 2)), (ours | expected).sum(axis=(1, 2))
    # A pixel may fall on either side of 0, whatever the size of the mask. The last digit of a convolution, which is not
    # the same on each CPU, decides a mask of many such pixels: of a hundred one may be a little further off.
    pixel = joint - shared <= 1
    assert ((shared / joint >= 0.98) | pixel).all()
    assert ((shared / joint >= 0.99) | pixel).mean() >= 0.99


def check_keypoints(found: Answers, theirs: Any, case: Case) -> None:
    order, place = pair(clipped(found["detections"], case.size), theirs_of(theirs.boxes))
    ours, expected = found["keypoints"][order], theirs.keypoints.data.numpy()[place]
    np.testing.assert_allclose(ours[..., :2].clip(0, case.size), expected[..., :2], atol=0.1)
    visible = expected[..., 2] if expected.shape[2] == 3 else 1
    np.testing.assert_allclose(ours[..., 2] - visible, 0, atol=1e-3)


def check_rotated(found: Answers, theirs: Any, _: Case) -> None:
    order, place = pair(found["detections"], theirs_of(theirs.obb))
    np.testing.assert_allclose(found["rotated"][order], theirs.obb.xywhr.numpy()[place], rtol=1e-3, atol=0.05)


def check_scores(found: Answers, theirs: Any, _: Case) -> None:
    np.testing.assert_allclose(found["scores"], theirs.probs.data.numpy(), atol=1e-5)


CHECKS = {
    "detect": check_detections,
    "segment": check_masks,
    "pose": check_keypoints,
    "obb": check_rotated,
    "classify": check_scores,
}


@every_case
def test_the_contract_holds_for_any_number_of_images(case: Case, exported: Callable[[Case], Exported]) -> None:
    """The outputs of the task and no others; rows that are no detection are zero in all of them."""
    side = case.size // 4
    points = (case.keypoints or (17, 3))[0]
    outputs: dict[str, dict[str, tuple[int, ...]]] = {
        "detect": {},
        "segment": {"coefficients": (300, 32), "prototypes": (32, side, side)},
        "pose": {"keypoints": (300, points, 3)},
        "obb": {"rotated": (300, 5)},
    }
    expected: dict[str, tuple[int, ...]] = (
        {"scores": (case.classes,)} if case.task == "classify" else {"detections": (300, 6)}
    )
    expected |= outputs.get(case.task, {})
    for images in (np.stack(squares(case)), np.full((1, case.size, case.size, 3), 114, np.uint8)):
        answers = ask(exported(case).graph, images)
        assert {name: values.shape for name, values in answers.items()} == {
            name: (len(images), *shape) for name, shape in expected.items()
        }
        assert {values.dtype for values in answers.values()} == {np.dtype(np.float32)}
        for name in set(answers) - {"scores", "prototypes"}:
            assert not answers[name][answers["detections"][..., 4] == 0].any()


@every_case
def test_an_image_alone_and_third_in_a_batch_gives_the_same_rows(
    case: Case, exported: Callable[[Case], Exported]
) -> None:
    first, second = squares(case)
    alone = ask(exported(case).graph, first[None])
    third = ask(exported(case).graph, np.stack([np.zeros_like(first), second, first]))
    for name, values in alone.items():
        np.testing.assert_allclose(third[name][2], values[0], rtol=1e-4, atol=1e-3)


OPENVINO = """
import json, sys
import numpy, openvino
core = openvino.Core()
for graph, images, answers in json.load(sys.stdin):
    image = numpy.load(images)[:1]
    model = core.read_model(graph)
    model.reshape({"images": list(image.shape)})
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    asked = core.compile_model(model, "CPU", hints).create_infer_request()
    asked.infer({"images": image})
    names = [next(iter(output.get_names())) for output in model.outputs]
    numpy.savez(answers, **{name: asked.get_tensor(name).data for name in names})
"""


@pytest.mark.parametrize(
    "cases", [pytest.param(ORDINARY, id="ordinary"), pytest.param(OTHERS, id="others", marks=pytest.mark.heavy)]
)
def test_openvino_answers_as_onnx_runtime_does(
    cases: list[Case], exported: Callable[[Case], Exported], tmp_path: Path
) -> None:
    """Every graph, in the environment that serves, one image at a time as it is served."""
    python = StackSettings.load().triton_venv / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs {python}: make setup")
    work = []
    for number, case in enumerate(cases):
        np.save(tmp_path / f"{number}.npy", np.stack(squares(case)))
        work.append([str(exported(case).graph), f"{tmp_path}/{number}.npy", f"{tmp_path}/{number}.npz"])
    subprocess.run([python, "-c", OPENVINO], input=json.dumps(work), text=True, check=True)
    for case, (graph, images, answers) in zip(cases, work, strict=True):
        expected = image_of(ask(Path(graph), np.load(images)[:1]), 0)
        found = image_of(dict(np.load(answers)), 0)
        assert set(found) == set(expected)
        whole = set(expected) & {"scores", "prototypes"}
        for name in whole:
            np.testing.assert_allclose(found[name], expected[name], rtol=0.01, atol=0.01)
        if case.task != "classify":
            order, place = pair(found["detections"], expected["detections"])
            for name in set(expected) - whole:
                np.testing.assert_allclose(found[name][order], expected[name][place], rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_gives_boxes_in_its_pixels_as_ultralytics_finds_them(
    exported: Callable[[Case], Exported], name: str
) -> None:
    """From the photo to boxes; also with an empty image before and after it."""
    case = Case("yolo11n", 80, 320)
    image = photo(name)
    height, width = image.shape[:2]
    letterbox = Letterbox.fit(width, height, case.size)
    square = letterbox.apply(image)
    theirs = theirs_of(predict(exported(case).weights, image, case.size).boxes)
    answers = ask(exported(case).graph, np.stack([np.zeros_like(square), square, np.zeros_like(square)]))
    for found in (image_of(ask(exported(case).graph, square[None]), 0), image_of(answers, 1)):
        boxes = letterbox.to_image(found["detections"][:, :4])
        pair(np.column_stack([boxes, found["detections"][:, 4:]]), theirs)
