"""The code that MLflow keeps beside the weights, so that `mlflow.pyfunc.load_model` gives a working model.

It is copied into the registry and runs without this repository.
"""

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
    """What a model of this task takes and gives; `image_size` in pixels is what it was trained at."""
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
    """Load a .pt file, which is a pickle, without calling what it names beyond the classes of a model."""
    from ultralytics import YOLO  # type: ignore[attr-defined]
    from ultralytics.nn import tasks

    if not hasattr(tasks, "SAFE_LOAD"):
        raise TypeError("Expected the Ultralytics that this version asks for: an older one runs what weights hold.")
    if Path(weights).suffix != ".pt":
        raise TypeError(f"Expected the weights of this version as a .pt file, found {Path(weights).name!r}.")
    tasks.SAFE_LOAD = True  # the environment is read only once, when Ultralytics is first imported
    return YOLO(weights)


class Model(PythonModel):
    """Image files in, what was found on them out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights that were registered with this version; raises TypeError for a file that holds more."""
        self.model: Any = load(context.artifacts["weights"])
        # As the weights hold them: asked for its names, Ultralytics replaces some, `n01440764` by `tench`.
        self.names: dict[int, str] = dict(cast("Any", self.model).model.names)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict on the image files named in the first column of `model_input`; `params` are Ultralytics' own.

        Returns a row a detection: image, class_id, class_name, confidence, x1, y1, x2, y2, in pixels of the image.
        After them come for segmentation `polygon` ([x, y] each, none for an empty mask), for pose `keypoints`
        ([x, y, confidence]), for oriented boxes `corners` (4 of [x, y]; the box encloses them). For classification a
        row a class of each image, likeliest first, without a box. Raises FileNotFoundError.
        """
        del context  # read by load_context
        rows: list[tuple[Any, ...]] = []
        for image in map(str, model_input.iloc[:, 0]):
            if not Path(image).is_file():  # Ultralytics would take it for an address, a camera or a pattern
                raise FileNotFoundError(f"Expected the path of an image file on this machine, found {image!r}.")
            for result in self.model.predict(image, verbose=False, **(params or {})):
                rows += [(image, *row) for row in result_rows(result, self.names)]
        return pd.DataFrame(rows, columns=list(COLUMNS[self.model.task]))


def result_rows(result: Any, names: Mapping[int, str]) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - ultralytics has no types
    """Rows of one image, in the order of COLUMNS without the image; `names` are those of the classes, by number."""
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
    """What a task tells of each object beyond its box, if anything."""
    if result.obb is not None:
        return result.obb.xyxyxyxy.tolist()  # type: ignore[no-any-return]
    if result.keypoints is not None:
        return result.keypoints.data.tolist()  # type: ignore[no-any-return]
    if result.masks is not None:
        return [outline.tolist() for outline in result.masks.xy]
    return None


mlflow.models.set_model(Model())
