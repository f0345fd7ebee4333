"""Two archives land in the bucket, and nobody does anything else: the example pipeline ends with a served champion."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun

from infra import demo_data, run_launcher
from infra.pipelines import FILE, read_pipelines, register_pipelines
from tests.flows.steps import champion, served
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]

MODEL = "landed"  # in place of `shapes`, which other tests have
PIPELINE = f"run-pipeline/{MODEL}-when-an-archive-lands"
ARCHIVES = (f"{MODEL}-a.zip", f"{MODEL}-b.zip")
DEADLINE_S = 1500


@pytest.fixture
def client(stack: object) -> Iterator[SyncPrefectClient]:  # noqa: ARG001
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def switched_on(client: SyncPrefectClient, tmp_path: Path) -> Iterator[UUID]:
    """The id of the example pipeline, whose trigger somebody has turned on once."""
    examples = tmp_path / "pipelines.yaml"
    examples.write_text(FILE.read_text().replace("shapes", MODEL))
    register_pipelines(read_pipelines(examples))
    (trigger,) = client.read_automations_by_name(f"{PIPELINE} trigger 1")
    client.resume_automation(trigger.id)
    yield client.read_deployment_by_name(PIPELINE).id
    register_pipelines(read_pipelines())


def runs(client: SyncPrefectClient, pipeline: UUID) -> list[FlowRun]:
    """The runs of the pipeline, the oldest first."""
    found = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[pipeline])))
    return sorted(found, key=lambda run: run.created or run.expected_start_time)  # type: ignore[return-value, arg-type]


def events(client: SyncPrefectClient, kind: str) -> list[dict[str, Any]]:
    """The payloads of all events of a kind."""
    asked = {"filter": {"event": {"name": [kind]}, "order": "ASC"}, "limit": 50}
    return [event["payload"] for event in client.request("POST", "/events/filter", json=asked).json()["events"]]


def test_archives_that_land_become_a_served_champion(
    client: SyncPrefectClient, switched_on: UUID, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archives, _ = demo_data.generate(tmp_path_factory.mktemp("drawn"))
    store = boto3.client("s3")
    for path, name in zip(archives, ARCHIVES, strict=True):
        store.upload_file(str(path), "datasets", name)
    run_launcher.start("watch-datasets/gpu", {})  # the schedule does so within five minutes

    def ended() -> list[FlowRun]:
        found = runs(client, switched_on)
        return found if len(found) == len(ARCHIVES) and all(run.state and run.state.is_final() for run in found) else []

    pipelines = eventually(ended, "a pipeline of each archive has ended", DEADLINE_S, every_s=2)
    assert {run.state_name for run in pipelines} <= {"Completed", "Not better"}, pipelines
    assert pipelines[0].state_name == "Completed"
    number = champion(MODEL)
    assert [str(version) for version in served(MODEL)] == [number]

    plan = store.get_object(Bucket="runs", Key=f"{pipelines[-1].id}/pipeline.json")["Body"].read()
    assert [archive["name"] for archive in json.loads(plan)["archives"]] == [*ARCHIVES]
    validated = [event for event in events(client, "dataset.validated") if event["archive"] in ARCHIVES]
    assert sorted(event["archive"] for event in validated) == [*ARCHIVES], "each archive was checked once"
    deployed = [event["version"] for event in events(client, "model.deployed") if event["model"] == MODEL]
    assert str(deployed[-1]) == number
    assert len(deployed) == sum(run.state_name == "Completed" for run in pipelines)
    assert len(runs(client, switched_on)) == len(ARCHIVES), "no pipeline has started another"
