"""What a .pt file says about its model, read in a process without credentials and checked in ours."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import safe_repr
from tasks.weights.loader import WeightsError, open_model

DEFAULT_IMAGE_SIZE = {"classify": 224}  # for others 640, as Ultralytics has it
MAX_IMAGE_SIZE = 4096
MAX_CLASSES = 10_000
MAX_NAME_LENGTH = 200  # as `ClassName` of the parameters
MAX_BYTES = 4 * 2**20
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class WeightsDescription:
    """The task, the classes by number, and the side of the square image, in pixels, that the model was trained on."""

    task: str
    class_names: tuple[str, ...]
    image_size: int


def describe_model(weights: str) -> dict[str, Any]:
    """Return task, class names and image size of a file, as values of JSON; official weights are downloaded to it.

    Raises:
        WeightsError: It is no model, or none that is served.
        MemoryError: There is too little memory for it.
    """
    loaded = open_model(weights)
    try:
        _require_numbers(loaded.model.state_dict(), Path(weights).stat().st_size)
        return _description(loaded)
    except (WeightsError, MemoryError):
        raise
    except Exception as error:  # whatever an attribute of another type raises
        raise WeightsError(
            "Expected weights whose stride, number of classes and `train_args` are as Ultralytics writes them, found "
            f"{type(error).__name__}: {safe_repr(str(error))}. Take a .pt that Ultralytics' own training wrote."
        ) from error


def _require_numbers(parameters: Mapping[str, Any], file_size: int) -> None:
    # A tensor of one number can claim any shape. Ultralytics stores two bytes a number or more.
    count = sum(values.numel() for values in parameters.values())
    if 2 * count > file_size:
        raise WeightsError(
            f"Expected weights that hold each of their numbers, found {count} numbers in a file of {file_size} bytes. "
            "Take a .pt that Ultralytics' own training wrote."
        )
    for name, values in parameters.items():
        if not values.isfinite().all():
            raise WeightsError(
                f"Expected weights that are finite numbers, found NaN or infinity in {safe_repr(name)}: the training "
                "failed. Take a checkpoint from before."
            )


def _description(loaded: Any) -> dict[str, Any]:  # noqa: ANN401 - ultralytics ships no types
    model = loaded.model
    trained = (loaded.ckpt or {}).get("train_args") or {}  # `model.args` has Ultralytics' defaults beside
    return {
        "task": loaded.task,
        "class_names": list(model.names.values()),
        "outputs": _class_count(model.model[-1], loaded.task),
        "image_size": _image_size(trained.get("imgsz"), loaded.task, max(32, int(model.stride.max()))),
    }


def _class_count(head: Any, task: str) -> int:  # noqa: ANN401
    return int(head.linear.out_features if task == "classify" else head.nc)


def _image_size(trained: object, task: str, stride: int) -> int:
    """The size that the training had, which is a multiple of the stride; Ultralytics takes the next one itself."""
    sizes = trained if isinstance(trained, (list, tuple)) else [trained]
    known = [size for size in sizes if type(size) is int and size > 0]
    size = max(known, default=DEFAULT_IMAGE_SIZE.get(task, 640))
    return -(-size // stride) * stride


def read_description(answer: Path) -> WeightsDescription:
    """Return what a process wrote about weights.

    Raises:
        WeightsError: The model is one that cannot be registered.
    """
    with answer.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise WeightsError(f"Expected a description of the weights of at most {MAX_BYTES} bytes, found a longer one.")
    found = json.loads(text)
    names = tuple(found["class_names"])
    if not 1 <= len(names) <= MAX_CLASSES or len(names) != found["outputs"]:
        raise WeightsError(
            f"Expected weights with a name for each of 1 to {MAX_CLASSES} classes, found {len(names)} names for "
            f"{found['outputs']} classes. Train the model again, or set its names."
        )
    faulty = [name for name in names if not name.strip() or len(name) > MAX_NAME_LENGTH or _UNPRINTABLE.search(name)]
    repeated = [name for number, name in enumerate(names) if name in names[:number]] if not faulty else []
    if faulty or repeated:
        raise WeightsError(
            f"Expected weights with different, printable names of classes, of at most {MAX_NAME_LENGTH} characters, "
            f"found {safe_repr((faulty or repeated)[0])}. Give the classes other names and save the weights again."
        )
    if not 0 < found["image_size"] <= MAX_IMAGE_SIZE:
        raise WeightsError(
            f"Expected weights for images of at most {MAX_IMAGE_SIZE} pixels, found {found['image_size']}."
        )
    return WeightsDescription(task=found["task"], class_names=names, image_size=found["image_size"])
