"""The configuration of a model in Triton, and how a client reads it.

`model_config` is the one source: the load API takes it as JSON, the repository as config.pbtxt.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import json_format, text_format  # type: ignore[import-untyped]
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tasks.parameters import ServingParams
from tasks.serving.onnxruntime_config import to_onnxruntime_config
from tasks.serving.served_model import ServedModel
from tasks.serving.task_outputs import OUTPUTS, output_shapes
from tasks.serving.triton_names import is_aside, model_name_of

INPUT = "images"
QUEUE_DELAY_US = 500

NO_DEFAULT_VERSION = 0  # the champion of a version that is served aside: its clients name the version
_CHAMPION = "champion"
_KEPT_UNTIL = "kept_until"
_EXACT = "exact_precision"  # the model refuses to load rather than run in another precision
_THREADS = "intra_op_thread_count"  # the ONNX Runtime backend's own name for it


def model_config(
    models: Sequence[ServedModel], serving: ServingParams, champion: int, server: str = ""
) -> dict[str, Any]:
    """Return the whole ModelConfig that serves exactly these versions of one model, under protobuf's own field names.

    Args:
        models: The versions; each has its own precision, and that of `serving` does not count.
        serving: How they are served.
        champion: The version for clients that name none, or NO_DEFAULT_VERSION.
        server: Triton's software (and best its GPUs). Only backend onnxruntime uses it, to keep TensorRT's engines; it
            keeps none if this is empty.

    Raises:
        ValueError: There is no version, a version twice, versions of different models or tasks, a champion that is not
            among them, or something that the backend cannot do.
    """
    name, task, versions = _common_identity(models)
    if champion not in {NO_DEFAULT_VERSION, *versions}:
        raise ValueError(f"expected the champion of {name!r} among the served versions {versions}, found {champion}")
    config = {
        "name": name,
        "backend": serving.backend,
        "max_batch_size": serving.max_batch_size,
        # Height and width are open, so that two versions of different image sizes are served side by side.
        "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": [-1, -1, 3]}],
        "output": [
            {"name": output, "data_type": "TYPE_FP32", "dims": [*shape]}
            for output, shape in output_shapes(task, {}).items()  # -1 for a size in which two versions may differ
        ],
        # AUTO becomes an instance on each GPU if Triton sees one, else an instance on the CPU.
        "instance_group": [{"count": serving.instances, "kind": "KIND_AUTO"}],
        "dynamic_batching": {"max_queue_delay_microseconds": QUEUE_DELAY_US},
        "version_policy": {"specific": {"versions": versions}},
        "parameters": {key: {"string_value": value} for key, value in _parameters(models, serving, champion)},
    }
    return config if serving.backend == "python" else to_onnxruntime_config(config, models, serving, server)


def _common_identity(models: Sequence[ServedModel]) -> tuple[str, str, list[int]]:
    names = sorted({model.entry for model in models})
    tasks = sorted({model.task for model in models})
    versions = sorted(model.version for model in models)
    if len(names) != 1:
        raise ValueError(f"expected one or more versions of one model, found versions of {names}")
    if len(set(versions)) != len(versions) or versions[0] < 1:
        raise ValueError(f"expected different versions from 1 up of {names[0]!r}, found {versions}")
    if len(tasks) != 1 or tasks[0] not in OUTPUTS:
        raise ValueError(f"expected versions of {names[0]!r} of one task ({', '.join(OUTPUTS)}), found tasks {tasks}")
    return names[0], tasks[0], versions


def _parameters(models: Sequence[ServedModel], serving: ServingParams, champion: int) -> Iterator[tuple[str, str]]:
    yield _CHAMPION, str(champion)
    if serving.threads:
        yield _THREADS, str(serving.threads)
    for model in sorted(models, key=lambda model: model.version):
        for name in ("task", "image_size", "run_id", "digest", "precision"):
            yield f"{name}.{model.version}", str(getattr(model, name))
        yield f"class_names.{model.version}", json.dumps(model.class_names)
        if model.thresholds is not None:
            yield f"thresholds.{model.version}", json.dumps(dict(model.thresholds))


def config_pbtxt(config: Mapping[str, Any]) -> str:
    """Return the config as text protobuf, for `config.pbtxt`."""
    return str(text_format.MessageToString(json_format.ParseDict(config, ModelConfig())))


def parse_config_pbtxt(text: str) -> dict[str, Any]:
    """Return the config in a config.pbtxt, under protobuf's own field names.

    Raises:
        ValueError: It is no such text.
    """
    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"expected a config.pbtxt, found {text[:80]!r} ({error})") from error
    return dict(json_format.MessageToDict(config, preserving_proto_field_name=True))


def served_alike(config: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two configs, as we write them or as Triton gives them back, serve the same in the same way."""
    return _identity(config) == _identity(other)


