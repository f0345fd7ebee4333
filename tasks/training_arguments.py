"""The arguments of Ultralytics' trainer that a training may set, and why it may not set the others.

Names, types, ranges and help come from Ultralytics' own files. They are read and not imported: importing Ultralytics
takes seconds, and every flow needs its parameters.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

_PLACE = "Files and checkpoints of a run have their places, from which it is resumed"
_MEASURED = "All versions are measured in the same way, or their scores could not be compared"
_START = "Set base_model, which says what a training starts from"
_REPORT = "The log and the report of the run say it"
_DEPTH = "It is for estimating depth, which is no task here"
REFUSED: Mapping[str, str] = {
    **{name: f"Set training.{name}" for name in ("epochs", "imgsz", "batch", "patience", "seed", "device", "workers")},
    "cache": "Set training.cache",
    **dict.fromkeys(("project", "name", "exist_ok", "save", "save_dir", "save_period", "resume", "cfg"), _PLACE),
    **dict.fromkeys(("val", "split", "conf", "iou", "max_det", "dnn", "nms", "augment", "agnostic_nms"), _MEASURED),
    **dict.fromkeys(("model", "pretrained"), _START),
    **dict.fromkeys(("verbose", "plots", "save_json", "profile"), _REPORT),
    **dict.fromkeys(("dlog", "dgrad", "dlam"), _DEPTH),
    **dict.fromkeys(("distill_model", "dis"), "Training from a teacher is not supported: nothing would check its file"),
    "data": "Set archives, which say what a training learns from",
    "fraction": "All images of the archives are trained on. Set archives with fewer images",
    "classes": "Set merge.classes, which says which classes there are",
    "task": "The labels of the archives tell the task",
    "mode": "train-model trains",
    "time": "Set training.epochs: a training that goes on after a crash does not know how long it ran before",
    "deterministic": "The same seed and data give the same training on a CPU",
    "quantize": "A version is exported from weights of full precision. Set serving.precision in deploy-model",
}

# Ultralytics' optimizer auto has values of its own for these.
IDLE_WITH_AUTO = frozenset({"lr0", "momentum", "warmup_bias_lr"})
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp", "auto"),
    "copy_paste_mode": ("flip", "mixup"),
    "auto_augment": ("randaugment", "autoaugment", "augmix"),
}
_TYPES: Mapping[str, Any] = {
    "amp": bool | Literal["fp16", "bf16", "fp32"],
    "compile": bool | Literal["default", "reduce-overhead", "max-autotune-no-cudagraphs"],
    "freeze": Annotated[int, Field(ge=0, le=1000)] | list[Annotated[int, Field(ge=0, le=1000)]],
    "scale": Annotated[float, Field(ge=0, le=1)],
}
_HELP: Mapping[str, str] = {  # of those of which only a part can be said in JSON schema
    "freeze": "Freeze the first N layers, or the layers of a list by their numbers",
    "scale": "Scale gain (+/-)",
}
# The groups of default.yaml that a training reads; the others are for prediction and export.
_GROUPS = ("Train settings", "Segmentation", "Classification", "Val/Test settings", "Hyperparameters")
_GROUP = re.compile(r"^# ([^-\n]+?)(?: -+)?$")
_LINE = re.compile(r"^(\w+):[^#]*# \([^)]*\) (.+)$")


@dataclass(frozen=True, kw_only=True)
class TrainingArgument:
    """An argument of Ultralytics: its type with its range, as an annotation, and what it does, in words."""

    name: str
    type: Any
    description: str


def read_training_arguments() -> list[TrainingArgument]:
    """Return the arguments that a training may set, in the order of Ultralytics' own configuration.

    Raises:
        ImportError: Ultralytics is not installed.
        TypeError: Its configuration has an argument of an unknown type.
    """
    found = find_spec("ultralytics")
    if found is None or not found.origin:
        raise ImportError("Expected Ultralytics, found none. Run `make setup`.")
    folder = Path(found.origin).parent / "cfg"
    keys = dict(_key_sets(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))))
    text = (folder / "default.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    return [
        TrainingArgument(
            name=name, type=_type(name, keys), description=_describe(name, _HELP.get(name, help_text), defaults[name])
        )
        for name, help_text in _help_texts(text)
        if name not in REFUSED
    ]


def _key_sets(module: ast.Module) -> Iterator[tuple[str, Any]]:
    """The constants `CFG_..._KEYS` and `CFG_INT_MIN`: the names of the arguments of each type."""
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if re.fullmatch(r"CFG_\w+_KEYS|CFG_INT_MIN", name):
                yield name, ast.literal_eval(node.value.args[0] if isinstance(node.value, ast.Call) else node.value)


def _help_texts(text: str) -> Iterator[tuple[str, str]]:
    is_wanted = False
    for line in text.splitlines():
        if group := _GROUP.match(line):
            is_wanted = group[1] in _GROUPS
        elif is_wanted and (argument := _LINE.match(line)):
            yield argument[1], argument[2]


def _type(name: str, keys: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if name in _CHOICES:
        return Literal[_CHOICES[name]]
    if name in _TYPES:
        return _TYPES[name]
    if name in keys["CFG_FRACTION_KEYS"]:
        return Annotated[float, Field(ge=0, le=1)]
    if name in keys["CFG_INT_KEYS"]:
        return Annotated[int, Field(ge=keys["CFG_INT_MIN"].get(name, 0))]
    if name in keys["CFG_BOOL_KEYS"]:
        return bool
    if name in keys["CFG_FLOAT_KEYS"]:
        return Annotated[float, Field(ge=0, allow_inf_nan=False)]
    raise TypeError(f"Expected a known type of Ultralytics' argument {name!r}, found none. Add it to this module.")


def _describe(name: str, help_text: str, default: object) -> str:
    sentence = f"{help_text[0].upper()}{help_text[1:].rstrip('.')}."
    condition = " Needs an optimizer other than auto." if name in IDLE_WITH_AUTO else ""
    return sentence + condition + ("" if default is None else f" Ultralytics' default is {default}.")
