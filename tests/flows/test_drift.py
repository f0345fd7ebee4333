"""A model that sees the dark: an inference starts its monitoring, which tells people once and starts the loop."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from infra.pipelines import FILE, read_pipelines, register_pipelines
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.clients import pause_schedules, prefect_api
from tests.emitted import emitted, events
from tests.flows import loops
from tests.flows.pipelines import children, title
from tests.flows.test_monitor_model import IMAGES, PARAMS, put
from tests.infra.receiver import Receiver
from tests.paths import ROOT
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
DEADLINE_S = 240

Register = Callable[..., dict[str, UUID]]


@pytest.fixture
def register(stack: StackSettings, client: SyncPrefectClient, tmp_path: Path) -> Iterator[Register]:
    """Registers the examples of the project for another model than shapes; gives their deployments by flow."""

    def apply(model: str, **of_schedules: Any) -> dict[str, UUID]:
        daily = next(
            each for each in yaml.safe_load(FILE.read_text())["deployments"] if each["flow"] == "monitor-model"
        )
        written = (ROOT / "docs" / "automation.md").read_text()
        (again,) = re.findall(r"```yaml\n(- name: shapes-learns-again.*?)```", written, re.DOTALL)
        text = yaml.safe_dump([daily, *yaml.safe_load(again)])
        chosen = yaml.safe_load(text.replace("shapes", model).replace("street/", f"{model}/"))
        chosen[0]["parameters"]["monitoring"] = PARAMS
        chosen[0]["schedules"] = [each | of_schedules for each in chosen[0]["schedules"]]
        for each in chosen:
            for trigger in each["triggers"]:
                assert trigger.pop("enabled") is False, "nobody is surprised by it"
        path = tmp_path / "pipelines.yaml"
        path.write_text(yaml.safe_dump({"deployments": chosen}))
        register_pipelines(read_pipelines(path))
        return {each["flow"]: client.read_deployment_by_name(f"{each['flow']}/{each['name']}").id for each in chosen}

    yield apply
    register_pipelines(read_pipelines())
    pause_schedules(stack)


def runs(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    return client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])))


def switch_on(stack: StackSettings, model: str) -> None:
    """What a person does in Prefect's UI, and docs/automation.md says for curl."""
    with prefect_api(stack) as api:
        triggers = [
            each
            for each in api.post("/automations/filter", json={}).raise_for_status().json()
            if f"/{model}-" in each["name"]
        ]
        assert [each["enabled"] for each in triggers] == [False, False]
        for each in triggers:
            api.patch(f"/automations/{each['id']}", json={"enabled": True}).raise_for_status()


def infer_in_the_dark(model: str) -> None:
    parameters = {
        "model_name": model,
        "inputs": [put(model, 0.4)],
        "inference": {"confidence": 0.01, "annotate": False},
    }
    state = deployed_flows.wait(deployed_flows.start("run-inference", parameters), DEADLINE_S)
    assert state.is_completed(), state.message


def ended(client: SyncPrefectClient, deployment: UUID, count: int) -> list[FlowRun]:
    """The runs of a deployment, once there are so many and all have ended."""
    found = runs(client, deployment)
    assert len(found) <= count
    return found if len(found) == count and all(each.state and each.state.is_final() for each in found) else []


def test_an_inference_in_the_dark_starts_the_monitoring_which_tells_people_and_starts_the_loop(
    stack: StackSettings,
    client: SyncPrefectClient,
    register: Register,
    receiver: Receiver,
    name: str,
    tmp_path: Path,
) -> None:
    loops.store_archive(name, tmp_path)
    deployments = register(name)
    monitoring, loop = deployments["monitor-model"], deployments["close-loop"]
    switch_on(stack, name)
    infer_in_the_dark(name)
    (first,) = eventually(lambda: ended(client, monitoring, 1), "a monitoring after the inference", DEADLINE_S)
    assert first.state_name == "Drifted", first.state
    drifted = emitted("model.drifted", f"version:{name}/1")["payload"]
    assert (drifted["images"], "brightness" in drifted["drifted"]) == (IMAGES, True)
    subject = f"{name}: version 1 drifted"
    ((_, text),) = eventually(lambda: [each for each in receiver.messages if each[0] == subject], "a message", 60)
    assert "brightness" in text
    assert drifted["report"] in text
    assert str(first.id) in text

    (started,) = eventually(lambda: runs(client, loop), "a loop begins", 60)
    assert started.parameters["model_name"] == name
    eventually(lambda: f"label with {name}" in [title(each) for each in children(started.id)], "it labels", DEADLINE_S)
    deployed_flows.cancel(started.id)
    eventually(lambda: all(each.state and each.state.is_final() for each in children(started.id)), "it stops", 60)

    infer_in_the_dark(name)
    again = eventually(lambda: ended(client, monitoring, 2), "another monitoring", DEADLINE_S)
    assert {each.state_name for each in again} == {"Drifted"}
    assert len(events("model.drifted", f"version:{name}/1")) == 1
    assert len(runs(client, loop)) == 1
    assert receiver.titles().count(subject) == 1
    eventually(lambda: ended(client, loop, 1), "the loop is cancelled", DEADLINE_S)


def test_the_daily_schedule_monitors_at_six(client: SyncPrefectClient, register: Register, unchanged: str) -> None:
    """Prefect makes the runs of the next days; the first is not waited for, but brought forward."""
    monitoring = register(unchanged, active=True)["monitor-model"]

    def planned() -> list[FlowRun]:
        return [each for each in runs(client, monitoring) if each.auto_scheduled]

    found = eventually(planned, "Prefect plans the next days", 150, every_s=1)
    first = min(found, key=lambda each: each.expected_start_time or datetime.max.replace(tzinfo=UTC))
    assert first.expected_start_time
    berlin = first.expected_start_time.astimezone(ZoneInfo("Europe/Berlin"))
    assert (berlin.hour, berlin.minute) == (6, 0)
    client.set_flow_run_state(first.id, Scheduled(scheduled_time=datetime.now(UTC)), force=True)
    state = deployed_flows.wait(first.id, DEADLINE_S)
    assert state.name == "Too few images", state
    assert "has answered too few images" in str(state.message)
