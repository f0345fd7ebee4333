"""What Prefect's run form shows: every parameter in words, its limits and default, in the order of the model."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import Field

from tasks.parameters import Parameters, TrainingParams

FLOWS = [path.stem for path in Path("flows").resolve().glob("[a-z]*.py")]


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a flow's parameters as the server keeps it: JSONB has an order of its own."""
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    kept: dict[str, Any] = json.loads(json.dumps(parameter_schema(flow).model_dump_for_openapi(), sort_keys=True))
    return kept


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_is_described(name: str) -> None:
    schema = schema_of(name)
    models = schema.get("definitions", {})
    for parameter, field in schema["properties"].items():
        model = models.get(field.get("$ref", "").rpartition("/")[2], {})
        assert field.get("description") or model.get("description"), parameter
    for model in models.values():
        if "properties" in model:
            assert all(field["description"] for field in model["properties"].values()), model["title"]


@pytest.mark.parametrize("name", FLOWS)
def test_nested_fields_come_in_the_order_of_their_model(name: str) -> None:
    import tasks.parameters as known

    for title, model in schema_of(name).get("definitions", {}).items():
        if "properties" in model:
            fields = sorted(model["properties"].items(), key=lambda field: field[1]["position"])
            assert [field for field, _ in fields] == list(getattr(known, title).model_fields)
            assert [shown["title"] for _, shown in fields] == [field for field, _ in fields]


class Example(Parameters):
    """An example."""

    plain: str = Field(description="Text.")
    whole: int = Field(3, ge=1, le=10, multiple_of=2, description="Number.")
    share: float | None = Field(None, gt=0, lt=1, description="Share.")
    least: float = Field(0.25, ge=0, description="Least.")
    on: bool = Field(True, description="Switch.")
    word: str = Field("fast", description="Word.")
    names: tuple[str, ...] = Field((), description="Names.")


def test_limits_and_defaults_stand_in_the_description() -> None:
    fields = Example.model_json_schema()["properties"]
    assert {name: field["description"] for name, field in fields.items()} == {
        "plain": "Text.",
        "whole": "Number. 1 to 10, in steps of 2. Default 3.",
        "share": "Share. Above 0, below 1.",
        "least": "Least. At least 0. Default 0.25.",
        "on": "Switch. On by default.",
        "word": "Word. Default fast.",
        "names": "Names.",
    }


def test_the_limits_are_those_that_are_checked() -> None:
    (epochs,) = [field for name, field in TrainingParams.model_json_schema()["properties"].items() if name == "epochs"]
    assert (epochs["minimum"], epochs["maximum"], epochs["default"]) == (1, 10_000, 100)
    assert epochs["description"].endswith("1 to 10000. Default 100.")
