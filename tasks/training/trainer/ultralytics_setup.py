"""Ultralytics, set up for this process."""

import os
from typing import Any

from tasks.weights.loader import open_model

_SUFFIXES = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}


class ModelError(Exception):
    """The model is not one for this job; the message says which to name."""


def configure_ultralytics() -> None:
    """For this process only: install nothing, log to nobody beside us, and take class names in pictures literally."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import matplotlib as mpl
    from ultralytics.utils import SETTINGS

    mpl.rcParams["text.parse_math"] = False  # a class called a$b$ would end the training when its curve is drawn
    off = dict.fromkeys(("sync", "mlflow", "clearml", "comet", "dvc", "raytune", "wandb", "tensorboard"), False)
    dict.update(SETTINGS, off)  # past its own update(), which would rewrite the user's settings file


def load_model(model: str, task: str) -> Any:  # noqa: ANN401 - ultralytics ships no types
    """A `YOLO` object for `task`.

    Raises ModelError for a model of another task, and WeightsError for a file that is refused.
    """
    configure_ultralytics()
    loaded = open_model(model)
    if loaded.task != task:
        example = f"yolo11n{_SUFFIXES.get(task, '')}"
        raise ModelError(
            f"Expected a model for the task {task!r}, because the archives are labelled for it; found a model for "
            f"{loaded.task!r}. Name one such as {example}.pt or {example}.yaml as base_model."
        )
    return loaded
