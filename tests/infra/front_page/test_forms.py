"""The form of a flow holds each of its parameters once, and gives back what a person filled in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.clean_up import clean_up
from flows.delete_dataset import delete_dataset
from flows.deploy_model import deploy_model
from flows.run_inference import run_inference
from flows.run_pipeline import run_pipeline
from flows.train_model import train_model
from infra.front_page.forms import Field, list_groups, parse_form
from tasks.errors import StudioError

TRAIN: dict[str, Any] = train_model.parameters.model_dump()
DEPLOY: dict[str, Any] = deploy_model.parameters.model_dump()
INFER: dict[str, Any] = run_inference.parameters.model_dump()


def fields(schema: dict[str, Any], **given: list[str]) -> dict[str, Field]:
    return {field.path: field for group in list_groups(schema, given) for field in group.fields}


@pytest.mark.parametrize("flow", [train_model, deploy_model, run_inference, run_pipeline, clean_up])
def test_a_form_holds_each_parameter_once(flow: Any) -> None:
    schema = flow.parameters.model_dump()
    paths = [field.path for group in list_groups(schema, {}) for field in group.fields]
    assert len(paths) == len(set(paths))
    assert {path.partition(".")[0] for path in paths} == set(schema["properties"])


def test_a_field_is_of_the_kind_of_its_parameter() -> None:
    found = fields(TRAIN) | fields(DEPLOY) | fields(INFER)
    kinds = {
        "model_name": "text",
        "archives": "lines",
        "version": "number",
        "training.epochs": "number",
        "training.rehearse": "switch",
        "training.device": "text",
        "merge.classes": "json",
        "serving.precision": "choice",
        "promotion.min_gain": "number",
        "serving.canary": "json",
        "inference.confidence": "number",  # or the word auto, which passes as it is
    }
    assert {path: found[path].kind for path in kinds} == kinds
    assert found["serving.precision"].choices == ("auto", "f32", "f16", "bf16", "int8", "int8-mixed")
    assert found["training.epochs"].description.startswith("Passes over all training images")
    assert (found["model_name"].required, found["base_model"].required) == (True, False)


def test_what_is_filled_in_becomes_parameters_and_the_rest_stays_away() -> None:
    filled = {
        "model_name": ["shapes"],
        "archives": ["a.zip\r\n\r\n b.zip "],
        "training.epochs": ["3"],
        "training.rehearse": ["false"],
        "training.patience": [" "],
        "merge.classes": ['{"Car": "car"}'],
        "promotion.min_gain": ["0.5"],
    }
    assert parse_form(TRAIN, filled) == {
        "model_name": "shapes",
        "archives": ["a.zip", "b.zip"],
        "training": {"epochs": 3, "rehearse": False},
        "merge": {"classes": {"Car": "car"}},
        "promotion": {"min_gain": 0.5},
    }


@pytest.mark.parametrize("text", ["two", "nan", "inf", "1e999"])
def test_a_number_that_is_none_is_left_for_prefect_to_refuse(text: str) -> None:
    assert parse_form(DEPLOY, {"version": [text]}) == {"version": text}


@pytest.mark.parametrize("name", [" a.zip", "a.zip ", "[2024] a.zip", "-a.zip", "é\u200b.zip"])
def test_a_name_is_never_made_another(name: str) -> None:
    schema = delete_dataset.parameters.model_dump()
    field = fields(schema, archive=[name])["archive"]
    assert parse_form(schema, {"archive": [field.text]}) == {"archive": name}


@pytest.mark.parametrize(
    ("filled", "words"),
    [
        ({"training.epohcs": ["3"]}, r"Expected parameters of this flow, found 'training.epohcs'"),
        ({"merge.classes": ["{car}"]}, r"Expected JSON as merge.classes, found '\{car\}'"),
        ({"archives": ['["a.zip"']}, r"Expected JSON as archives"),
        ({"merge.classes": ['{"a": NaN}']}, r"Expected JSON as merge.classes"),
        ({"archives": ['["\\ud800.zip"]']}, r"Expected JSON as archives"),
    ],
)
def test_what_is_no_parameter_is_refused_in_words(filled: dict[str, list[str]], words: str) -> None:
    with pytest.raises(StudioError, match=words):
        parse_form(TRAIN, filled)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1))
def test_any_names_that_were_chosen_come_back_as_they_are(names: list[str]) -> None:
    field = fields(TRAIN, archives=names)["archives"]
    assert parse_form(TRAIN, {"archives": [field.text]}) == {"archives": names}
