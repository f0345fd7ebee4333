"""Files that run a command where a loader obeys them: pickles of many kinds, and what goes by the name of a .pt."""

import io
import os
import pickle
import tarfile
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ultralytics.models import YOLO

LEGACY = {"_use_new_zipfile_serialization": False}


class Command:
    """Pickled, it is a call of a function of the operating system; it leaves `mark` behind."""

    def __init__(self, mark: Path, by: str = "system") -> None:
        calls: dict[str, tuple[Callable[..., object], tuple[object, ...]]] = {
            "system": (os.system, (f"touch {mark}",)),
            "eval": (eval, (f"open({str(mark)!r}, 'w').close()",)),  # noqa: S307 - the hostile part
            "exec": (exec, (f"open({str(mark)!r}, 'w').close()",)),
            "mkdir": (os.mkdir, (str(mark),)),
            "getattr": (getattr, (Path(mark), "touch")),
        }
        self._call = calls[by]

    def __reduce__(self) -> Any:
        return self._call


class Torn(torch.nn.Module):
    """A module with a hostile attribute, of a class that nobody else has."""


@cache
def sound() -> Any:
    """A small detector that has learned nothing."""
    return YOLO("yolo11n.yaml").model


def checkpoint(**others: object) -> dict[str, Any]:
    """A real one, but for what is put into it."""
    return {"model": sound(), "ema": None, "optimizer": None, "epoch": -1, "train_args": {}, "date": "", **others}


def with_attributes(**attributes: object) -> torch.nn.Module:
    model: torch.nn.Module = deepcopy(sound())
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def saved(content: object, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def tarred(mark: Path) -> bytes:
    """The format of torch before 0.1.10."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (
            ("sys_info", {}),
            ("pickle", Command(mark)),
            ("storages", Command(mark)),
            ("tensors", Command(mark)),
        ):
            body = pickle.dumps(content)
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have its successor used
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    return buffer.getvalue()


@cache
def kinds(mark: Path) -> dict[str, bytes]:
    """Every kind by its name."""
    command = Command(mark)
    return {
        "plain pickle": pickle.dumps(command),
        "old protocol": pickle.dumps(command, protocol=0),
        "zip": saved(command),
        "legacy stream": saved(command, **LEGACY),
        "legacy tar": tarred(mark),
        "model": saved(checkpoint(model=command)),
        "ema": saved(checkpoint(ema=command)),
        "ema, legacy": saved(checkpoint(ema=command), **LEGACY),
        "optimizer": saved(checkpoint(optimizer={"state": command})),
        "train_args": saved(checkpoint(train_args={"data": command})),
        "train_results": saved(checkpoint(train_results=command)),
        "attribute of the model": saved(checkpoint(model=with_attributes(hostile=command))),
        "key of a dictionary": saved(checkpoint(updates={(1, command): 0})),
        "eval": saved(checkpoint(ema=Command(mark, "eval"))),
        "exec": saved(checkpoint(ema=Command(mark, "exec"))),
        "mkdir": saved(checkpoint(ema=Command(mark, "mkdir"))),
        "getattr": saved(checkpoint(ema=Command(mark, "getattr"))),
        "class of somebody": saved(checkpoint(model=Torn())),
        "TorchScript": scripted(),
        "Python": f"import os\nos.system('touch {mark}')\n".encode(),
        "YAML": f"!!python/object/apply:os.system ['touch {mark}']\n".encode(),
        "empty": b"",
        "cut short": saved(checkpoint())[:-1000],
    }
