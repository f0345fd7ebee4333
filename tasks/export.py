"""Trained weights to the graph that is served: ONNX of the serving contract."""

import os
import shutil
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxslim
from numpy.typing import NDArray
from onnx import compose, parser
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import StudioError

CONFIDENCE = 0.001  # what Ultralytics validates with: clients filter higher, mAP of served detections needs the tail
IOU = 0.7
MAX_DETECTIONS = 300
OPSET = 18
IR_VERSION = 10

# uint8 NHWC in, float NCHW in 0..1 out: the division is Ultralytics' own, so that scores match to the last digit.
_BEFORE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[N,{size},{size},3] images) => (float[N,3,{size},{size}] pixels) {{
  channels_first = Transpose <perm = [0, 3, 1, 2]> (images)
  real = Cast <to = 1> (channels_first)
  white = Constant <value = float {{255.0}}> ()
  pixels = Div (real, white)
}}
"""

# Ultralytics' own `nms=True` export unrolls its loop over the images of the tracing batch: with any other N every image
# but the first comes back empty. Here the batch stays a dimension. Each anchor keeps its best class only; NMS works a
# class at a time; the surviving scores are scattered back over the anchors, so that TopK sorts and pads in one go.
_SUPPRESS = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
after (float[N,{channels},{anchors}] raw) => (float[N,{rows},6] rows) {{
  parts = Constant <value_ints = [2, 2, {classes}]> ()
  centre, size, scores = Split <axis = 1> (raw, parts)
  half = Constant <value = float {{0.5}}> ()
  reach = Mul (size, half)
  low = Sub (centre, reach)
  high = Add (centre, reach)
  corners = Concat <axis = 1> (low, high)
  boxes = Transpose <perm = [0, 2, 1]> (corners)
  axis1 = Constant <value_ints = [1]> ()
  axis2 = Constant <value_ints = [2]> ()
  best = ReduceMax <keepdims = 0> (scores, axis1)
  best_class = ArgMax <axis = 1, keepdims = 0> (scores)
  best_column = Unsqueeze (best, axis1)
  is_best = GreaterOrEqual (scores, best_column)
  is_best_real = Cast <to = 1> (is_best)
  best_scores = Mul (scores, is_best_real)
  most = Constant <value_ints = [{rows}]> ()
  iou = Constant <value = float[1] {{{iou}}}> ()
  confidence = Constant <value = float[1] {{{confidence}}}> ()
  selected = NonMaxSuppression (boxes, best_scores, most, iou, confidence)
  image_and_anchor = Constant <value_ints = [0, 2]> ()
  survivors = Gather <axis = 1> (selected, image_and_anchor)
  survivor_scores = GatherND (best, survivors)
  shape = Shape (best)
  zeros = ConstantOfShape <value = float[1] {{0.0}}> (shape)
  sparse = ScatterND (zeros, survivors, survivor_scores)
  top_scores, top = TopK <axis = 1> (sparse, most)
  top_column = Unsqueeze (top, axis2)
  four = Constant <value_ints = [1, 1, 4]> ()
  top_boxes_at = Expand (top_column, four)
  top_boxes = GatherElements <axis = 1> (boxes, top_boxes_at)
  top_class = GatherElements <axis = 1> (best_class, top)
  top_class_real = Cast <to = 1> (top_class)
  score_column = Unsqueeze (top_scores, axis2)
  class_column = Unsqueeze (top_class_real, axis2)
  rows = Concat <axis = 2> (top_boxes, score_column, class_column)
}}
"""

