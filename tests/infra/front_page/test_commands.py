"""The command that a dialog shows starts the run that the dialog starts."""

import json
import re
import shlex
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra.front_page.commands import COMMANDS, curl_line, studio_line
from studio.cli import app
from studio.client import Studio
from studio.commands import flows
from studio.commands.options import merge_settings
from tests.paths import ROOT

RUN = "0b8e5a34-6a3f-4f52-9e5a-1d7f0a4f1c11"
HOSTILE = "a b'\"$(touch x);*.zip"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("validate-dataset", {"archive": HOSTILE, "policy": {"max_class_ratio": 5}}),
    (
        "import-dataset",
        {"source": HOSTILE, "archive": "-a.zip", "importing": {"format": "coco", "groups": ["a{group}"]}},
    ),
    ("train-model", {"model_name": "m", "archives": ["a.zip", HOSTILE], "training": {"epochs": 3, "rehearse": False}}),
    ("train-model", {"model_name": "m", "archives": ["-a.zip"], "merge": {"classes": {"Big car": "car"}}}),
    ("train-model", {"model_name": "m", "archives": ["a.zip"], "base_model": "models:/m@champion"}),
    ("register-model", {"model_name": "m", "weights": "old.pt", "archive": "a.zip", "policy": {"max_class_ratio": 5}}),
    (
        "evaluate-model",
        {"model_name": "m", "archive": HOSTILE, "split": "all", "versions": [2, 1], "evaluation": {"worst": 9}},
    ),
    ("find-label-errors", {"model_name": "m", "archive": HOSTILE, "version": 2, "label_errors": {"folds": 5}}),
    ("select-images", {"model_name": "m", "inputs": ["street/", HOSTILE], "selection": {"images": 9, "version": 2}}),
    ("deploy-model", {"model_name": "m", "version": 3, "serving": {"approval": True, "parity": None}}),
    ("rollback-model", {"model_name": "m", "version": 1}),
    ("undeploy-model", {"model_name": "m"}),
    ("run-inference", {"model_name": "m", "inputs": ["street/"], "inference": {"confidence": 0.4}}),
    (
        "label-images",
        {"model_name": "m", "inputs": ["a/", HOSTILE], "archive": "-a.zip", "labelling": {"version": 3}},
    ),
    (
        "review-images",
        {"model_name": "m", "inputs": [f"run:{RUN}", HOSTILE], "archive": "-a.zip", "review": {"max_images": 9}},
    ),
    ("monitor-model", {"model_name": "m", "monitoring": {"days": 2.5}}),
    ("run-pipeline", {"model_name": "m", "archives": ["champion+"], "inputs": ["street/"], "training": {"epochs": 2}}),
    ("close-loop", {"model_name": "m", "inputs": ["street/", HOSTILE], "labelling": {"precision": 0.9}}),
    ("delete-dataset", {"archive": HOSTILE, "force": True}),
    ("delete-version", {"model_name": "m", "version": 2}),
    ("delete-predictions", {"run": RUN}),
    ("clean-up", {"cleaning": {"dry_run": False}}),
]


@pytest.mark.parametrize(("flow", "parameters"), CASES)
def test_the_line_of_studio_starts_the_same_run(
    monkeypatch: pytest.MonkeyPatch, flow: str, parameters: dict[str, Any]
) -> None:
    """No server is asked: what would be sent to it is compared."""
    started: list[tuple[str, dict[str, Any]]] = []

    class NotSentError(Exception):
        pass

    def record(_: Studio, name: str, **given: object) -> None:
        started.append((name, {key: value for key, value in given.items() if value not in (None, {}, [], False)}))
        raise NotSentError

    monkeypatch.setattr(Studio, "__init__", lambda _: None)
    monkeypatch.setattr(Studio, "start", record)
    monkeypatch.setattr(flows, "_require_stored", lambda _: None)
    words = shlex.split(studio_line(flow, parameters))
    assert words.pop(0) == "studio"
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, NotSentError), result.output
    ((name, given),) = started
    implied = {"base_model": "yolo11n.pt"} if flow in {"train-model", "run-pipeline"} else {}
    assert (name, given) == (flow, implied | parameters)


def test_each_flow_that_a_person_starts_has_a_command() -> None:
    by_themselves = {"watch_datasets", "repair_servers"}
    flows = {path.stem for path in (ROOT / "flows").glob("*.py")} - by_themselves - {"__init__"}
    assert {flow.replace("-", "_") for flow in COMMANDS} == flows == {flow.replace("-", "_") for flow, _ in CASES}


def test_each_flow_that_a_person_starts_has_a_button() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "infra/front_page/templates").iterdir())
    assert [flow for flow in COMMANDS if not re.search(f'("|/start/){flow}"', pages)] == []


def test_the_line_of_curl_holds_the_parameters_as_they_are() -> None:
    words = shlex.split(curl_line(UUID(RUN), {"archive": HOSTILE}))
    assert words[:3] == ["curl", "--user", "$PREFECT_API_AUTH_STRING"]
    assert json.loads(words[words.index("--data") + 1]) == {"parameters": {"archive": HOSTILE}}
    assert words[-1] == f"$PREFECT_API_URL/deployments/{RUN}/create_flow_run"


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.from_regex(r"o_[a-z]{1,9}", fullmatch=True), _VALUES, max_size=3), st.lists(_TEXT))
@example({"o_rate": 1e-05, "o_text": "1e-05", "o_name": "\N{GRINNING FACE}\x7f\x85\r\n'\"\u2028\ufffe"}, ["a\n'\".zip"])
def test_what_the_line_says_is_read_back_as_it_was(options: dict[str, Any], archives: list[str]) -> None:
    words = shlex.split(studio_line("train-model", {"archives": archives, **options}))
    after = len(words) - len(archives)
    settings = [setting for word, setting in pairwise(words[:after]) if word == "--set"]
    assert repr(merge_settings({}, settings)) == repr(options)
    assert words[after:] == archives


@pytest.mark.parametrize("text", ['"\\ud800.zip"', "[" * 5000, "{", "NaN", "1e999"])
def test_a_setting_that_no_server_takes_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected a YAML or JSON value after x="):
        merge_settings({}, [f"x={text}"])
