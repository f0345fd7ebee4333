"""What Triton is told about a model, and what a client reads back from it.

`model_config` is the one source: the load API takes it as JSON, the repository as config.pbtxt.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.parameters import ServingParams
from tasks.core.served import ServedModel

INPUT = "images"
OUTPUT = "detections"
MAX_DETECTIONS = 300
DETECTION_FIELDS = 6
QUEUE_DELAY_US = 500

# Fields whose strings are enum names (bare in text) and fields that are maps (key/value pairs in text).
_ENUMS = frozenset({"data_type", "kind"})
_MAPS = frozenset({"parameters"})


def model_config(models: Sequence[ServedModel], serving: ServingParams) -> dict[str, Any]:
    """The whole ModelConfig that serves exactly these versions of one model, under protobuf's own field names.

    Raises ValueError where there is no version, a version twice, or versions of different models.
    """
    name, versions = _identity(models)
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": serving.max_batch_size,
        # Height and width are open, so that two versions of different image sizes are served side by side.
        "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": [-1, -1, 3]}],
        "output": [{"name": OUTPUT, "data_type": "TYPE_FP32", "dims": [MAX_DETECTIONS, DETECTION_FIELDS]}],
        # AUTO becomes an instance on each GPU where Triton sees one, and an instance on the CPU elsewhere.
        "instance_group": [{"count": serving.instances, "kind": "KIND_AUTO"}],
        "dynamic_batching": {"max_queue_delay_microseconds": QUEUE_DELAY_US},
        "version_policy": {"specific": {"versions": versions}},
        "parameters": {key: {"string_value": value} for key, value in _parameters(models, serving)},
    }


def _identity(models: Sequence[ServedModel]) -> tuple[str, list[int]]:
    names = sorted({model.name for model in models})
    versions = sorted(model.version for model in models)
    if len(names) != 1:
        raise ValueError(f"expected one or more versions of one model, found versions of {names}")
    if len(set(versions)) != len(versions) or versions[0] < 1:
        raise ValueError(f"expected different versions from 1 up of {names[0]!r}, found {versions}")
    return names[0], versions


def _parameters(models: Sequence[ServedModel], serving: ServingParams) -> Iterator[tuple[str, str]]:
    yield "precision", serving.precision
    for model in sorted(models, key=lambda model: model.version):
        yield f"task.{model.version}", model.task
        yield f"image_size.{model.version}", str(model.image_size)
        yield f"class_names.{model.version}", json.dumps(model.class_names)
        yield f"run_id.{model.version}", model.run_id


def config_json(config: Mapping[str, Any]) -> str:
    """The config as the load API's `config` override takes it."""
    return json.dumps(config)


def config_pbtxt(config: Mapping[str, Any]) -> str:
    """The config as text protobuf, for `config.pbtxt`.

    Written here and not by protobuf's `text_format`, which needs the message type of the Triton client.
    """
    return "".join(f"{line}\n" for field, value in config.items() for line in _field(field, value))


def _field(field: str, value: object) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _field(field, item)
    elif field in _MAPS and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _message(field, {"key": key, "value": item})
    elif isinstance(value, Mapping):
        yield from _message(field, value)
    else:
        yield f"{field}: {value if field in _ENUMS else _scalar(value)}"


def _message(field: str, fields: Mapping[str, Any]) -> Iterator[str]:
    yield f"{field} {{"
    for name, value in fields.items():
        yield from (f"  {line}" for line in _field(name, value))
    yield "}"


def _scalar(value: object) -> str:
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A text protobuf string of printable ASCII; every other byte is a three-digit octal escape."""
    special = b'"\\'
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in special else f"\\{b:03o}" for b in text.encode()) + '"'


def config_versions(config: Mapping[str, Any]) -> list[int]:
    """The versions that a config, as Triton gives it back, says are served; empty where it does not name them."""
    return [int(v) for v in config.get("version_policy", {}).get("specific", {}).get("versions", [])]


def served_model(config: Mapping[str, Any], version: int) -> ServedModel:
    """The inverse of `model_config` for one version.

    Raises ValueError, naming what is missing, where the config does not describe that version.
    """
    name = config.get("name", "")
    image_size = _parameter(config, f"image_size.{version}")
    if not (image_size.isascii() and image_size.isdecimal() and int(image_size) > 0):
        raise ValueError(f"model {name!r} version {version}: expected an image size in pixels, found {image_size!r}")
    return ServedModel(
        name=name,
        version=version,
        task=_parameter(config, f"task.{version}"),
        image_size=int(image_size),
        class_names=_class_names(name, version, _parameter(config, f"class_names.{version}")),
        run_id=_parameter(config, f"run_id.{version}"),
    )


def _parameter(config: Mapping[str, Any], key: str) -> str:
    parameters = config.get("parameters", {})
    if key not in parameters:
        described = sorted(int(k[5:]) for k in parameters if k.startswith("task.") and k[5:].isdecimal())
        raise ValueError(
            f"model {config.get('name', '')!r}: expected parameter {key!r} in the config that Triton serves, found "
            f"a config that describes versions {described}. Deploy that version with the deploy-model flow."
        )
    value: str = parameters[key].get("string_value", "")  # protobuf's JSON leaves an empty string out
    return value


def _class_names(name: str, version: int, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
        raise ValueError(f"model {name!r} version {version}: expected class names as a JSON list, found {text[:80]!r}")
    return tuple(names)