# Rows that are no detection become zeros, and the rows become 300 where the image is too small to have as many anchors.
_PAD = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
pad (float[N,{rows},6] found) => (float[N,{most},6] detections) {{
  parts = Constant <value_ints = [4, 1, 1]> ()
  box, score, label = Split <axis = 2> (found, parts)
  confidence = Constant <value = float {{{confidence}}}> ()
  real = Greater (score, confidence)
  mask = Cast <to = 1> (real)
  clean = Mul (found, mask)
  missing = Constant <value_ints = [0, 0, 0, 0, {missing}, 0]> ()
  detections = Pad (clean, missing)
}}
"""


class ExportError(StudioError):
    """These weights cannot become a served graph; the message says why and what to do."""


@task(cache_policy=NO_CACHE)
def export_onnx(weights: Path, folder: Path, image_size: int) -> Path:
    """Write `folder/model.onnx`: `images` uint8 `[N,S,S,3]` RGB -> `detections` float32 `[N,300,6]`, S = `image_size`.

    The file appears whole and only after it has answered in ONNX Runtime. Raises ExportError for weights that are
    missing or unreadable, of another task than detect, and for an image size that the model cannot take.
    """
    if not weights.is_file() or weights.suffix != ".pt":
        raise ExportError(f"expected an Ultralytics .pt file, found {weights}: pass the weights of a training run")
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / "model.onnx"
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        # Ultralytics writes beside the weights it is given, so it is given a copy.
        copied = Path(shutil.copy(weights, Path(scratch) / "weights.pt"))
        graph = served_graph(*_raw_graph(copied, image_size), image_size)
        ready = Path(scratch) / final.name
        onnx.save(graph, ready)
        _check_answers(ready, image_size)
        ready.replace(final)
    return final


@task(cache_policy=NO_CACHE)
def check_export(weights: Path, task: str, folder: Path, image_size: int) -> None:
    """Export to ONNX in the existing `folder`, and see that ONNX Runtime answers: detectors as they are served.

    In a process of its own, so that the flow keeps neither torch in its memory for hours nor a crash of native code.
    Raises ExportError where these weights could not be deployed.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            pool.submit(_try_export, weights, task, folder, image_size).result()
        except BrokenProcessPool as error:
            raise ExportError(f"the process that exports the {task} model to ONNX died: {error}") from error


def _try_export(weights: Path, task: str, folder: Path, image_size: int) -> None:
    if task == "detect":
        export_onnx.fn(weights, folder / "export", image_size)
        return
    model = _load(Path(shutil.copy(weights, folder / "export.pt")))
    try:
        path = _onnx(model, imgsz=image_size)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, image_size, image_size), np.float32)})
    except Exception as error:  # whatever the exporter or the runtime raises
        raise ExportError(f"the {task} model cannot be exported to ONNX: {error}") from error


