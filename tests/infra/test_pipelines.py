"""Pipelines: what is wrong with a file of them, and what `make up` makes of it on the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation

from infra import pipelines
from infra.pipelines import FILE, PipelinesError, read_pipelines, register_pipelines
from infra.stack_settings import StackSettings
from tasks.orchestration.events import (
    DATASET_VALIDATED,
    EVENTS,
    INFERENCE_COMPLETED,
    dataset,
    emit,
    model,
    prediction,
    version,
)
from tests.clients import pause_schedules
from tests.waiting import eventually

TRAIN: dict[str, Any] = {
    "name": "nightly",
    "flow": "run-pipeline",
    "parameters": {"model_name": "shapes", "archives": ["a.zip"]},
}
LANDS: dict[str, Any] = {
    "match": {"prefect.resource.id": "dataset:*", "prefect.resource.name": "shapes-*.zip"},
    "expect": ["dataset.validated"],
}


def written(folder: Path, *entries: object) -> Path:
    path = folder / "pipelines.yaml"
    path.write_text(yaml.safe_dump({"deployments": list(entries)}))
    return path


def faults(folder: Path, *entries: object) -> list[str]:
    with pytest.raises(PipelinesError) as raised:
        read_pipelines(written(folder, *entries))
    return str(raised.value).splitlines()


def test_the_file_of_the_project_is_right_and_shows_each_way_to_start() -> None:
    found = read_pipelines()
    assert {each.flow for each in found} == {"run-pipeline", "run-inference", "monitor-model"}
    assert any(each.triggers for each in found)
    schedules = [schedule for each in found for schedule in each.schedules]
    assert schedules
    assert all(schedule.active is None for schedule in schedules)
    assert FILE.read_text().count("\n") < 80


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (TRAIN | {"flow": "train"}, "pipeline 'nightly'.flow: expected one of "),
        (TRAIN | {"name": "gpu"}, "expected another name"),
        (TRAIN | {"name": "../x"}, "pipeline '../x'.name: String should match"),
        (TRAIN | {"shedule": {}}, "pipeline 'nightly'.shedule: Extra inputs"),
        ({"flow": "run-pipeline"}, "entry 1.name: Field required"),
        ("x", "entry 1: Input should be"),
        (
            TRAIN | {"parameters": TRAIN["parameters"] | {"training": {"epochs": 0}}},
            "pipeline 'nightly'.parameters.training.epochs: Input should be greater than or equal to 1, found 0",
        ),
        (TRAIN | {"parameters": TRAIN["parameters"] | {"model": "x"}}, ".parameters.model: Extra inputs"),
        (TRAIN | {"parameters": TRAIN["parameters"] | {"archives": ["{{ x }}"]}}, "expected no {{ template }}"),
        (TRAIN | {"schedules": [{"cron": "at two"}]}, "pipeline 'nightly'.schedules[0].cron: "),
        (TRAIN | {"schedules": [{"cron": "0 0 31 2 *"}]}, "schedules[0].cron: expected a time that comes"),
        (TRAIN | {"schedules": [{"cron": "0 2 * * * 30"}]}, "schedules[0].cron: expected minute, hour, day"),
        (TRAIN | {"schedules": [{"cron": "0 2 * * * 0 2030"}]}, "found 7 fields"),
        (
            TRAIN | {"triggers": [LANDS | {"parameters": {"archives": ["{{ event.payload.archive"]}}]},
            "triggers[0].parameters: expected a template that Prefect can fill in",
        ),
        (TRAIN | {"schedules": [{"cron": "0 2 * * *", "timezone": "Moon/Sea"}]}, ".schedules[0].timezone: "),
        (TRAIN | {"schedules": [{"cron": "0 2 * * *", "interval": 5}]}, ".interval: Extra inputs"),
        (
            TRAIN | {"parameters": {"model_name": "x"}, "schedules": [{"cron": "0 2 * * *"}]},
            "schedules[0].parameters.archives: Field required",
        ),
        (TRAIN | {"triggers": [{"match": {}}]}, "triggers[0].expect: expected the name of an event"),
        (TRAIN | {"triggers": [LANDS | {"expect": ["dataset.valid"]}]}, "found 'dataset.valid'"),
        (TRAIN | {"triggers": [LANDS | {"mach": {}}]}, ".mach: Extra inputs"),
        (
            TRAIN | {"triggers": [LANDS | {"parameters": {"archive": "{{ event.payload.archive }}"}}]},
            "triggers[0].parameters.archive: Extra inputs",
        ),
    ],
)
def test_a_fault_is_said_with_its_place(tmp_path: Path, entry: object, expected: str) -> None:
    found = faults(tmp_path, entry)
    assert len(found) == 1, found
    assert expected in found[0]


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    wrong = TRAIN | {"name": "other", "parameters": {"base_model": ""}, "shedule": []}
    found = faults(tmp_path, TRAIN, TRAIN, wrong, TRAIN | {"name": "a", "schedules": [{"cron": "at two"}]})
    assert len(found) == 5, found


def test_a_person_is_asked_for_what_a_pipeline_leaves_open_and_an_event_fills_in_templates(tmp_path: Path) -> None:
    asks = TRAIN | {"name": "asks", "parameters": {"model_name": "x"}}
    filled = asks | {
        "name": "filled",
        "triggers": [LANDS | {"parameters": {"archives": ["{{ event.payload.archive }}"]}}],
    }
    assert [each.name for each in read_pipelines(written(tmp_path, asks, filled))] == ["asks", "filled"]
    model = {"model_name": "{{ event.payload.model }}"}
    of_any = {"name": "of-any", "flow": "monitor-model", "triggers": [LANDS | {"parameters": model}]}
    assert read_pipelines(written(tmp_path, of_any))
    too_long = of_any | {"triggers": [LANDS | {"parameters": {"model_name": "x" * 64 + "{{ event.payload.model }}"}}]}
    (fault,) = faults(tmp_path, too_long)
    assert fault.startswith("pipelines.yaml: pipeline 'of-any'.triggers[0].parameters.model_name: ")


@pytest.mark.parametrize(
    "text", ["deployments: [", "- x", "deployments: 7", "pipelines: []", "\x00", "deployments: &a [*a]"]
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text(text)
    with pytest.raises(PipelinesError, match=r"^pipelines\.yaml: "):
        read_pipelines(path)


def test_an_empty_file_is_one_without_pipelines(tmp_path: Path) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text("# all gone\n")
    assert read_pipelines(path) == []


@pytest.mark.parametrize(("text", "code"), [("deployments: []\n", 0), ("deployments: 7\n", 1)])
def test_the_check_says_what_is_wrong_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    path = tmp_path / "pipelines.yaml"
    path.write_text(text)
    monkeypatch.setattr(pipelines.read_pipelines, "__defaults__", (path,))
    monkeypatch.setattr("sys.argv", ["pipelines", "--check"])
    assert pipelines.main() == code
    assert bool(capsys.readouterr().err) == bool(code)


# ---- on the server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def client(stack: StackSettings, client: SyncPrefectClient) -> Iterator[SyncPrefectClient]:
    register_pipelines(read_pipelines())
    yield client
    register_pipelines(read_pipelines())
    pause_schedules(stack)


def deployed(client: SyncPrefectClient, name: str = "run-pipeline/nightly") -> DeploymentResponse:
    return client.read_deployment_by_name(name)


def triggers(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[Automation]:
    return client.read_resource_related_automations(f"prefect.deployment.{deployment.id}")


def test_make_up_registers_the_file_of_the_project(client: SyncPrefectClient) -> None:
    for each in read_pipelines():
        found = deployed(client, each.title)
        assert found.parameters == each.parameters
        assert [schedule.active for schedule in found.schedules] == [False] * len(each.schedules)
        assert [trigger.enabled for trigger in triggers(client, found)] == [
            bool(trigger.enabled) for trigger in each.triggers
        ]
        base = deployed(client, f"{each.flow}/gpu")
        assert (found.work_queue_name, found.entrypoint) == (base.work_queue_name, base.entrypoint)


def test_what_a_person_has_switched_stays_so(client: SyncPrefectClient, tmp_path: Path) -> None:
    """Also if the file changes: only what it says itself is set."""
    entry = TRAIN | {"schedules": [{"cron": "0 2 * * *"}], "triggers": [LANDS]}
    register_pipelines(read_pipelines(written(tmp_path, entry)))
    first = deployed(client)
    (trigger,) = triggers(client, first)
    client.update_deployment_schedule(first.id, first.schedules[0].id, active=True)
    client.resume_automation(trigger.id)

    changed = TRAIN | {"schedules": [{"cron": "0 3 * * *"}], "triggers": [LANDS | {"match": {"verdict": "valid"}}]}
    for _ in range(2):
        register_pipelines(read_pipelines(written(tmp_path, changed)))
        found = deployed(client)
        assert found.id == first.id
        assert [(each.schedule.cron, each.active) for each in found.schedules] == [("0 3 * * *", True)]  # type: ignore[union-attr]
        assert [(each.id, each.enabled) for each in triggers(client, found)] == [(trigger.id, True)]

    said = TRAIN | {"schedules": [{"cron": "0 3 * * *", "active": False}], "triggers": [LANDS | {"enabled": False}]}
    register_pipelines(read_pipelines(written(tmp_path, said)))
    assert [each.active for each in deployed(client).schedules] == [False]
    assert [each.enabled for each in triggers(client, deployed(client))] == [False]


def test_what_the_file_lists_no_longer_is_taken_away(client: SyncPrefectClient, tmp_path: Path) -> None:
    other = TRAIN | {"name": "other"}
    entry = TRAIN | {"schedules": [{"cron": "0 2 * * *"}], "triggers": [LANDS]}
    register_pipelines(read_pipelines(written(tmp_path, entry, other)))
    former = deployed(client)
    register_pipelines(read_pipelines(written(tmp_path, TRAIN)))
    assert deployed(client).schedules == []
    assert triggers(client, former) == []
    register_pipelines(read_pipelines(written(tmp_path, entry)))
    register_pipelines([])
    names = [each.name for each in client.read_deployments(limit=200)]
    assert not {"nightly", "other"} & {*names}
    assert triggers(client, former) == []
    assert "gpu" in names


def test_an_archive_that_lands_starts_its_pipeline_under_its_very_name(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    """One that does not match, or is not valid, starts none; and what a name says is not filled in."""
    model, archive = f"lands-{uuid4().hex[:8]}", "shapes-{{ 7 * 7 }} \"<b>'.zip"
    trigger = LANDS | {"enabled": True, "parameters": {"archives": ["champion+", "{{ event.payload.archive }}"]}}
    trigger["match"] = trigger["match"] | {"verdict": ["valid", "valid-with-warnings"]}
    entry = TRAIN | {"parameters": {"model_name": model}, "triggers": [trigger]}
    register_pipelines(read_pipelines(written(tmp_path, entry)))
    for name, verdict in (("other.zip", "valid"), ("shapes-bad.zip", "invalid"), (archive, "valid-with-warnings")):
        digest = uuid4().hex
        facts = {"archive": name, "digest": digest, "verdict": verdict, "counts": {}, "report": ""}
        emit(DATASET_VALIDATED, dataset(digest, name, verdict=verdict), payload=facts, key=digest)
    of_pipeline = DeploymentFilter(id=DeploymentFilterId(any_=[deployed(client).id]))

    def runs() -> list[FlowRun]:
        return [run for run in client.read_flow_runs(deployment_filter=of_pipeline) if not run.auto_scheduled]

    eventually(runs, "a run of the pipeline", 60)
    (run,) = runs()
    assert run.parameters == {"model_name": model, "archives": ["champion+", archive]}


def test_each_model_is_monitored_once_a_day_after_a_run_of_inference(client: SyncPrefectClient) -> None:
    """With the example of the project, which nobody has to adapt."""
    models = [f"seen-{uuid4().hex[:8]}" for _ in range(2)]
    for name in (*models, models[0], *models):
        run = str(uuid4())
        facts = dict.fromkeys(EVENTS[INFERENCE_COMPLETED].payload, 0) | {"model": name, "run": run}
        emit(INFERENCE_COMPLETED, prediction(run), payload=facts, key=run, related=[model(name), version(name, 1)])
    of_pipeline = DeploymentFilter(id=DeploymentFilterId(any_=[deployed(client, "monitor-model/each-model-daily").id]))

    def monitored() -> list[str]:
        names = [run.parameters["model_name"] for run in client.read_flow_runs(deployment_filter=of_pipeline)]
        return [name for name in names if name in models]

    eventually(lambda: {*monitored()} == {*models}, "a run for each model", 60)
    last = f"seen-{uuid4().hex[:8]}"
    emit(
        INFERENCE_COMPLETED,
        prediction(last),
        payload=dict.fromkeys(EVENTS[INFERENCE_COMPLETED].payload, 0) | {"model": last},
        key=last,
        related=[model(last)],
    )
    models.append(last)
    eventually(lambda: last in monitored(), "the run of the last event", 60)
    assert sorted(monitored()) == sorted(models)
