"""Texts that no parameter may hold: the API refuses before a run exists what the run would refuse, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.deploy_model import deploy_model
from flows.run_inference import run_inference
from flows.train_model import train_model

TRAINING = {"model_name": "shapes", "archives": ["a.zip"]}
INFERENCE = {"model_name": "shapes", "inputs": ["a.jpg"]}
RUN = "b2c1f3de-0000-4000-8000-000000000000"
Place = tuple[Flow[..., Any], Callable[[str], dict[str, Any]]]
PLACES: dict[str, Place] = {
    "model_name": (train_model, lambda text: TRAINING | {"model_name": text}),
    "archives": (train_model, lambda text: TRAINING | {"archives": [text]}),
    "base_model": (train_model, lambda text: TRAINING | {"base_model": text}),
    "device": (train_model, lambda text: TRAINING | {"training": {"device": text}}),
    "gold": (train_model, lambda text: TRAINING | {"promotion": {"gold": text}}),
    "merged class": (train_model, lambda text: TRAINING | {"merge": {"classes": {"cat": text}}}),
    "class found": (train_model, lambda text: TRAINING | {"merge": {"classes": {text: "cat"}}}),
    "groups": (train_model, lambda text: TRAINING | {"merge": {"groups": [text]}}),
    "inputs": (run_inference, lambda text: INFERENCE | {"inputs": [text]}),
    "class_confidence": (run_inference, lambda text: INFERENCE | {"inference": {"class_confidence": {text: 0.5}}}),
    "shard": (run_inference, lambda text: INFERENCE | {"inference": {"shard": {"run": text, "number": 1, "of": 1}}}),
    "engine_cache": (deploy_model, lambda text: {"model_name": "shapes", "serving": {"engine_cache": text}}),
}
SCHEMAS = {name: parameter_schema(flow.fn).model_dump_for_openapi() for name, (flow, _) in PLACES.items()}
SOUND = [
    "shapes",
    "a.zip",
    "s3://media/a b/*.jpg",
    "cpu",
    "0,1",
    "clip{group}-*.jpg",
    "/cache/x",
    RUN,
    "été",
    "器",
    "predict",
]
SIGNS = st.sampled_from("\n\r\t\0\x0b\x1b\x1c\x1f\x7f\x85\x9f\u2028\u2029\ufeff\ud800\udfff\u0663 \\/{}*-_.,0aZ")
TEXTS = st.one_of(
    st.text(SIGNS, max_size=8),
    st.builds("".join, st.tuples(st.text(SIGNS, max_size=2), st.sampled_from(SOUND), st.text(SIGNS, max_size=2))),
)


def api_takes(place: str, text: str) -> bool:
    """What Prefect's server does with a new run's parameters."""
    return not validate(PLACES[place][1](text), SCHEMAS[place])


def run_takes(place: str, text: str) -> bool:
    flow, parameters = PLACES[place]
    try:
        flow.validate_parameters(parameters(text))
    except ParameterTypeError:
        return False
    return True


@pytest.mark.parametrize("place", PLACES)
@example("predict")
@example("shapes\n")
@example("\0")
@example(f"{RUN}\n")
@example("0\n")
@example("/cache\n")
@example("{group}\n")
@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
def test_the_api_and_the_run_take_the_same_texts(place: str, text: str) -> None:
    taken = api_takes(place, text)
    assert taken == run_takes(place, text)
    control = any(ord(sign) < 32 or 127 <= ord(sign) < 160 or 0xD800 <= ord(sign) < 0xE000 for sign in text)
    assert not (taken and control)


TAKEN = ["shapes", "a.zip", "b.pt", "0,1", "g.zip", "été", "器:x", "c{group}-*.jpg", "a b/*.jpg", "été", RUN, "/cache"]


@pytest.mark.parametrize(("place", "text"), list(zip(PLACES, TAKEN, strict=True)))
def test_sound_texts_are_taken(place: str, text: str) -> None:
    assert api_takes(place, text)
    assert run_takes(place, text)