def _raw_graph(weights: Path, image_size: int) -> tuple[onnx.ModelProto, int, int]:
    """Ultralytics' own graph (NCHW floats in), its number of classes and of anchors."""
    model = _load(weights)
    _require_detector(model)
    head = model.model.model[-1]
    strides = [int(stride) for stride in head.stride]
    if image_size < 1 or image_size % max(strides):
        raise ExportError(f"image size {image_size}: expected a multiple of {max(strides)} pixels, the model's stride")
    # After fusing, some NMS-free models (YOLO26, YOLOv10) keep only the head that needs no NMS.
    end2end = head.cv2 is None
    path = _onnx(model, imgsz=image_size, dynamic=True, nms=False if end2end else None, max_det=MAX_DETECTIONS)
    return onnx.load(path), len(model.names), sum((image_size // stride) ** 2 for stride in strides)


def _onnx(model: Any, **chosen: Any) -> str:  # noqa: ANN401  # Ultralytics has no types
    """Ultralytics' own export, beside the weights that the model was loaded from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on code that is not ours
        return str(model.export(format="onnx", opset=OPSET, simplify=False, device="cpu", verbose=False, **chosen))


def _load(weights: Path) -> Any:  # noqa: ANN401
    # Read when ultralytics is first imported: a step installs and fetches nothing.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    from ultralytics.models import YOLO

    try:
        return YOLO(str(weights))
    except Exception as error:  # unpickling runs whatever the file says, so anything may come out of it
        raise ExportError(
            f"expected weights that Ultralytics can load, found a file that fails with: {error}"
        ) from error


def _require_detector(model: Any) -> None:  # noqa: ANN401
    """Raise ExportError unless it is a three-channel detector of a kind whose head we know."""
    from ultralytics.nn.modules.head import Detect

    head = model.model.model[-1]
    if model.task != "detect" or not isinstance(head, Detect):
        raise ExportError(
            f"expected a detection model, found task {model.task!r} with head {type(head).__name__}: only YOLO "
            "detectors are served so far"
        )
    channels = model.model.yaml.get("channels", 3)
    if channels != 3:
        raise ExportError(f"expected a model for images of 3 channels, found {channels}: train on RGB images")


def served_graph(raw: onnx.ModelProto, classes: int, anchors: int, image_size: int) -> onnx.ModelProto:
    """Put normalisation before and NMS after a detector's graph.

    `raw` maps float `[N,3,S,S]` to `[N,4+classes,anchors]` (centre and size in pixels, class scores), or, NMS-free, to
    `[N,rows,6]` rows of the contract. Raises ExportError where its output is neither.
    """
    rows = min(MAX_DETECTIONS, anchors)
    sizes = {"ir": IR_VERSION, "opset": OPSET, "size": image_size, "rows": rows, "most": MAX_DETECTIONS}
    sizes |= {"channels": 4 + classes, "classes": classes, "anchors": anchors, "missing": MAX_DETECTIONS - rows}
    limits = {"iou": IOU, "confidence": CONFIDENCE}
    parts = [_BEFORE, _SUPPRESS, _PAD]
    raw = _fixed(raw, image_size)
    outputs = [[dim.dim_value for dim in out.type.tensor_type.shape.dim][1:] for out in raw.graph.output]
    if outputs == [[rows, 6]]:
        parts.remove(_SUPPRESS)
    elif outputs != [[4 + classes, anchors]]:
        raise ExportError(f"expected one output of {4 + classes} values for {anchors} anchors, found outputs {outputs}")
    before, *after = [parser.parse_model(part.format(**sizes, **limits)) for part in parts]
    graph = before
    for step in (raw, *after):
        graph = _chain(graph, step)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _fixed(raw: onnx.ModelProto, image_size: int) -> onnx.ModelProto:
    """A copy for one image size: what follows from it (the anchors) is folded into constants; N stays open."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(raw)
    fixed.ir_version = IR_VERSION
    for dim in fixed.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = image_size
    del fixed.graph.value_info[:]
    slimmed: onnx.ModelProto = onnxslim.slim(fixed)
    return slimmed


def _chain(first: onnx.ModelProto, second: onnx.ModelProto) -> onnx.ModelProto:
    """`second` after `first`, joined at their one output and one input; the ends keep their names."""
    prefix = f"{second.graph.name}/"
    second = compose.add_prefix(second, prefix, rename_outputs=False)
    joint = (first.graph.output[0].name, second.graph.input[0].name)
    return compose.merge_models(first, second, io_map=[joint])


def _check_answers(path: Path, image_size: int) -> None:
    """Ask the graph for one and for three images: a graph that does not load or answer is never published."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        noise = np.random.default_rng(0).integers(0, 256, (1, image_size, image_size, 3), dtype=np.uint8)
        one = _answer(session, noise)
        three = _answer(session, np.concatenate([noise, np.full_like(noise, 114), noise]))
    except Exception as error:
        raise ExportError(f"the exported graph does not run in ONNX Runtime: {error}") from error
    for found, images in ((one, 1), (three, 3)):
        if found.shape != (images, MAX_DETECTIONS, 6) or found.dtype != np.float32 or not np.isfinite(found).all():
            raise ExportError(f"expected {images} x {MAX_DETECTIONS} x 6 finite floats, found {found.shape}")
    # Scores only: boxes of nearly equal score may change places.
    if not all(np.allclose(three[i, :, 4], one[0, :, 4], atol=0.01) for i in (0, 2)):
        raise ExportError("the exported graph answers differently for an image alone and for the same image in a batch")


def _answer(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    answer: NDArray[np.float32] = session.run(["detections"], {"images": images})[0]
    return answer
