"""The config that Triton is given, as a dict, as text, and read back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tasks.parameters import ServingParams
from tasks.serving.onnxruntime_config import engine_fingerprint
from tasks.serving.served_model import ServedModel
from tasks.serving.task_outputs import OUTPUTS, output_shapes
from tasks.serving.triton_config import (
    NO_DEFAULT_VERSION,
    config_pbtxt,
    config_versions,
    model_config,
    parse_config_pbtxt,
    read_champion_version,
    read_served_model,
    read_serving_params,
    require_exact_precision,
    served_alike,
    set_kept_until,
)

GOLDEN = Path(__file__).parent / "golden"
OLD = ServedModel(name="cells", version=3, task="detect", image_size=320, class_names=("RBC", "WBC"), run_id="5f2a")
ODD_NAMES = ('say "cell"', "line\nbreak", "Zelle \u00e4\U0001f9ec \\ '")
NEW = ServedModel(
    name="cells",
    version=12,
    task="detect",
    image_size=640,
    class_names=ODD_NAMES,
    run_id="77b0",
    thresholds={"line\nbreak": 0.1 + 0.2, ODD_NAMES[2]: 0},
    digest="c0ffee",
    precision="bf16",
)
MASKS = ServedModel(
    name="outlines",
    version=1,
    task="segment",
    image_size=320,
    class_names=("RBC",),
    run_id="5f2a",
    digest="beef",
    precision="f16",
)
SAME = replace(NEW, version=13, digest="decaf")
PARAMS = ServingParams(instances=2, max_batch_size=8)
ORT = ServingParams(backend="onnxruntime", max_batch_size=8)
SERVER = "2.51.0, GPU-b31c"

# The golden files: what each says, and how it is made.
CONFIGS: dict[str, dict[str, Any]] = {
    "python-detect": model_config([OLD, NEW], PARAMS, 12),
    "python-segment": model_config([MASKS], PARAMS, NO_DEFAULT_VERSION),
    "onnxruntime-detect": model_config([replace(OLD, digest="c0ffee", precision="f16")], ORT, 3, SERVER),
    "onnxruntime-segment": model_config([MASKS], ServingParams(backend="onnxruntime", max_batch_size=1, threads=4), 1),
}

hostile_text = st.text(st.characters(exclude_categories=["Cs"]))


def parsed(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


@pytest.mark.parametrize("name", CONFIGS)
def test_triton_reads_from_the_text_what_the_golden_file_says(name: str) -> None:
    assert parsed(config_pbtxt(CONFIGS[name])) == parsed((GOLDEN / f"{name}.pbtxt").read_text())


@pytest.mark.parametrize("name", CONFIGS)
def test_triton_reads_the_same_from_text_and_from_json(name: str) -> None:
    config = CONFIGS[name]
    assert parsed(config_pbtxt(config)) == json_format.Parse(json.dumps(config), ModelConfig())


@given(names=st.lists(hostile_text).map(tuple), run_id=hostile_text, digest=hostile_text, precision=hostile_text)
def test_hostile_names_survive_both_forms(names: tuple[str, ...], run_id: str, digest: str, precision: str) -> None:
    model = ServedModel(
        name="m",
        version=1,
        task="detect",
        image_size=64,
        class_names=names,
        run_id=run_id,
        digest=digest,
        precision=precision,
    )
    config = model_config([model], ServingParams(), 1)
    message = parsed(config_pbtxt(config))
    assert message == json_format.Parse(json.dumps(config), ModelConfig())
    assert read_served_model(json_format.MessageToDict(message, preserving_proto_field_name=True), 1) == model


@given(st.lists(st.lists(st.sampled_from("a\udc80\udfff") | st.characters()).map("".join)).map(tuple))
def test_class_names_that_are_no_unicode_survive(names: tuple[str, ...]) -> None:
    model = ServedModel(name="m", version=1, task="detect", image_size=64, class_names=names, run_id="run")
    assert read_served_model(json.loads(json.dumps(model_config([model], ServingParams(), 1))), 1) == model


def test_versions_are_served_together_and_each_reads_back_as_itself() -> None:
    config = model_config([NEW, OLD], PARAMS, NO_DEFAULT_VERSION)
    assert config_versions(config) == [3, 12]
    assert (read_served_model(config, 3), read_served_model(config, 12)) == (OLD, NEW)


@pytest.mark.parametrize("champion", [3, 12, NO_DEFAULT_VERSION])
def test_the_champion_reads_back(champion: int) -> None:
    message = parsed(config_pbtxt(model_config([OLD, NEW], PARAMS, champion)))
    assert read_champion_version(json_format.MessageToDict(message, preserving_proto_field_name=True)) == champion


def test_a_champion_that_is_no_version_is_refused() -> None:
    config = model_config([OLD], PARAMS, 3)
    config["parameters"]["champion"] = {"string_value": "latest"}
    with pytest.raises(ValueError, match="'cells': expected a version as champion, found 'latest'"):
        read_champion_version(config)


def test_a_config_that_names_no_champion_is_refused() -> None:
    config = model_config([OLD], PARAMS, 3)
    del config["parameters"]["champion"]
    with pytest.raises(ValueError, match="'cells': expected a version as champion, found ''"):
        read_champion_version(config)


@pytest.mark.parametrize("key", ["task.3", "digest.3", "precision.3", "run_id.3"])
def test_a_config_that_lacks_a_parameter_of_a_version_is_refused(key: str) -> None:
    config = model_config([OLD], PARAMS, 3)
    del config["parameters"][key]
    with pytest.raises(ValueError, match=f"expected parameter {key!r}"):
        read_served_model(config, 3)


def test_choices_reach_the_config() -> None:
    config = model_config([OLD], PARAMS.model_copy(update={"threads": 3}), 3)
    assert config["backend"] == "python"
    assert config["max_batch_size"] == 8
    assert config["instance_group"][0]["count"] == 2
    assert config["parameters"]["intra_op_thread_count"] == {"string_value": "3"}


@pytest.mark.parametrize("serving", [PARAMS, ORT, ServingParams(threads=3)])
def test_choices_read_back(serving: ServingParams) -> None:
    """All but the precision, of which each version has its own."""
    serving = serving.model_copy(update={"precision": "f32"})
    message = parsed(config_pbtxt(model_config([OLD], serving, 3)))
    assert read_serving_params(json_format.MessageToDict(message, preserving_proto_field_name=True)) == serving


@pytest.mark.parametrize("task", OUTPUTS)
def test_each_task_has_its_outputs(task: str) -> None:
    message = parsed(config_pbtxt(model_config([replace(OLD, task=task)], PARAMS, 3)))
    assert {output.name: tuple(output.dims) for output in message.output} == output_shapes(task, {})


def tensorrt(config: dict[str, Any]) -> dict[str, str]:
    [accelerator] = config["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
    assert accelerator["name"] == "tensorrt"
    parameters: dict[str, str] = accelerator["parameters"]
    return parameters


def test_onnxruntime_gets_the_very_sizes_of_the_graph() -> None:
    config = model_config([replace(OLD, task="classify")], ORT, 3)
    assert config["input"][0]["dims"] == [320, 320, 3]
    assert config["output"] == [{"name": "scores", "data_type": "TYPE_FP32", "dims": [2]}]


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_sizes_that_only_the_graph_knows_are_left_to_triton(task: str) -> None:
    assert model_config([replace(OLD, task=task)], ORT, 3)["output"] == []


@pytest.mark.parametrize("changed", [replace(MASKS, digest="d0d0"), replace(MASKS, precision="f32")])
def test_an_engine_of_another_graph_or_precision_is_in_another_folder(changed: ServedModel) -> None:
    one, other = (tensorrt(model_config([model], ORT, NO_DEFAULT_VERSION, SERVER)) for model in (MASKS, changed))
    assert one["trt_engine_cache_path"] != other["trt_engine_cache_path"]
    assert one["trt_timing_cache_path"] == other["trt_timing_cache_path"]
    assert engine_fingerprint(MASKS, SERVER) in one["trt_engine_cache_path"]


def test_nothing_of_another_server_is_loaded() -> None:
    one, other = (
        tensorrt(model_config([MASKS], ORT, NO_DEFAULT_VERSION, server)) for server in (SERVER, "2.52.0, GPU-b31c")
    )
    assert one["trt_engine_cache_path"] != other["trt_engine_cache_path"]
    assert one["trt_timing_cache_path"] != other["trt_timing_cache_path"]


@pytest.mark.parametrize(
    ("models", "server", "kept"),
    [
        ([MASKS], "", set()),
        ([replace(MASKS, digest="")], SERVER, {"timing"}),
        ([MASKS, replace(MASKS, version=2)], SERVER, {"timing"}),
        ([MASKS], SERVER, {"timing", "engine"}),
    ],
)
def test_engines_are_kept_only_where_no_other_can_be_mistaken_for_them(
    models: list[ServedModel], server: str, kept: set[str]
) -> None:
    """ONNX Runtime names an engine after the graph's nodes: two versions of one architecture would share it."""
    parameters = tensorrt(model_config(models, ORT, NO_DEFAULT_VERSION, server))
    assert {key.split("_")[1] for key in parameters if key.endswith("_cache_enable")} == kept


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            [OLD, NEW],
            r"cells with one image size, found 320 \(version 3\), 640 \(version 12\).*backend python.*undeploy",
        ),
        ([replace(NEW, precision="f32"), SAME], r"one precision, found f32 \(version 12\), bf16 \(version 13\)"),
        (
            [replace(OLD, task="classify"), replace(OLD, task="classify", version=4, class_names=("RBC",))],
            r"one number of classes, found 2 \(version 3\), 1 \(version 4\)",
        ),
        ([NEW], "precision f32 or f16 or int8 or int8-mixed for backend onnxruntime, found 'bf16'.*backend python"),
    ],
)
def test_what_onnxruntime_cannot_serve_is_refused(models: list[ServedModel], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_config(models, ORT, NO_DEFAULT_VERSION)


def test_onnxruntime_loads_the_graph_of_the_precision() -> None:
    config = model_config([replace(OLD, precision="int8-mixed")], ORT, 3)
    assert config["default_model_filename"] == "model.int8-mixed.onnx"
    accelerator = config["optimization"]["execution_accelerators"]["gpu_execution_accelerator"][0]
    assert accelerator["parameters"]["precision_mode"] == "INT8"
    assert "default_model_filename" not in model_config([OLD], ORT, 3)


def test_a_trial_loads_in_its_very_precision_or_not_at_all() -> None:
    config = require_exact_precision(model_config([OLD], PARAMS, NO_DEFAULT_VERSION))
    assert config["parameters"]["exact_precision"] == {"string_value": "true"}
    assert read_served_model(config, 3) == replace(OLD, max_batch_size=8)


def test_versions_of_the_same_shapes_are_served_by_onnxruntime_side_by_side() -> None:
    models = [replace(NEW, precision="f16"), replace(SAME, precision="f16")]
    config = model_config(models, ORT, 12, SERVER)
    assert [read_served_model(config, 12), read_served_model(config, 13)] == models


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "one or more versions"),
        (
            [OLD, ServedModel(name="other", version=4, task="detect", image_size=320, class_names=(), run_id="")],
            "of one model",
        ),
        ([OLD, OLD], "different versions"),
        ([ServedModel(name="cells", version=0, task="detect", image_size=320, class_names=(), run_id="")], "from 1 up"),
        ([OLD, replace(NEW, task="segment")], r"one task .*found tasks \['detect', 'segment'\]"),
        ([replace(OLD, task="telepathy")], r"one task \(detect, .*found tasks \['telepathy'\]"),
    ],
)
def test_what_is_no_set_of_versions_is_refused(models: list[ServedModel], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_config(models, PARAMS, NO_DEFAULT_VERSION)


def test_a_champion_that_is_not_served_is_refused() -> None:
    with pytest.raises(ValueError, match=r"champion of 'cells' among the served versions \[3, 12\], found 4"):
        model_config([OLD, NEW], PARAMS, 4)


def test_a_version_that_is_not_described_says_which_are() -> None:
    with pytest.raises(ValueError, match=r"'image_size.7'.*versions \[3, 12\].*deploy-model"):
        read_served_model(model_config([OLD, NEW], PARAMS, 3), 7)


def test_a_config_that_is_not_ours_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"'stranger': expected parameter 'image_size.1'"):
        read_served_model({"name": "stranger"}, 1)
    assert config_versions({"name": "stranger"}) == []


