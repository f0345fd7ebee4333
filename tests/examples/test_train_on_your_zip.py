"""The example that trains, against a stand-in for Prefect's API; and on the stack."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from examples.train_on_your_zip import run_flow
from infra import demo_data
from tests.paths import ROOT


class Prefect:
    """Its three calls that a client needs to run a flow; the run is in `states` one after the other."""

    def __init__(self, *states: dict[str, str], refusal: int = 0) -> None:
        self.states = list(states)
        self.refusal = refusal
        self.parameters: object = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/api/deployments/name/train-model/gpu":
                return httpx.Response(200, json={"id": "d"})
            case "/api/deployments/d/create_flow_run":
                self.parameters = json.loads(request.content)["parameters"]
                return httpx.Response(self.refusal or 201, json={"id": "r", "detail": "epochs: 0 is less than 1"})
            case "/api/flow_runs/r":
                return httpx.Response(200, json={"state": self.states.pop(0)})
        return httpx.Response(404)


def client(prefect: Prefect) -> httpx.Client:
    return httpx.Client(base_url="http://prefect/api", transport=httpx.MockTransport(prefect))


def state(kind: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "name": kind.title(), "message": message}


def test_a_run_is_followed_to_its_end_and_its_message_returned() -> None:
    prefect = Prefect(state("SCHEDULED"), state("RUNNING"), state("COMPLETED", "version 3"))
    message = run_flow(client(prefect), "train-model", {"model_name": "cells"}, poll_s=0)
    assert message == "train-model: Completed: version 3"
    assert prefect.parameters == {"model_name": "cells"}
    assert prefect.states == []


@pytest.mark.parametrize("kind", ["FAILED", "CRASHED", "CANCELLED"])
def test_a_run_that_does_not_complete_ends_the_script_with_its_reason(kind: str) -> None:
    with pytest.raises(SystemExit, match="no images"):
        run_flow(client(Prefect(state(kind, "no images"))), "train-model", {}, poll_s=0)


@pytest.mark.parametrize("status", [409, 422])
def test_refused_parameters_end_the_script_with_the_reason(status: int) -> None:
    with pytest.raises(SystemExit, match="less than 1"):
        run_flow(client(Prefect(refusal=status)), "train-model", {}, poll_s=0)


@pytest.mark.heavy
@pytest.mark.usefixtures("stack")
def test_a_zip_is_checked_and_trained_and_a_model_that_finds_nothing_is_not_deployed(tmp_path: Path) -> None:
    (archive, _), _ = demo_data.generate(tmp_path)
    command = [sys.executable, "examples/train_on_your_zip.py", str(archive), "--model", "example-shapes"]
    command += ["--base-model", "yolo11n.yaml", "--epochs", "1", "--imgsz", "64"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1
    assert "validate-dataset: Valid: shapes-a.zip" in done.stdout
    assert "train-model: Completed: example-shapes version 1" in done.stdout
    assert "deploy-model: Failed: Model 'example-shapes' has no challenger" in done.stderr
