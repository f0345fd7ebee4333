"""Deployments that wait for a person, on the stack's worker."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import FlowRun

from infra.stack_settings import StackSettings
from tasks.deployment import approval
from tasks.errors import StudioError
from tasks.orchestration import deployed_flows
from tasks.orchestration.flow_runs import flow_run_is_final
from tasks.serving import model_repository
from tasks.storage.locks import is_held
from tests.chaos.steps import ENGINE, log, processes, read, until
from tests.clients import prefect_api
from tests.emitted import emitted, events
from tests.flows.registered import register
from tests.flows.steps import QUICK, UNCOMPARED, aside, champion, deploy, served

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.timeout(600), pytest.mark.heavy]

COMPARES = "comparing what Triton answers with what the weights find"


def ask(name: str, **serving: Any) -> UUID:
    """Start a deployment that asks, and wait until it does, and until its process is gone."""
    run = deployed_flows.start("deploy-model", {"model_name": name, "serving": QUICK | {"approval": True} | serving})
    until(lambda: suspended(read(run)), "suspended")
    until(lambda: not processes(run), "its process is gone")
    return run


def suspended(run: FlowRun) -> bool:
    assert run.state is not None
    assert not run.state.is_final(), run.state
    return run.state_name == "Suspended"


def ended(run: UUID) -> tuple[str, str]:
    state = deployed_flows.wait(run, 300)
    return str(state.name), str(state.message)


def tags(name: str, version: int = 2) -> dict[str, str]:
    found: dict[str, str] = MlflowClient().get_model_version(name, str(version)).tags
    return {key: value for key, value in found.items() if key.startswith("approval")}


def test_an_approved_version_is_served(name: str, stack: StackSettings) -> None:
    run = ask(name)
    assert (champion(name), served(name), aside(name)) == ("1", [1], [])
    assert not is_held(name, flow_run_is_final)
    wanted = emitted("approval.wanted", f"version:{name}/2")["payload"]
    assert (wanted["replaces"], wanted["run"]) == (1, str(run))
    assert str(run) in wanted["page"]
    with prefect_api(stack) as api:
        form = api.get(f"/flow_runs/{run}/input/question-description").raise_for_status().json()
        assert "It would replace version 1." in form
        assert "Parity: passed" in form
        for wrong in ({}, {"decision": "approve"}, {"decision": "approve", "name": "Ann", "comment": "x" * 100_000}):
            refused = api.post(f"/flow_runs/{run}/resume", json={"run_input": wrong}).raise_for_status().json()
            assert refused["status"] == "REJECT"
        filled = {"decision": "approve", "name": "Ann", "comment": "<img src=x onerror=alert(1)>\nfine"}
        taken = api.post(f"/flow_runs/{run}/resume", json={"run_input": filled}).raise_for_status().json()
        assert taken["status"] == "ACCEPT"
    with pytest.raises(StudioError, match=r"already answered by 'Ann' at .*nothing has changed"):
        approval.answer(run, False, "Bob", "no")
    assert ended(run) == ("Completed", f"{name} version 2 is served and is the champion")
    assert (champion(name), served(name), aside(name)) == ("2", [2], [])
    found = tags(name)
    assert found.pop("approval.at")
    comment = "<img src=x onerror=alert(1)> fine"
    assert found == {"approval": "approved", "approval.by": "Ann", "approval.comment": comment}
    deployed = emitted("model.deployed", f"version:{name}/2")["payload"]
    assert (deployed["approved_by"], deployed["comment"]) == ("Ann", comment)
    assert log(run).count(COMPARES) == 1
    with pytest.raises(StudioError, match="already answered by 'Ann'"):
        approval.answer(run, True, "Bob")


def test_a_refused_version_changes_nothing_and_nothing_has_failed(name: str) -> None:
    run = ask(name, **UNCOMPARED)
    approval.answer(run, False, "Ann", "the nights are dark")
    message = f"{name} version 2 was refused by Ann: the nights are dark"
    assert ended(run) == ("Refused", message)
    assert (champion(name), served(name), aside(name)) == ("1", [1], [])
    assert tags(name)["approval"] == "refused"
    refused = emitted("model.refused", f"version:{name}/2")["payload"]
    assert (refused["refused_by"], refused["reason"]) == ("approval", message)


def test_without_an_answer_the_version_is_refused(name: str) -> None:
    """The server answers once a minute what nobody has answered in time."""
    run = ask(name, approval_timeout_h=0.001, **UNCOMPARED)
    found, message = ended(run)
    assert found == "Refused"
    assert "refused by nobody: There was no answer until" in message
    assert emitted("model.refused", f"version:{name}/2")["payload"]["reason"] == message


def test_another_deployment_does_not_wait_and_makes_the_approval_void(name: str, weights: Path, graph: Path) -> None:
    run = ask(name, **UNCOMPARED)
    third = register(name, weights, None)
    model_repository.publish_version.fn(name, third, graph)
    assert deploy(name, third, **UNCOMPARED).is_completed()
    assert read(run).state_name == "Suspended"
    approval.answer(run, True, "Ann")
    found, message = ended(run)
    assert found == "Version refused"
    assert "the champion was version 1, and is version 3 now" in message
    assert (champion(name), served(name)) == ("3", [3])
    assert "approval" not in tags(name)


def test_a_run_that_is_killed_after_the_answer_knows_it(name: str) -> None:
    run = ask(name, **UNCOMPARED)
    approval.answer(run, True, "Ann", "go")
    until(lambda: any("was approved by Ann" in line for line in log(run)), "it goes on")
    (process,) = processes(run, ENGINE)
    process.kill()
    assert ended_for_good(run) == ("Completed", f"{name} version 2 is served and is the champion")
    assert tags(name)["approval.comment"] == "go"
    assert len(events("approval.wanted", f"version:{name}/2")) == 1
    assert read(run).run_count == 2  # Prefect does not count that it was resumed


def ended_for_good(run: UUID) -> tuple[str, str]:
    """A run that has crashed is given back to a worker."""
    until(lambda: read(run).state_name in {"Completed", "Failed", "Refused"}, "the end")
    return ended(run)
