"""The parts of model `predict`: what they make of a picture, of parameters and of a model's answer."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.stack_settings import ROOT, StackSettings
from model_repository.predict.errors import PredictError
from model_repository.predict.geometry import Letterbox
from model_repository.predict.image_decoding import ImageDecoder
from model_repository.predict.image_decoding import image_size as predict_image_size
from model_repository.predict.model_lookup import ServedModel
from model_repository.predict.postprocess import class_scores_to_json, detections_to_json
from model_repository.predict.request import PredictRequest
from tasks.inference.postprocess import to_detections
from tasks.media.file_type import image_size
from tasks.parameters import InferenceParams
from tasks.serving import served_model
from tasks.serving.pre_postprocess import postprocess
from tasks.vision import geometry
from tasks.vision.geometry import Floats, xywhr_to_corners
from tasks.vision.masks import instance_mask, mask_to_polygon
from tests.tasks.dataset.archives import huge_png
from tests.tasks.serving.graphs import encoded, noise, rows, smooth

SIZE = 64
NAMES = ("cat", "dog", "newt")
LIMITS = ImageDecoder(max_bytes=1_000_000, max_pixels=2_000_000)


# ---- code that batch inference and the live endpoint share ----------------------------------------------------------

SHARED = [path for path in (ROOT / "model_repository" / "predict").iterdir() if path.is_symlink()]


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.name)
def test_shared_code_is_a_link_to_the_only_copy(path: Path) -> None:
    """`make up` publishes what is behind the link."""
    assert path.resolve().is_relative_to(ROOT / "tasks")
    assert path.resolve().name == path.name


def test_the_code_for_pixels_is_shared() -> None:
    assert {path.stem for path in SHARED} >= {"geometry", "masks", "decode_cost", "jpeg_segments", "task_outputs"}


# Prints a checksum a picture: decoded, letterboxed, cut to its centre; and one of a mask that its pixels make.
SUMS = """
import cv2, sys, zlib
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from predict.image_decoding import ImageDecoder
import numpy as np
from predict.geometry import Letterbox, center_crop
from predict.masks import instance_mask, mask_to_polygon
for path in sorted(Path(sys.argv[2]).iterdir()):
    picture = ImageDecoder(1 << 30, 1 << 30).decode(path.read_bytes())
    height, width = picture.shape[:2]
    for each in (picture, Letterbox.fit(width, height, 96).apply(picture), center_crop(picture, 96)):
        print(path.name, zlib.crc32(each.tobytes()))
    cells = cv2.resize(picture, (24, 24)).transpose(2, 0, 1).astype(np.float32) - 128
    mask = instance_mask(np.float32([9, 5, 80, 90]), np.float32([1, -1.7, 0.9]), cells, 96)[0]
    print(path.name, zlib.crc32(mask.tobytes()), len(mask_to_polygon(mask)) > 2)
"""


def test_the_libraries_of_triton_see_the_same_pixels(tmp_path: Path) -> None:
    """Triton's models run on other versions of OpenCV and NumPy than batch inference."""
    for number, (width, height) in enumerate([(640, 480), (321, 77), (40, 300), (96, 96)]):
        picture = smooth(width, height, number)
        (tmp_path / f"{number}.jpg").write_bytes(encoded(picture))
        (tmp_path / f"{number}.png").write_bytes(encoded(picture, "PNG"))
    answers = [
        subprocess.check_output([str(python), "-c", SUMS, str(ROOT / "model_repository"), str(tmp_path)], text=True)
        for python in (ROOT / ".venv" / "bin" / "python", StackSettings().triton_venv / "bin" / "python")
    ]
    assert answers[0] == answers[1]


# ---- what is found: the same as in batch inference ------------------------------------------------------------------


