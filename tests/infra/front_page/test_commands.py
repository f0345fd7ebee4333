"""The command that a dialog shows starts the run that the dialog starts."""

import json
import shlex
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from infra.front_page.commands import COMMANDS, curl_line, studio_line
from studio.cli import app
from studio.client import Studio
from tests.paths import ROOT

RUN = "0b8e5a34-6a3f-4f52-9e5a-1d7f0a4f1c11"
HOSTILE = "a b'\"$(touch x);*.zip"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("validate-dataset", {"archive": HOSTILE, "policy": {"max_class_ratio": 5}}),
    ("train-model", {"model_name": "m", "archives": ["a.zip", HOSTILE], "training": {"epochs": 3, "rehearse": False}}),
    ("train-model", {"model_name": "m", "archives": ["-a.zip"], "merge": {"classes": {"Big car": "car"}}}),
    ("train-model", {"model_name": "m", "archives": ["a.zip"], "base_model": "models:/m@champion"}),
    ("deploy-model", {"model_name": "m", "version": 3, "serving": {"approval": True, "parity": None}}),
    ("rollback-model", {"model_name": "m", "version": 1}),
    ("undeploy-model", {"model_name": "m"}),
    ("run-inference", {"model_name": "m", "inputs": ["street/"], "inference": {"confidence": 0.4}}),
    ("run-pipeline", {"model_name": "m", "archives": ["champion+"], "inputs": ["street/"], "training": {"epochs": 2}}),
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
    words = shlex.split(studio_line(flow, parameters))
    assert words.pop(0) == "studio"
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, NotSentError), result.output
    ((name, given),) = started
    implied = {"base_model": "yolo11n.pt"} if flow in {"train-model", "run-pipeline"} else {}
    assert (name, given) == (flow, implied | parameters)


def test_each_flow_that_a_person_starts_has_a_command() -> None:
    by_themselves = {"watch_datasets"}
    flows = {path.stem for path in (ROOT / "flows").glob("*.py")} - by_themselves - {"__init__"}
    assert {flow.replace("-", "_") for flow in COMMANDS} == flows == {flow.replace("-", "_") for flow, _ in CASES}


def test_the_line_of_curl_holds_the_parameters_as_they_are() -> None:
    words = shlex.split(curl_line(UUID(RUN), {"archive": HOSTILE}))
    assert words[:3] == ["curl", "--user", "$PREFECT_API_AUTH_STRING"]
    assert json.loads(words[words.index("--data") + 1]) == {"parameters": {"archive": HOSTILE}}
    assert words[-1] == f"$PREFECT_API_URL/deployments/{RUN}/create_flow_run"