@pytest.mark.parametrize("text", ["0", "-1", "6e2", "", "\u0663"])
def test_a_nonsense_image_size_is_refused(text: str) -> None:
    config = model_config([OLD], PARAMS, 3)
    config["parameters"]["image_size.3"] = {"string_value": text}
    with pytest.raises(ValueError, match="image size in pixels"):
        read_served_model(config, 3)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"RBC": "0.5"}'])
def test_nonsense_thresholds_are_refused(text: str) -> None:
    config = model_config([OLD], PARAMS, 3)
    config["parameters"]["thresholds.3"] = {"string_value": text}
    with pytest.raises(ValueError, match="expected thresholds by class name"):
        read_served_model(config, 3)


@pytest.mark.parametrize("text", ["", "{}", '"RBC"', "[1]"])
def test_nonsense_class_names_are_refused(text: str) -> None:
    config = model_config([OLD], PARAMS, 3)
    config["parameters"]["class_names.3"] = {"string_value": text}
    with pytest.raises(ValueError, match="class names as a JSON list"):
        read_served_model(config, 3)


def as_triton_gives_it(config: dict[str, Any]) -> dict[str, Any]:
    """Numbers of 64 bits as JSON texts, names of protobuf, and what Triton adds."""
    given = json_format.MessageToDict(json_format.ParseDict(config, ModelConfig()), preserving_proto_field_name=True)
    return {
        **given,
        "version_policy": {"specific": {"versions": [str(v) for v in config_versions(config)]}},
        "input": [],
    }


def test_a_server_is_held_against_the_text_that_was_deployed() -> None:
    deployed = model_config([NEW], PARAMS, 12)
    wanted = parse_config_pbtxt(config_pbtxt(deployed))
    assert served_alike(as_triton_gives_it(deployed), wanted)
    for other in (
        model_config([OLD], PARAMS, 3),
        model_config([OLD, NEW], PARAMS, 12),
        model_config([replace(NEW, digest="decaf")], PARAMS, 12),
        model_config([replace(NEW, thresholds=None)], PARAMS, 12),
        model_config([NEW], ServingParams(instances=3, max_batch_size=8), 12),
        model_config([NEW], ServingParams(instances=2, max_batch_size=4), 12),
        set_kept_until(deployed, 1.0),
    ):
        assert not served_alike(as_triton_gives_it(other), wanted)


def test_what_is_no_config_pbtxt_is_shown() -> None:
    with pytest.raises(ValueError, match=r"expected a config\.pbtxt, found 'no config"):
        parse_config_pbtxt("no config")
