"""The code of a registered version, with which `mlflow.pyfunc.load_model` works without this repository."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

POINTS = Array(Array(DataType.double))
RESULT_COLUMNS = {"image": "string", "class_id": "long", "class_name": "string", "confidence": "double"}
BOX = {"x1": "double", "y1": "double", "x2": "double", "y2": "double"}
COLUMNS: dict[str, dict[str, Any]] = {
    "detect": {**RESULT_COLUMNS, **BOX},
    "segment": {**RESULT_COLUMNS, **BOX, "polygon": POINTS},
    "pose": {**RESULT_COLUMNS, **BOX, "keypoints": POINTS},
    "obb": {**RESULT_COLUMNS, **BOX, "corners": POINTS},
    "classify": RESULT_COLUMNS,
}


def signature(task: str, image_size: int) -> ModelSignature:
    """Return the signature of a model of this task, trained at `image_size` pixels."""
    params = [
        ParamSpec("conf", "double", 0.25),
        ParamSpec("iou", "double", 0.7),
        ParamSpec("imgsz", "long", image_size),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec("string", "image")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in COLUMNS[task].items()]),
        params=ParamSchema(params),
    )


def load(weights: str) -> Any:  # noqa: ANN401 - ultralytics ships no types
    """Return the model of a .pt file, a pickle that may name only the classes of a model.

    Raises:
        TypeError: The file is no .pt, or this Ultralytics would load any pickle.
    """
    from ultralytics import YOLO  # type: ignore[attr-defined]
    from ultralytics.nn import tasks

    if not hasattr(tasks, "SAFE_LOAD"):
        raise TypeError("Expected the Ultralytics that this version asks for: an older one runs what weights hold.")
    if Path(weights).suffix != ".pt":
        raise TypeError(f"Expected the weights of this version as a .pt file, found {Path(weights).name!r}.")
    tasks.SAFE_LOAD = True  # the environment is read only once, when Ultralytics is first imported
    return YOLO(weights)


class Model(PythonModel):
    """Image files in, detections out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights of this version."""
        self.model: Any = load(context.artifacts["weights"])
        # Those in the weights: `model.names` has `tench` in place of `n01440764`.
        names = cast("Any", self.model).model.names
        numbered = names.items() if isinstance(names, dict) else enumerate(names)
        self.names = {int(number): str(name) for number, name in numbered}  # some files have the numbers as text

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict on the image files in the first column of `model_input`; `params` are Ultralytics' own.

        Returns a row for each detection: image, class_id, class_name, confidence, x1, y1, x2, y2, in pixels of the
        image, and for segmentation `polygon` ([x, y] each, none for an empty mask), for pose `keypoints` ([x, y,
        confidence]), for oriented boxes `corners` (4 of [x, y]; the box encloses them). For classification a row for
        each class of each image, likeliest first, without a box.

        Raises:
            FileNotFoundError: There is no such image file.
        """
        del context  # read by load_context
        rows: list[tuple[Any, ...]] = []
        for image in map(str, model_input.iloc[:, 0]):
            if not Path(image).is_file():  # to Ultralytics an address, a camera or a pattern
                raise FileNotFoundError(f"Expected the path of an image file on this machine, found {image!r}.")
            for result in self.model.predict(image, verbose=False, **(params or {})):
                rows += [(image, *row) for row in result_rows(result, self.names)]
        return pd.DataFrame(rows, columns=list(COLUMNS[self.model.task]))


def result_rows(result: Any, names: Mapping[int, str]) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - ultralytics has no types
    """Yield the rows of one image, in the order of COLUMNS without the image; `names` are the classes, by number."""
    if result.probs is not None:
        scores = result.probs.data.tolist()
        for number in sorted(range(len(scores)), key=lambda each: -scores[each]):
            yield number, names[number], scores[number]
        return
    boxes = result.boxes if result.obb is None else result.obb
    outlines = shape_columns(result)
    columns = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
    for index, (number, confidence, box) in enumerate(columns):
        outline = () if outlines is None else (outlines[index],)
        yield int(number), names[int(number)], confidence, *box, *outline


def shape_columns(result: Any) -> list[list[list[float]]] | None:  # noqa: ANN401
    """Return the outline or keypoints of each object, if the task has them."""
    if result.obb is not None:
        return result.obb.xyxyxyxy.tolist()  # type: ignore[no-any-return]
    if result.keypoints is not None:
        return result.keypoints.data.tolist()  # type: ignore[no-any-return]
    if result.masks is not None:
        return [outline.tolist() for outline in result.masks.xy]
    return None


mlflow.models.set_model(Model())
