"""What Prefect answers to a parameter that it refuses: sentences of the field, never a regular expression."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prefect.utilities.schema_tools import validation

from infra.refusals import describe_schema_errors, sentence
from infra.stack_settings import StackSettings
from tests.clients import prefect_api
from tests.tasks.test_parameter_form import FLOWS, schema_of

Schema = dict[str, Any]
RUN = "b2c1f3de-0000-4000-8000-000000000000"
# Enough kinds of bad text that each rule refuses one of them, and good ones to go beside them.
BAD = [
    "predict",
    "epochs",
    "a\n",
    "0\n",
    "/cache\n",
    f"{RUN}\n",
    "c{group}*\n",
    " x",
    "a b",
    "x{group}*",
    "nothing",
    "",
]
SIGNS_OF_A_REGEX = (
    "[^",
    "[A-Z",
    "[0-9",
    "]*",
    "\\x",
    "\\S",
    "(?",
    "+$",
    "does not match",
    "should not be valid",
    "any of the given",
)


@pytest.fixture(autouse=True)
def worded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validator of Prefect's server, as our door changes it."""
    monkeypatch.setattr(validation._VALIDATOR, "VALIDATORS", keywords := dict(validation._VALIDATOR.VALIDATORS))
    describe_schema_errors(keywords)


@dataclass(frozen=True)
class Place:
    """Where a text stands among the parameters, and the rule that it must keep there."""

    path: tuple[str | int, ...]
    rule: Schema
    is_key: bool = False

    def holding(self, text: str) -> Any:
        """Parameters with this text in its place, and nothing beside it."""
        held: Any = {text: 0.5} if self.is_key else text
        for step in reversed(self.path):
            held = [held] if step == 0 else {step: held}
        return held


def places(schema: Schema, definitions: Schema, path: tuple[str | int, ...] = ()) -> Iterator[Place]:
    """Every text with a pattern, or with something that it must not be, wherever it is nested."""
    if "$ref" in schema:
        yield from places(definitions[schema["$ref"].rpartition("/")[2]], definitions, path)
    for kind in schema.get("anyOf", []):
        yield from places(kind, definitions, path)
    if {"pattern", "not"} & set(schema):
        yield Place(path, schema)
    for name, field in schema.get("properties", {}).items():
        yield from places(field, definitions, (*path, name))
    if "items" in schema:
        yield from places(schema["items"], definitions, (*path, 0))
    if isinstance(values := schema.get("additionalProperties"), dict):
        yield from places(values, definitions, (*path, "key"))
    if "propertyNames" in schema:
        yield Place(path, schema["propertyNames"], is_key=True)


SCHEMAS = {name: schema_of(name) for name in FLOWS}
PLACES = [
    pytest.param(flow, place, keyword, id=f"{flow}-{'.'.join(map(str, place.path))}{'.*' * place.is_key}-{keyword}")
    for flow, schema in SCHEMAS.items()
    for place in places(schema, schema.get("definitions", {}))
    for keyword in ("pattern", "not")
    if keyword in place.rule
]


def messages(found: Any) -> list[str]:
    """All texts of the answer that the form gets."""
    if isinstance(found, dict):
        return messages(found["errors"])
    return [found] if isinstance(found, str) else [text for each in found for text in messages(each)]


def test_the_walk_finds_the_texts_of_all_flows() -> None:
    found = {tuple(str(step) for step in place.values[1].path) for place in PLACES}  # type: ignore[union-attr]
    assert found >= {
        ("model_name",),
        ("archives", "0"),
        ("training", "device"),
        ("merge", "classes"),
        ("merge", "classes", "key"),
        ("merge", "groups", "0"),
        ("promotion", "gold"),
        ("serving", "engine_cache"),
        ("inference", "shard", "run"),
        ("inference", "class_confidence"),
    }


@pytest.mark.parametrize(("flow", "place", "keyword"), PLACES)
def test_a_refused_text_is_answered_with_a_sentence(flow: str, place: Place, keyword: str) -> None:
    """In the answer of the API, which names one fault, and in that of the form, which names all."""
    rule = {"type": "string", keyword: place.rule[keyword]}
    bad = [text for text in BAD if not validation._VALIDATOR(rule).is_valid(text)]
    assert bad, place.rule
    for text in bad:
        asked = (place.holding(text), SCHEMAS[flow])
        told = messages(validation.build_error_obj(validation.validate(*asked, ignore_required=True)))
        assert any(each.startswith("Expected ") and f"; found {text!r}." in each for each in told), told
        assert not [sign for each in told for sign in SIGNS_OF_A_REGEX if sign in each], told
    with pytest.raises(validation.ValidationError, match="Expected ") as refused:
        validation.validate(*asked, raise_on_error=True, ignore_required=True)  # slow: it checks the schema, too
    assert not [sign for sign in SIGNS_OF_A_REGEX if sign in str(refused.value)], refused.value


def test_what_is_expected_stands_before_what_was_found_and_how_to_mend_it_after() -> None:
    assert sentence("A name. Take another.", "a\n") == r"Expected a name; found 'a\n'. Take another."
    assert sentence("MLflow's number", 1) == "Expected MLflow's number; found 1."
    assert len(sentence("A name.", "x" * 1000)) < 150


def test_an_empty_item_is_refused_and_named() -> None:
    asked = {"model_name": "x", "archives": ["a.zip", None], "training": {"epochs": "x"}}
    told = messages(validation.build_error_obj(validation.validate(asked, SCHEMAS["train_model"])))
    archive = "Expected an archive in bucket datasets (a.zip), or an s3:// address; found nothing."
    assert sorted(told) == ["'x' is not of type 'integer'", archive]


