"""Two archives are dropped on the front page, and nobody does anything else: the example pipeline serves a champion."""

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

from infra import demo_data
from infra.pipelines import FILE, read_pipelines, register_pipelines
from infra.stack_settings import USER, StackSettings
from tests.clients import pause_schedules
from tests.flows.steps import champion, served
from tests.infra.browser import OpenBrowser
from tests.infra.receiver import Receiver
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]

MODEL = "landed"  # in place of `shapes`, which other tests have
PIPELINE = f"run-pipeline/{MODEL}-when-an-archive-lands"
ARCHIVES = (f"{MODEL}-a.zip", f"{MODEL}-b.zip")
DEADLINE_S = 1500
TITLES = {  # of docs/automation.md, by event
    "model.promoted": "{model}: version {version} is the new challenger",
    "model.refused": "{model}: version {version} was refused",
    "model.deployed": "{model}: version {version} is served",
}


@pytest.fixture
def client(stack: object) -> Iterator[SyncPrefectClient]:  # noqa: ARG001
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def pipeline(stack: StackSettings, client: SyncPrefectClient, tmp_path: Path) -> Iterator[UUID]:
    """The id of the example pipeline, as the file of the project has it."""
    examples = tmp_path / "pipelines.yaml"
    examples.write_text(FILE.read_text().replace("shapes", MODEL))
    register_pipelines(read_pipelines(examples))
    pause_schedules(stack)
    yield client.read_deployment_by_name(PIPELINE).id
    register_pipelines(read_pipelines())
    pause_schedules(stack)


def runs(client: SyncPrefectClient, pipeline: UUID) -> list[FlowRun]:
    """The runs of the pipeline, the oldest first."""
    found = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[pipeline])))
    return sorted(found, key=lambda run: run.created or run.expected_start_time)  # type: ignore[return-value, arg-type]


def events(client: SyncPrefectClient, kind: str) -> list[dict[str, Any]]:
    """The payloads of all events of a kind."""
    asked = {"filter": {"event": {"name": [kind]}, "order": "ASC"}, "limit": 50}
    return [event["payload"] for event in client.request("POST", "/events/filter", json=asked).json()["events"]]


def drop_in_the_browser(stack: StackSettings, open_browser: OpenBrowser, folder: Path) -> None:
    archives, _ = demo_data.generate(folder)
    renamed = [path.rename(folder / name) for path, name in zip(archives, ARCHIVES, strict=True)]
    with open_browser(folder / "profile") as page:
        page.sign_in(f"http://127.0.0.1:{stack.live_port}/datasets", USER, stack.secrets["front_page"])
        page.wait("document.querySelector('#drop-zone') !== null")
        page.drop("#drop-zone", *renamed)
        page.wait("document.querySelectorAll('.upload [data-show=check]:not([hidden])').length === 2", 60)


def test_archives_that_are_dropped_become_a_served_champion(
    stack: StackSettings,
    client: SyncPrefectClient,
    pipeline: UUID,
    receiver: Receiver,
    open_browser: OpenBrowser,
    tmp_path: Path,
) -> None:
    drop_in_the_browser(stack, open_browser, tmp_path)

    def ended() -> list[FlowRun]:
        found = runs(client, pipeline)
        return found if len(found) == len(ARCHIVES) and all(run.state and run.state.is_final() for run in found) else []

    pipelines = eventually(ended, "a pipeline of each archive has ended", DEADLINE_S, every_s=2)
    assert {run.state_name for run in pipelines} <= {"Completed", "Not better"}, pipelines
    assert any(run.state_name == "Completed" for run in pipelines), "whichever ends first may be the better one"
    number = champion(MODEL)
    assert [str(version) for version in served(MODEL)] == [number]

    plan = boto3.client("s3").get_object(Bucket="runs", Key=f"{pipelines[-1].id}/pipeline.json")["Body"].read()
    assert [archive["name"] for archive in json.loads(plan)["archives"]] == [*ARCHIVES]
    validated = [event for event in events(client, "dataset.validated") if event["archive"] in ARCHIVES]
    assert sorted(event["archive"] for event in validated) == [*ARCHIVES], "each archive was checked once"
    assert len(runs(client, pipeline)) == len(ARCHIVES), "no pipeline has started another"

    happened = {kind: [event for event in events(client, kind) if event["model"] == MODEL] for kind in TITLES}
    assert str(happened["model.deployed"][-1]["version"]) == number
    expected = sorted(TITLES[kind].format(**event) for kind, told in happened.items() for event in told)
    told_at_least = (TITLES[kind].format(model=MODEL, version=number) for kind in ("model.promoted", "model.deployed"))
    assert {*told_at_least} <= {*expected}
    eventually(lambda: sorted(receiver.titles()) == expected, f"the messages {expected} and no others", 30)