def _identity(config: Mapping[str, Any]) -> tuple[object, ...]:
    parameters = {key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()}
    copies = int((config.get("instance_group") or [{}])[0].get("count", 1))
    return config_versions(config), parameters, config.get("backend"), int(config.get("max_batch_size", 0)), copies


def config_versions(config: Mapping[str, Any]) -> list[int]:
    """Return the versions that a config, as Triton gives it back, says are served; empty if it does not name them."""
    return [int(v) for v in config.get("version_policy", {}).get("specific", {}).get("versions", [])]


def set_kept_until(config: Mapping[str, Any], until: float) -> dict[str, Any]:
    """Return the config of a version that runs of inference may use until then, in seconds since 1970."""
    return {**config, "parameters": {**config.get("parameters", {}), _KEPT_UNTIL: {"string_value": f"{until:.0f}"}}}


def require_exact_precision(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a version that backend python loads in its very precision, or not at all."""
    return {**config, "parameters": {**config.get("parameters", {}), _EXACT: {"string_value": "true"}}}


def read_kept_until(config: Mapping[str, Any]) -> float:
    """Return until when runs of inference may use a version, in seconds since 1970; inf if there is no end."""
    return float(_optional(config, _KEPT_UNTIL, "inf"))


def read_champion_version(config: Mapping[str, Any]) -> int:
    """Return the version for clients that name none, or NO_DEFAULT_VERSION.

    Raises:
        ValueError: The config does not name it.
    """
    text = _optional(config, _CHAMPION, "")
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"model {config.get('name', '')!r}: expected a version as champion, found {text[:80]!r}")
    return int(text)


def read_serving_params(config: Mapping[str, Any]) -> ServingParams:
    """Return the choices of a deployment that are in a config, as Triton gives it back; the others are the defaults."""
    return ServingParams(
        backend=config["backend"],
        instances=int(config["instance_group"][0].get("count", 1)),
        max_batch_size=int(config["max_batch_size"]),
        threads=int(_optional(config, _THREADS, "0")),
        precision="f32",  # each version has its own
    )


def read_served_model(config: Mapping[str, Any], version: int) -> ServedModel:
    """Return one version that a config describes: the inverse of `model_config`.

    Raises:
        ValueError: The config does not describe it.
    """
    name = config.get("name", "")
    image_size = _parameter(config, f"image_size.{version}")
    class_names = _parameter(config, f"class_names.{version}")
    thresholds = _optional(config, f"thresholds.{version}", "null")
    if not (image_size.isascii() and image_size.isdecimal() and int(image_size) > 0):
        raise ValueError(f"model {name!r} version {version}: expected an image size in pixels, found {image_size!r}")
    return ServedModel(
        name=model_name_of(name),
        version=version,
        task=_parameter(config, f"task.{version}"),
        image_size=int(image_size),
        class_names=tuple(_parse_json(name, version, "class names as a JSON list", class_names, _are_names)),
        run_id=_parameter(config, f"run_id.{version}"),
        thresholds=_parse_json(name, version, "thresholds by class name", thresholds, _are_thresholds),
        digest=_parameter(config, f"digest.{version}"),
        precision=_parameter(config, f"precision.{version}"),
        max_batch_size=max(int(config.get("max_batch_size", 1)), 1),
        aside=name if is_aside(name) else "",
        until=read_kept_until(config),
    )


def _parameter(config: Mapping[str, Any], key: str) -> str:
    parameters = config.get("parameters", {})
    if key not in parameters:
        described = sorted(int(k[5:]) for k in parameters if k.startswith("task.") and k[5:].isdecimal())
        raise ValueError(
            f"model {config.get('name', '')!r}: expected parameter {key!r} in the config that Triton serves, found "
            f"a config that describes versions {described}. Deploy that version with the deploy-model flow."
        )
    return _optional(config, key, "")


def _optional(config: Mapping[str, Any], key: str, default: str) -> str:
    # protobuf's JSON leaves an empty string out
    return str(config.get("parameters", {}).get(key, {"string_value": default}).get("string_value", ""))


def _parse_json(name: str, version: int, what: str, text: str, fits: Callable[[Any], bool]) -> Any:  # noqa: ANN401
    with contextlib.suppress(ValueError):
        if fits(value := json.loads(text)):
            return value
    raise ValueError(f"model {name!r} version {version}: expected {what}, found {text[:80]!r}")


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_thresholds(value: object) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(item, int | float) for item in value.values()))