def answered(task: str, seed: int) -> dict[str, Floats]:
    """Random outputs of a task: overlapping boxes, some outside, a number that is none, unused rows."""
    rng = np.random.default_rng(seed)
    count, middle = 30, rng.uniform(0, SIZE, (30, 2))
    reach = rng.uniform(1, 20, (count, 2))
    found = np.column_stack([middle - reach, middle + reach, rng.uniform(0.05, 1, count), rng.integers(0, 3, count)])
    outputs = {"detections": rows(*found)}
    if task == "segment":
        outputs["coefficients"] = rng.normal(size=(300, 4)).astype(np.float32)
        waves = rng.normal(size=(4, 3, 3)).astype(np.float32)
        outputs["prototypes"] = np.stack([cv2.resize(wave, (SIZE // 4, SIZE // 4)) for wave in waves])
    if task == "pose":
        outputs["keypoints"] = rng.uniform(-5, SIZE + 5, (300, 5, 3)).astype(np.float32)
    if task == "obb":
        turns = rng.uniform(-2, 2, (300, 1))
        outputs["rotated"] = np.column_stack([rows(*found)[:, :4] / 2, turns]).astype(np.float32)
        outputs["detections"][:, :4] = geometry.enclosing_boxes(outputs["rotated"])
        outputs["detections"][count:] = 0
    outputs["detections"][3, 0] = np.nan
    return outputs


@pytest.mark.parametrize("iou", [0.7, 0.3])
@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_what_is_found_is_what_batch_inference_finds(task: str, iou: float) -> None:
    width, height = 100, 70
    for seed in range(5):
        outputs = answered(task, seed)
        own = detections_to_json(
            ServedModel("x", 1, task, SIZE, NAMES),
            outputs,
            Letterbox.fit(width, height, SIZE),
            PredictRequest("x", None, 0.25, iou),
        )
        other = postprocess(outputs, task, geometry.Letterbox.fit(width, height, SIZE), 0.25, iou)
        np.testing.assert_allclose(own["scores"], other.confidence, atol=1e-4)
        assert own["labels"] == [NAMES[number] for number in other.class_id]
        # The upright box around a turned one is made before or after the two gains: they differ by a rounded side.
        np.testing.assert_allclose(own["boxes"], other.xyxy, atol=0.01 if task != "obb" else 0.5)
        if task == "pose":
            np.testing.assert_allclose(own["keypoints"], np.asarray(other.keypoints), atol=0.01)
        if task == "obb" and other.xywhr is not None:
            np.testing.assert_allclose(own["polygons"], xywhr_to_corners(other.xywhr), atol=0.5)


def batch_model(task: str) -> served_model.ServedModel:
    return served_model.ServedModel(name="x", version=1, task=task, image_size=SIZE, class_names=NAMES, run_id="run")


@pytest.mark.parametrize("task", ["detect", "segment", "classify"])
def test_the_thresholds_of_the_version_are_those_of_batch_inference(task: str) -> None:
    thresholds = {"cat": 0.7, "newt": 0.3}
    params = InferenceParams(confidence="auto", class_confidence=thresholds)
    for seed in range(5):
        scores = np.random.default_rng(seed).dirichlet(np.ones(3)).astype(np.float32)
        outputs = {"scores": scores} if task == "classify" else answered(task, seed)
        other = to_detections(outputs, batch_model(task), geometry.Letterbox.fit(SIZE, SIZE, SIZE), params, "x")
        served, auto = ServedModel("x", 1, task, SIZE, NAMES, thresholds), PredictRequest("x", confidence="auto")
        if task == "classify":
            own = class_scores_to_json(served, scores, auto)
        else:
            own = detections_to_json(served, outputs, Letterbox.fit(SIZE, SIZE, SIZE), auto)
        np.testing.assert_allclose(own["scores"], other.confidence, atol=1e-4)
        assert own["labels"] == [NAMES[number] for number in other.class_id]


def test_a_version_without_thresholds_refuses_auto() -> None:
    served, auto = ServedModel("x", 7, "detect", SIZE, NAMES), PredictRequest("x", confidence="auto")
    with pytest.raises(PredictError, match="expected thresholds with x version 7 for `confidence` auto, found that it"):
        detections_to_json(served, answered("detect", 0), Letterbox.fit(SIZE, SIZE, SIZE), auto)


def test_an_outline_is_that_of_the_largest_part_of_its_mask() -> None:
    outputs, box = answered("segment", 0), Letterbox.fit(SIZE, SIZE, SIZE)
    served = ServedModel("x", 1, "segment", SIZE, NAMES)
    found = postprocess(outputs, "segment", geometry.Letterbox.fit(SIZE, SIZE, SIZE), 0.25)
    own = detections_to_json(served, outputs, box, PredictRequest("x"))
    overlaps = []
    for index, ring in enumerate(own["polygons"]):
        mask = found.unpack_mask(index)
        assert mask is not None
        _, parts, sizes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        largest = parts == 1 + sizes[1:, cv2.CC_STAT_AREA].argmax()
        drawn = np.zeros((SIZE, SIZE), np.uint8)
        cv2.fillPoly(drawn, [np.round(np.array(ring) - 0.5).astype(np.int32)], 1)
        if largest.sum() > 60:
            overlaps.append((largest & (drawn > 0)).sum() / (largest | (drawn > 0)).sum())
    assert len(overlaps) > 5
    assert min(overlaps) > 0.95


@pytest.mark.parametrize("cut", [(8, 20, 9, 40), (8, 20, 40, 21), (8, 20, 9, 21), (8, 20, 10, 40)])
def test_an_outline_has_three_points_or_more(cut: tuple[int, ...]) -> None:
    """Of a mask that is a pixel wide too, whose simplified outline is a line."""
    ones = np.ones((1, 16, 16), np.float32)
    mask, left, top = instance_mask(np.array(cut, np.float32), np.ones(1, np.float32), ones, SIZE)
    ring = mask_to_polygon(mask) + np.array([left, top], np.float32)
    assert len(ring) >= 3
    assert cv2.contourArea(ring) > 0
    assert (ring >= cut[:2]).all()
    assert (ring <= cut[2:]).all()


def test_classes_keep_their_order_and_their_number() -> None:
    """Two of one name stay two; names that are numbers, which JavaScript sorts in an object, stay where they are."""
    served = ServedModel("x", 1, "classify", SIZE, ("1", "0", "1"))
    found = class_scores_to_json(served, np.array([0.2, 0.3, 0.5], np.float32), PredictRequest("x"))
    assert found == {"labels": ["1", "0", "1"], "scores": [0.5, 0.3, 0.2]}


@pytest.mark.parametrize(("task", "output"), [("pose", "keypoints"), ("obb", "rotated"), ("segment", "coefficients")])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -3e38])
def test_a_broken_graph_still_makes_json(task: str, output: str, broken: float) -> None:
    outputs = answered(task, 0)
    outputs[output] = np.full_like(outputs[output], broken)
    served, box = ServedModel("x", 1, task, SIZE, NAMES), Letterbox.fit(SIZE, SIZE, SIZE)
    with np.errstate(all="ignore"):
        json.dumps(detections_to_json(served, outputs, box, PredictRequest("x")), allow_nan=False)


# ---- the picture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_orientation_says(kind: str, orientation: int) -> None:
    upright = np.zeros((20, 32, 3), np.uint8)
    upright[:10, :16], upright[10:, 16:] = (255, 0, 0), (0, 0, 255)
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    turns |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = Image.fromarray(upright)
    if orientation in turns:
        stored = stored.transpose(Image.Transpose[turns[orientation]])
    exif = Image.Exif()
    exif[274] = orientation
    decoded = LIMITS.decode(encoded(stored, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {})))
    assert decoded.shape == upright.shape
    assert (
        np.abs(decoded[[3, 16, 3, 16], [3, 28, 28, 3]].astype(int) - upright[[3, 16, 3, 16], [3, 28, 28, 3]]).max() < 40
    )


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("L", "JPEG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("CMYK", "JPEG")],
)
def test_pictures_of_every_mode_become_rgb(mode: str, kind: str) -> None:
    level = 255 if mode in {"1", "P"} else 200  # few levels are left in these
    decoded = LIMITS.decode(encoded(Image.new("RGB", (12, 8), (level, level, level)).convert(mode), kind))
    assert decoded.shape == (8, 12, 3)
    assert np.abs(decoded.astype(int) - level).max() <= 2


def test_sixteen_bits_become_eight() -> None:
    png = cv2.imencode(".png", np.full((8, 12), 200 * 257, np.uint16))[1].tobytes()
    assert (LIMITS.decode(png) == 200).all()


GOOD = encoded(noise(40, 30))
FRAME = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x10\x01\x01\x11\x00"  # 16 x 16, grey


def planted(mark: int) -> bytes:
    """A JPEG of 2000 x 1500 behind a marker; who takes the FF E0 after it for its length finds sides of 16 x 16."""
    small = bytes(0xFFE0 - 4) + FRAME[2:] + b"\xff\xda\x00\x02"
    start = b"\xff\xd8" + bytes([0xFF, mark]) + b"\xff\xe0\xff\xff"
    return start + small.ljust(0xFFFD, b"\x00") + encoded(np.zeros((1500, 2000, 3), np.uint8))[2:]


def in_scans(count: int, side: int = 0) -> bytes:
    """A progressive JPEG that refines its first scan again and again; of 40 x 30 or side x side."""
    picture = encoded(np.zeros((side, side, 3), np.uint8) if side else noise(40, 30), progressive=True)
    at = picture.index(b"\xff\xda")
    first = picture[at : picture.index(b"\xff\xc4", at)]
    return picture[:at] + first * count + b"\xff\xd9"


REFUSED = {
    "empty": (b"", "expected a JPEG or PNG file, found no bytes"),
    "text": (b"not a picture", "expected a JPEG or PNG file, found bytes that begin with 6e 6f 74"),
    "base64": (b"/9j/4AAQSkZJRg", "send the file's own bytes, not base64"),
    "gif": (encoded(noise(4, 4), "GIF"), "expected a JPEG or PNG"),
    "cut": (GOOD[: len(GOOD) // 2], "a JPEG that ends before its picture does"),
    "head": (GOOD[:4], "a JPEG without a header"),
    "cut-png": (encoded(noise(40, 30), "PNG")[:200], "expected a whole JPEG or PNG"),
    "png-head": (b"\x89PNG\r\n\x1a\n", "a PNG without a header"),
    "bomb": (huge_png(20_000, 20_000), "expected at most 2000000 pixels"),
    "wide": (encoded(Image.new("L", (65000, 40)), "PNG"), "expected at most 2000000 pixels, found 65000 x 40"),
    "heavy": (GOOD + bytes(1_000_000), "expected at most 1000000 bytes"),
    # Small sides where a reader lands that gives these markers a length; a decoder sees the large ones.
    **{
        f"planted-{mark:02x}": (planted(mark), "expected at most 2000000 pixels, found 2000 x")
        for mark in (1, 0xD0, 0xD7)
    },
    **{f"planted-{mark:02x}": (planted(mark), "a JPEG without a header") for mark in (0, 2, 0xBF, 0xD8, 0xD9)},
    "two-frames": (FRAME + GOOD[2:], "a JPEG that ends before"),
    "scans": (in_scans(65), "in the time of an ordinary one, found 65 scans"),
    "large-scans": (in_scans(200, 1000), "in the time of an ordinary one, found 200 scans"),
    "fill": (b"\xff\xd8" + b"\xff" * 900_000, "a JPEG without a header"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bytes_that_are_no_picture_are_refused(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(PredictError, match=words):
        LIMITS.decode(data)


@pytest.mark.parametrize("mark", [1, 0xD0, 0xD7])
def test_markers_without_a_length_are_read_as_the_decoder_reads_them(mark: int) -> None:
    data = b"\xff\xd8" + bytes([0xFF, mark]) + GOOD[2:]
    assert predict_image_size(data)[:2] == image_size(data) == (40, 30)
    np.testing.assert_array_equal(LIMITS.decode(data), LIMITS.decode(GOOD))


@pytest.mark.parametrize("extra", [b"\xff\xda" * 200, b"\xff\xd8\xff\xd9"])
def test_only_scans_of_the_picture_count(extra: bytes) -> None:
    """A film behind a photo, or a comment, may hold any bytes."""
    comment = b"\xff\xfe" + (len(extra) + 2).to_bytes(2, "big") + extra
    for data in (GOOD + extra, GOOD[:2] + comment + GOOD[2:]):
        assert predict_image_size(data) == (40, 30)
        assert LIMITS.decode(data).shape == (30, 40, 3)


def test_a_progressive_picture_is_read() -> None:
    data = encoded(noise(40, 30), progressive=True)
    assert LIMITS.decode(data).shape == (30, 40, 3)


# Stands for Triton's module; the process of model.py begins without OpenCV.
OWN_LIMIT = """
import json, sys, types
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
sys.path.insert(0, sys.argv[1])
from predict.model import TritonPythonModel
values = {"max_bytes": "1000000", "max_pixels": "1000"}
config = {"parameters": {name: {"string_value": value} for name, value in values.items()}}
model = TritonPythonModel()
model.initialize({"model_config": json.dumps(config)})
from predict.image_decoding import ImageDecoder
from predict.errors import PredictError
for data in (sys.stdin.buffer.read(),):
    try:
        ImageDecoder(1 << 30, 1 << 30).decode(data)
    except PredictError as error:
        print(error)
# A name is looked up before anything is decoded; nothing listens there.
model.pipeline.models = types.SimpleNamespace(find=lambda *_: (_ for _ in ()).throw(PredictError("looked up")))
try:
    model.pipeline.predict(b"not a picture", '{"model": "x"}')
except PredictError as error:
    print(error)
"""


def test_opencv_has_the_limit_too_and_a_name_is_looked_up_first() -> None:
    command = [sys.executable, "-c", OWN_LIMIT, str(ROOT / "model_repository")]
    done = subprocess.run(command, input=GOOD, capture_output=True, check=True)
    refused, looked_up = done.stdout.decode().splitlines()
    assert refused.startswith("expected a whole JPEG or PNG file")
    assert looked_up == "looked up"


@given(st.sampled_from([GOOD, encoded(noise(40, 30), "PNG")]), st.integers(0, 1500), st.binary(max_size=30))
@settings(max_examples=300, deadline=None)
@pytest.mark.slow
def test_damage_is_refused_or_survived(data: bytes, at: int, junk: bytes) -> None:
    try:
        decoded = LIMITS.decode(data[:at] + junk + data[at + len(junk) :])
    except PredictError:
        return
    assert decoded.ndim == 3


# ---- the parameters -------------------------------------------------------------------------------------------------


def test_parameters_come_as_numbers_or_as_headers() -> None:
    assert PredictRequest.parse('{"model": "x"}') == PredictRequest("x", None, None, 0.7)
    as_numbers = PredictRequest.parse('{"model": "x", "version": 3, "confidence": 0.5, "iou": 0.4}')
    assert PredictRequest.parse('{"model": "x", "confidence": " auto"}').confidence == "auto"
    as_headers = PredictRequest.parse('{"Model": "x", "VERSION": "3", "confidence": " .5", "iou": "0.4"}')
    assert as_numbers == as_headers == PredictRequest("x", 3, 0.5, 0.4)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"conf": 1}, "expected parameters model, version, confidence, iou, found 'conf'"),
        ({"confidence": "high"}, "expected `confidence` from 0 to 1, or auto, found 'high'"),
        ({"confidence": "nan"}, "expected `confidence` from 0 to 1"),
        ({"confidence": -0.1}, "expected `confidence` from 0 to 1"),
        ({"confidence": True}, "expected `confidence` from 0 to 1, or auto, found 'True'"),
        ({"iou": 0.8}, "expected `iou` above 0, up to 0.7, found '0.8'"),
        ({"iou": 0}, "expected `iou` above 0, up to 0.7, found '0'"),
        *[
            ({"version": bad}, "expected `version` as a whole number")
            for bad in ("../1", "1.5", "-1", "0", "٣", "9" * 99)
        ],
    ],
)
def test_bad_parameters_are_refused(parameters: Mapping[str, object], words: str) -> None:
    with pytest.raises(PredictError, match=words):
        PredictRequest.parse(json.dumps(parameters))
