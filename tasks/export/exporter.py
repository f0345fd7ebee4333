"""Weights in, the graph that is served out: one file, which has answered."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from tasks.export.errors import ExportError
from tasks.export.served_graph import served_graph, served_outputs
from tasks.export.ultralytics_export import raw_graph

GraphOutputs = dict[str, NDArray[np.float32]]


def write_graph(weights: Path, folder: Path, image_size: int) -> Path:
    """Write `folder/model.onnx`: `images` uint8 `[N,S,S,3]` RGB, S = `image_size`, to the float32 outputs of its task.

    Detectors of every kind answer `detections` `[N,300,6]` (corners in pixels of the input, confidence, class), rows
    without a detection are zero. Beside them answer, of detection i in row i, segment `coefficients` `[N,300,M]`, for
    `prototypes` `[N,M,S/4,S/4]`; pose `keypoints` `[N,300,K,3]` (x, y in pixels, visibility 0 to 1); obb `rotated`
    `[N,300,5]` (centre, width, height in pixels, angle in radians), whose hull is the detection's box. Classify answers
    `scores` `[N,C]`, the probabilities.

    The file appears whole and only after it has answered in ONNX Runtime. Raises ExportError for weights that are
    missing or unreadable, of a model that is not served, and for an image size that the model cannot take.
    """
    if not weights.is_file() or weights.suffix != ".pt":
        raise ExportError(f"expected an Ultralytics .pt file, found {weights}: pass the weights of a training run")
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / "model.onnx"
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        # Ultralytics writes beside the weights it is given, so it is given a copy.
        copied = Path(shutil.copy(weights, Path(scratch) / "weights.pt"))
        raw, head = raw_graph(copied, image_size)
        ready = Path(scratch) / final.name
        onnx.save(served_graph(raw, head, image_size), ready)
        _check_outputs(ready, image_size, served_outputs(head, image_size))
        ready.replace(final)
    return final


def _check_outputs(path: Path, image_size: int, shapes: Mapping[str, Sequence[int]]) -> None:
    """Ask the graph for one and for three images: a graph that does not load or answer is never published."""
    noise = np.random.default_rng(0).integers(0, 256, (1, image_size, image_size, 3), dtype=np.uint8)
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        one = _run_graph(session, noise)
        three = _run_graph(session, np.concatenate([noise, np.full_like(noise, 114), noise]))
    except Exception as error:
        raise ExportError(f"the exported graph does not run in ONNX Runtime: {error}") from error
    for answers, images in ((one, 1), (three, 3)):
        found = {name: answer.shape for name, answer in answers.items()}
        expected = {name: (images, *shape) for name, shape in shapes.items()}
        if found != expected or not all(np.isfinite(answer).all() for answer in answers.values()):
            raise ExportError(f"expected finite numbers of the shapes {expected}, found {found}")
    if not all(np.allclose(_scores(three)[i], _scores(one)[0], atol=0.01) for i in (0, 2)):
        raise ExportError("the exported graph answers differently for an image alone and for the same image in a batch")


def _run_graph(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> GraphOutputs:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def _scores(answers: GraphOutputs) -> NDArray[np.float32]:
    # Of detections the scores only: those of nearly equal score may change places.
    return answers["detections"][..., 4] if "detections" in answers else answers["scores"]
