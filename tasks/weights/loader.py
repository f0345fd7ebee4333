"""The one loader of Ultralytics' .pt files, which runs nothing in them.

A .pt file is a pickle, and an ordinary loader calls any function that it names. Here it may name only the classes of
torch's and Ultralytics' models.
"""

import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import StudioError, safe_repr

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_MOST_GROWTH = 20  # of a file when it is unpacked


class WeightsError(StudioError):
    """A file that is no model, or asks for more than a model needs."""


def open_model(model: str) -> Any:  # noqa: ANN401 - ultralytics ships no types
    """Return the `YOLO` object of a .pt file, or of a named architecture of Ultralytics (.yaml).

    Its `model.names` are texts by number, from 0 on. Official weights that are no file yet are downloaded to that path.

    Raises:
        WeightsError: It is no model, or none that can be served, or names more than a model's classes; nothing in the
            file has run. Or it is no file and cannot be downloaded.
        MemoryError: There is too little memory for it.
    """
    if Path(model).suffix not in {".pt", ".yaml"}:
        raise WeightsError(f"Expected Ultralytics weights (.pt), found {Path(model).name!r}: name a .pt file.")
    tasks = _only_models()
    from ultralytics.models import YOLO

    is_download = model.endswith(".pt") and not Path(model).exists()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about formats that it then refuses
            _require_unpacked_size(Path(model))
            loaded: Any = YOLO(model)
        _require_served(loaded, tasks.BaseModel)
        loaded.model.names = _numbered_names(getattr(loaded.model, "names", None))
    except (WeightsError, MemoryError):
        raise
    except Exception as error:  # whatever torch, zipfile, pickle and odd attributes raise for a file from outside
        if is_download and isinstance(error, ConnectionError | FileNotFoundError):
            name, reason = Path(model).name, safe_repr(str(error).strip("❌ ."), 200)
            raise WeightsError(
                f"Expected to download the official weights {name} from GitHub, found no way to them: {reason}. Fetch "
                f"{name} where there is a network, and put it into bucket base-models with `studio upload {name}`."
            ) from error
        if not Path(model).is_file():
            raise
        raise WeightsError(_reason(Path(model).name, error)) from error
    return loaded


def _numbered_names(names: object) -> dict[int, str]:
    # Ultralytics takes lists, and numbers as text, too.
    numbered = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    if not isinstance(numbered, dict) or {*map(str, numbered)} != {*map(str, range(len(numbered)))}:
        raise WeightsError(
            f"Expected weights with a list of class names, or names by number from 0 on without a gap, found "
            f"{safe_repr(names)}. Set `names` of the model and save the weights again."
        )
    return {int(number): str(numbered[number]) for number in sorted(numbered, key=int)}


def _require_unpacked_size(path: Path) -> None:
    """Refuse a file that claims to unpack to very much more: torch takes as much memory as each part claims."""
    if not zipfile.is_zipfile(path):  # as torch wrote it before 1.6, or none yet
        return
    size = path.stat().st_size
    with zipfile.ZipFile(path) as parts:
        unpacked = sum(part.file_size for part in parts.infolist())
    if unpacked > _MOST_GROWTH * size:
        raise WeightsError(
            f"Expected weights that unpack to at most {_MOST_GROWTH} times their {size:,} bytes, found {unpacked:,} "
            f"bytes in {path.name!r}. Load it with torch and save it again: torch.save compresses nothing."
        )


def _require_served(model: Any, yolo: Any) -> None:  # noqa: ANN401
    from ultralytics.nn.modules import head as heads

    if not isinstance(model.model, yolo):
        raise WeightsError(f"Expected a YOLO model, found {type(model.model).__name__}. Take one such as yolo11n.pt.")
    served = {
        "detect": heads.Detect,
        "segment": heads.Segment,
        "pose": heads.Pose,
        "obb": heads.OBB,
        "classify": heads.Classify,
    }
    head = model.model.model[-1]
    reads_text = isinstance(head, heads.WorldDetect | heads.YOLOEDetect)
    if not isinstance(head, served.get(model.task, ())) or reads_text:
        raise WeightsError(
            f"Expected a YOLO model for one of {', '.join(served)}, found task {model.task!r} with head "
            f"{type(head).__name__}, which is not served. Take a model such as yolo11n.pt."
        )
    channels = model.model.yaml.get("channels", 3)
    if channels != 3:
        raise WeightsError(
            f"Expected a model for images of 3 channels, found {safe_repr(channels)}. Take one for RGB images."
        )


def strip_optimizer(weights: Path) -> None:
    """Turn a checkpoint file into finished weights, as Ultralytics does at the end of a training.

    Raises:
        WeightsError: It is no checkpoint, or `open_model` refuses it.
    """
    open_model(str(weights))  # torch then allows its classes in this process
    from ultralytics.utils import torch_utils

    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # Ultralytics' own stripping would load anything
    try:
        stripped = torch_utils.strip_optimizer(weights)
    finally:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
    if not stripped:
        raise WeightsError(f"Expected a checkpoint of Ultralytics in {weights.name!r}, found another file.")


def _only_models() -> Any:  # noqa: ANN401
    # Ultralytics may have been imported before `load_weights_safely` was called.
    from ultralytics.nn import tasks

    if not (hasattr(tasks, "SAFE_LOAD") and getattr(getattr(tasks, "_SafeLoad", None), "SUPPORTED", False)):
        raise WeightsError(
            "Expected an Ultralytics that loads weights without running what is in them, found one that cannot: "
            "install the versions that requirements.txt names."
        )
    tasks.SAFE_LOAD = True
    return tasks


def _reason(name: str, error: Exception) -> str:
    messages = [str(each) for each in _chain(error)]
    named = [match[1] for text in messages if (match := _GLOBAL.search(text))]
    if named:
        found = f"{name!r}, which asks for {named[0]}: loading it could run any code, so it was refused"
    elif any("TorchScript" in text for text in messages):
        found = f"{name!r}, which is a TorchScript archive"
    else:
        found = f"{name!r}, which is damaged, of an old format or of another kind"
    return (
        f"Expected weights that Ultralytics can load, which hold nothing but a model; found {found}. Take a .pt that "
        f"Ultralytics' own training wrote, with layers that it ships."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
