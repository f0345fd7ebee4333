"""The code that MLflow keeps beside the weights, so that `mlflow.pyfunc.load_model` gives a working detector.

It is copied into the registry and runs without this repository.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Detector(PythonModel):
    """Image files in, detections out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights that were registered with this version."""
        from ultralytics import YOLO  # type: ignore[attr-defined]

        self.model: Any = YOLO(context.artifacts["weights"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Detect on image files named in the first column of `model_input`.

        Returns a row a detection: image, class_id, class_name, confidence, x1, y1, x2, y2 (pixels of the image).
        """
        del context  # read by load_context
        images = [str(image) for image in model_input.iloc[:, 0]]
        rows = []
        for image, result in zip(images, self.model.predict(images, verbose=False, **(params or {})), strict=True):
            for *box, confidence, class_id in result.boxes.data.tolist():
                rows.append((image, int(class_id), result.names[int(class_id)], confidence, *box))
        columns = ["image", "class_id", "class_name", "confidence", "x1", "y1", "x2", "y2"]
        return pd.DataFrame(rows, columns=columns)


mlflow.models.set_model(Detector())
