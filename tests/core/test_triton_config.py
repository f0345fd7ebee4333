"""The config that Triton is given, as a dict, as text, and read back."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tasks.core.parameters import ServingParams
from tasks.core.served import ServedModel
from tasks.core.triton_config import config_json, config_pbtxt, config_versions, model_config, served_model

GOLDEN = Path(__file__).parent / "golden" / "config.pbtxt"
OLD = ServedModel("cells", 3, "detect", 320, ("RBC", "WBC"), "5f2a")
NEW = ServedModel("cells", 12, "detect", 640, ('say "cell"', "line\nbreak", "Zelle \u00e4\U0001f9ec \\ '"), "77b0")
PARAMS = ServingParams(instances=2, max_batch_size=8, precision="bf16")

hostile_text = st.text(st.characters(exclude_categories=["Cs"]))


def parsed(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def test_the_text_is_what_it_was() -> None:
    assert config_pbtxt(model_config([OLD, NEW], PARAMS)) == GOLDEN.read_text()


def test_triton_reads_the_same_from_text_and_from_json() -> None:
    config = model_config([OLD, NEW], PARAMS)
    assert parsed(config_pbtxt(config)) == json_format.Parse(config_json(config), ModelConfig())


@given(names=st.lists(hostile_text).map(tuple), run_id=hostile_text, task=hostile_text)
def test_hostile_names_survive_both_forms(names: tuple[str, ...], run_id: str, task: str) -> None:
    model = ServedModel("m", 1, task, 64, names, run_id)
    config = model_config([model], ServingParams())
    message = parsed(config_pbtxt(config))
    assert message == json_format.Parse(config_json(config), ModelConfig())
    assert served_model(json_format.MessageToDict(message, preserving_proto_field_name=True), 1) == model


@given(st.lists(st.text()).map(tuple))
def test_class_names_that_are_no_unicode_survive(names: tuple[str, ...]) -> None:
    model = ServedModel("m", 1, "detect", 64, names, "run")
    assert served_model(json.loads(config_json(model_config([model], ServingParams()))), 1) == model


def test_versions_are_served_together_and_each_reads_back_as_itself() -> None:
    config = model_config([NEW, OLD], PARAMS)
    assert config_versions(config) == [3, 12]
    assert (served_model(config, 3), served_model(config, 12)) == (OLD, NEW)


def test_choices_reach_the_config() -> None:
    config = model_config([OLD], PARAMS)
    assert config["max_batch_size"] == 8
    assert config["instance_group"][0]["count"] == 2
    assert config["parameters"]["precision"] == {"string_value": "bf16"}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "one or more versions"),
        ([OLD, ServedModel("other", 4, "detect", 320, (), "")], "of one model"),
        ([OLD, OLD], "different versions"),
        ([ServedModel("cells", 0, "detect", 320, (), "")], "from 1 up"),
    ],
)
def test_what_is_no_set_of_versions_is_refused(models: list[ServedModel], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_config(models, PARAMS)


def test_a_version_that_is_not_described_says_which_are() -> None:
    with pytest.raises(ValueError, match=r"'image_size.7'.*versions \[3, 12\].*deploy-model"):
        served_model(model_config([OLD, NEW], PARAMS), 7)


def test_a_config_that_is_not_ours_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"'stranger': expected parameter 'image_size.1'"):
        served_model({"name": "stranger"}, 1)
    assert config_versions({"name": "stranger"}) == []


@pytest.mark.parametrize("text", ["0", "-1", "6e2", "", "\u0663"])
def test_a_nonsense_image_size_is_refused(text: str) -> None:
    config = model_config([OLD], PARAMS)
    config["parameters"]["image_size.3"] = {"string_value": text}
    with pytest.raises(ValueError, match="image size in pixels"):
        served_model(config, 3)


@pytest.mark.parametrize("text", ["", "{}", '"RBC"', "[1]"])
def test_nonsense_class_names_are_refused(text: str) -> None:
    config = model_config([OLD], PARAMS)
    config["parameters"]["class_names.3"] = {"string_value": text}
    with pytest.raises(ValueError, match="class names as a JSON list"):
        served_model(config, 3)
