"""The served graph of weights: one file, tested in ONNX Runtime."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from tasks.errors import ExportError
from tasks.export.served_graph import served_graph, served_outputs
from tasks.export.ultralytics_export import raw_graph
from tasks.files import write_atomically

GraphOutputs = dict[str, NDArray[np.float32]]


def write_graph(weights: Path, folder: Path, image_size: int) -> Path:
    """Write `folder/model.onnx`: `images` uint8 `[N,S,S,3]` RGB, S = `image_size`, to the float32 outputs of its task.

    All but classify have `detections` `[N,300,6]` (corners in pixels of the input, confidence, class); unused rows are
    zero. For detection i, row i has in segment `coefficients` `[N,300,M]`, for `prototypes` `[N,M,S/4,S/4]`; in pose
    `keypoints` `[N,300,K,3]` (x, y in pixels, visibility 0 to 1); in obb `rotated` `[N,300,5]` (centre, width, height
    in pixels, angle in radians), whose hull is the box. Classify has `scores` `[N,C]`, the probabilities.

    The file appears whole, after it has run in ONNX Runtime.

    Raises:
        ExportError: The weights are missing, of a model that is not served, or not for that image size.
        WeightsError: They cannot be loaded.
    """
    if not weights.is_file() or weights.suffix != ".pt":
        raise ExportError(f"expected an Ultralytics .pt file, found {weights}: pass the weights of a training run")
    graph = folder / "model.onnx"
    with write_atomically(graph) as unfinished, tempfile.TemporaryDirectory(prefix="export-", dir=folder) as scratch:
        copied = Path(shutil.copy(weights, Path(scratch) / "weights.pt"))  # Ultralytics writes beside it
        raw, head = raw_graph(copied, image_size)
        onnx.save(served_graph(raw, head, image_size), unfinished)
        _check_outputs(unfinished, image_size, served_outputs(head, image_size))
    return graph


def run_graph(path: Path, images: NDArray[np.uint8]) -> GraphOutputs:
    """Return the outputs of a graph for images [N,S,S,3] in ONNX Runtime on the CPU; raises what that raises."""
    return _run_session(onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), images)


def _check_outputs(path: Path, image_size: int, shapes: Mapping[str, Sequence[int]]) -> None:
    # One and three images: the batch must stay a dimension.
    noise = np.random.default_rng(0).integers(0, 256, (1, image_size, image_size, 3), dtype=np.uint8)
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        one = _run_session(session, noise)
        three = _run_session(session, np.concatenate([noise, np.full_like(noise, 114), noise]))
    except Exception as error:
        raise ExportError(f"the exported graph does not run in ONNX Runtime: {error}") from error
    for outputs, images in ((one, 1), (three, 3)):
        found = {name: output.shape for name, output in outputs.items()}
        expected = {name: (images, *shape) for name, shape in shapes.items()}
        if found != expected or not all(np.isfinite(output).all() for output in outputs.values()):
            raise ExportError(f"expected finite numbers of the shapes {expected}, found {found}")
    if not all(np.allclose(_scores(three)[i], _scores(one)[0], atol=0.01) for i in (0, 2)):
        raise ExportError("the exported graph answers differently for an image alone and for the same image in a batch")


def _run_session(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> GraphOutputs:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def _scores(outputs: GraphOutputs) -> NDArray[np.float32]:
    # Only the scores of detections: two of nearly equal score may change places.
    return outputs["detections"][..., 4] if "detections" in outputs else outputs["scores"]
