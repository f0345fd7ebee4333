"""Ultralytics' settings in this process, and its models."""

import os
from typing import Any

from tasks.training.base_models import SUFFIXES
from tasks.weights.loader import WeightsError, open_model


def configure_ultralytics() -> None:
    """Have Ultralytics, in this process only, install nothing, log nowhere else and draw class names literally."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import matplotlib as mpl
    from ultralytics.utils import SETTINGS

    mpl.rcParams["text.parse_math"] = False  # a class called a$b$ would end the training when its curve is drawn
    off = dict.fromkeys(("sync", "mlflow", "clearml", "comet", "dvc", "raytune", "wandb", "tensorboard"), False)
    dict.update(SETTINGS, off)  # past its own update(), which would rewrite the user's settings file


def load_model(model: str, task: str) -> Any:  # noqa: ANN401 - ultralytics ships no types
    """Return a `YOLO` object for `task`.

    Raises:
        WeightsError: The file is refused, or the model is for another task.
    """
    configure_ultralytics()
    loaded = open_model(model)
    if loaded.task != task:
        example = f"yolo11n{SUFFIXES.get(task, '')}"
        raise WeightsError(
            f"Expected a model for the task {task!r}, because the archives are labelled for it; found a model for "
            f"{loaded.task!r}. Name one such as {example}.pt or {example}.yaml as base_model."
        )
    return loaded