def test_a_number_or_a_word_has_the_faults_of_the_number() -> None:
    def told(confidence: object) -> list[str]:
        asked = {"model_name": "x", "inputs": ["a"], "inference": {"confidence": confidence}}
        return [each.message for each in validation.validate(asked, SCHEMAS["run_inference"])]

    assert (told("auto"), told(0.4)) == ([], [])
    assert told(3) == ["3 is greater than the maximum of 1"]
    assert told("car") == ["'car' is not of type 'number'"]


def test_a_value_that_is_of_no_kind_has_the_words_of_its_parameter() -> None:
    given = {"model_name": "x", "archives": ["a.zip"], "training": {"overrides": {"freeze": [0, -1]}}}
    (told,) = validation.validate(given, SCHEMAS["train_model"])
    expected = "Expected freeze the first N layers, or the layers of a list by their numbers; found [0, -1]."
    assert told.message.startswith(expected)


def test_a_value_that_may_be_left_out_has_the_faults_of_its_own() -> None:
    told = validation.validate({"model_name": "x", "serving": {"canary": {"share": 2}}}, SCHEMAS["deploy_model"])
    assert [(list(each.path), each.message) for each in told] == [
        (["serving", "canary", "share"], "2 is greater than or equal to the maximum of 1")
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"trainng": {"epochs": 3}}, "found 'trainng'. Did you mean training?"),
        ({"epochs": 3}, "found 'epochs'. Did you mean training.epochs?"),
        ({"epochs": "many"}, "found 'epochs'. Did you mean training.epochs?"),
        ({"training": {"lr0": 0.1}}, "found 'lr0'. Did you mean overrides.lr0?"),
        ({"training": {"overrides": {"lr": 0.1}}}, "found 'lr'. Did you mean lrf or lr0?"),
        ({"training": {"overrides": {"LR0": 0.1}}}, "found 'LR0'. Did you mean lr0"),
        ({"training": {"overrides": {"augmentations": True}}}, "found 'augmentations'. docs/flows.md has them all."),
        (
            {"training": {"overrides": {"lr0": 0.1}}},
            "Expected an optimizer other than auto, which chooses lr0 itself; found {'lr0': 0.1}. Set optimizer",
        ),
        ({"training": {"overrides": {"project": "x"}}}, "found 'project'. Files and checkpoints of a run"),
        ({"x" * 1_000_000: 1}, "docs/flows.md has them all."),
    ],
)
def test_an_unknown_parameter_is_refused_with_what_was_meant(given: Schema, told: str) -> None:
    """Also a group that the flow does not have, which Prefect takes."""
    asked = {"model_name": "x", "archives": ["a.zip"]} | given
    (found,) = validation.validate(asked, SCHEMAS["train_model"])
    assert told in found.message
    with pytest.raises(validation.ValidationError, match=re.escape(told)):
        validation.validate(asked, SCHEMAS["train_model"], raise_on_error=True)


@pytest.mark.parametrize(
    ("flow", "given", "told"),
    [
        ("label_images", {"labelling": {"precison": 0.9}}, "found 'precison'. Did you mean precision?"),
        ("label_images", {"labelling": {"minimum": 0.9}}, "found 'minimum'. docs/flows.md has them all."),
        ("run_inference", {"inference": {"in_fligth": 0}}, "found 'in_fligth'. Did you mean in_flight?"),
    ],
)
def test_a_typo_is_a_parameter_of_its_group_and_no_name_of_a_class(flow: str, given: Schema, told: str) -> None:
    """Mappings such as `take_from`, from a class to its confidence, take any name."""
    (found,) = validation.validate(given, SCHEMAS[flow], ignore_required=True)
    assert told in found.message


def test_a_field_without_a_description_is_refused_as_before() -> None:
    (told,) = validation.validate({"a": "x"}, {"properties": {"a": {"type": "string", "pattern": "^y"}}})
    assert told.message == "'x' does not match '^y'"


def test_prefect_answers_with_sentences_to_a_run_and_to_its_form(stack: StackSettings) -> None:
    bad = {"model_name": "my model", "archives": ["a.zip\n"], "training": {"device": "cuda"}}
    device = "Expected cpu, the number of a GPU (0), or several with commas (0,1); found 'cuda'. None takes the first"
    name = "Expected a name of letters, digits, _ and -, at most 63 characters, the first a letter or a digit "
    with prefect_api(stack) as api:
        deployment = api.get("/deployments/name/train-model/gpu").raise_for_status().json()
        run = {"parameters": bad | {"archives": ["a.zip"], "training": {}}}
        answer = api.post(f"/deployments/{deployment['id']}/create_flow_run", json=run)
        form = api.post("/ui/schemas/validate", json={"schema": deployment["parameter_openapi_schema"], "values": bad})
    assert answer.status_code == 409
    unknown = {"parameters": {"model_name": "x", "archives": ["a.zip"], "trainng": {"epochs": 3}}}
    with prefect_api(stack) as api:
        refused = api.post(f"/deployments/{deployment['id']}/create_flow_run", json=unknown)
    assert (refused.status_code, "Did you mean training?" in refused.json()["detail"]) == (409, True)
    field = "Validation failed for field 'model_name'. Failure reason: "
    assert f"{field}{name}(blood-cells); found 'my model'. " in answer.json()["detail"]
    told = messages(form.raise_for_status().json())
    assert len(told) == 3
    assert [each for each in told if each.startswith((name, device, "Expected text without control"))] == told
