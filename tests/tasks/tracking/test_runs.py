"""Runs of trainings in MLflow, against the real one: opened, gone on with, closed, and what is kept in them."""

import json
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from prefect.exceptions import Pause

from tasks.errors import Superseded
from tasks.promotion.rules import Decision, MetricComparison
from tasks.tracking import runs
from tasks.tracking.lineage import BASE_DIGEST
from tests.tasks.training.trained import LINEAGE, opened, run, steps, trained

pytestmark = pytest.mark.usefixtures("stack")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def flow_run() -> str:
    return str(uuid4())


def end(run_id: str, how: BaseException | None = None) -> None:
    with suppress(BaseException), runs.closing_run(run_id):
        if how:
            raise how


def test_a_training_that_is_tried_again_goes_on_in_its_run(flow_run: str) -> None:
    """It is RUNNING again, for searches too, and has no end; its parameters stay, and new ones come to them."""
    run_id = opened(flow_run, batch=16)
    end(run_id, RuntimeError())
    assert (run(run_id).info.status, run(run_id).info.end_time is None) == ("FAILED", False)

    assert opened(flow_run, batch=8, imgsz=64) == run_id
    assert (run(run_id).info.status, run(run_id).info.end_time) == ("RUNNING", None)
    experiment = run(run_id).info.experiment_id
    query = f"attributes.status = 'RUNNING' and tags.flow_run_id = '{flow_run}'"
    assert [found.info.run_id for found in MlflowClient().search_runs([experiment], query)] == [run_id]
    assert run(run_id).data.params == {"epochs": "3", "batch": "16", "imgsz": "64"}
    assert run(run_id).info.run_name == "happy-otter"

    end(run_id)
    assert run(run_id).info.status == "FINISHED"
    assert run(run_id).info.end_time > run(run_id).info.start_time


def test_another_training_of_a_flow_run_closes_the_one_before(flow_run: str) -> None:
    first, elsewhere = opened(flow_run, "f1"), opened(str(uuid4()), "f1")
    second = opened(flow_run, "f2")
    assert len({first, second, elsewhere}) == 3
    assert [run(each).info.status for each in (first, second, elsewhere)] == ["KILLED", "RUNNING", "RUNNING"]


@pytest.mark.parametrize(("carried_on", "kept"), [(True, "first"), (False, "second")])
def test_a_run_that_is_carried_on_keeps_the_digest_of_what_it_began_from(
    flow_run: str, carried_on: bool, kept: str
) -> None:
    """An alias may have moved since; the epochs that are kept were made from the weights of before."""
    tags = {**LINEAGE, "flow_run_id": flow_run}
    runs.open_run.fn("otter", "f1", tags | {BASE_DIGEST: "first"}, {})
    again = runs.open_run.fn("otter", "f1", tags | {BASE_DIGEST: "second"}, {}, carried_on)
    assert again.tags[BASE_DIGEST] == run(again.id).data.tags[BASE_DIGEST] == kept


def test_what_is_too_long_for_mlflow_is_cut(flow_run: str) -> None:
    tags = {"archives": "a" * 9000, "flow_run_id": flow_run}
    run_id, lineage = runs.open_run.fn("long", "f1", tags, {"archives": "b" * 9000})
    assert lineage == tags
    assert run(run_id).data.tags["archives"] == "a" * 7999 + "…"
    assert run(run_id).data.params["archives"] == "b" * 5999 + "…"


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (None, "FINISHED"),
        (ValueError(), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (Superseded(), "RUNNING"),  # another process goes on with it
        (Pause(), "SCHEDULED"),  # it waits for somebody to resume it
    ],
    ids=repr,
)
def test_a_run_is_closed_by_how_the_training_ended(flow_run: str, how: BaseException | None, status: str) -> None:
    run_id = opened(flow_run)
    end(run_id, how)
    assert run(run_id).info.status == status


def test_runs_whose_flow_run_has_ended_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with one of them, the others are closed, and those that go on are let alone."""
    flow_runs = ["over", "over suspended", "suspended", "unknown", "alive", "finished"]
    ids = {name: opened(f"{name}-{uuid4()}") for name in flow_runs}
    end(ids["finished"])
    for name in ("over suspended", "suspended"):
        end(ids[name], Pause())
    foreign = MlflowClient().create_run(run(ids["over"]).info.experiment_id).info.run_id

    def is_over(flow_run_id: str) -> bool:
        if flow_run_id.startswith("unknown"):
            raise LookupError(flow_run_id)
        return flow_run_id.startswith(("over", "finished"))

    runs.close_orphaned_runs.fn(is_over)
    found = {name: run(run_id).info.status for name, run_id in ids.items()}
    assert found == {
        "over": "KILLED",
        "over suspended": "KILLED",
        "suspended": "SCHEDULED",
        "unknown": "RUNNING",
        "alive": "RUNNING",
        "finished": "FINISHED",
    }
    assert run(foreign).info.status == "RUNNING"
    assert f"whether MLflow run {ids['unknown']} was abandoned is unknown" in caplog.text


def test_without_mlflow_nothing_is_tidied_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    runs.close_orphaned_runs.fn(lambda _: True)
    runs.log_inputs.fn("0" * 32, {"a.zip": "ab" * 32}, "cd" * 32)
    runs.log_json.fn("0" * 32, {}, "facts.json")
    end("0" * 32)
    for text in ("abandoned runs", "the archives could not", "facts.json could not", "could not be closed as FINISHED"):
        assert text in caplog.text


def test_the_archives_are_the_datasets_of_the_run(flow_run: str) -> None:
    """Named once, however often they are logged."""
    run_id = opened(flow_run)
    archives = {"a.zip": "ab" * 32, "s3://elsewhere/b.zip": "cd" * 32}
    for _ in range(2):
        runs.log_inputs.fn(run_id, archives, "ef" * 32)
    logged = run(run_id).inputs
    assert logged is not None
    inputs = sorted(logged.dataset_inputs, key=lambda each: each.dataset.name)
    assert [(each.dataset.name, each.dataset.digest, each.dataset.source_type) for each in inputs] == [
        ("a.zip", "ab" * 18, "s3"),
        ("s3://elsewhere/b.zip", "cd" * 18, "s3"),
    ]
    assert [json.loads(each.dataset.source)["uri"] for each in inputs] == [
        "s3://datasets/a.zip",
        "s3://elsewhere/b.zip",
    ]
    expected = {"mlflow.data.context": "training", "merge_plan": "ef" * 32}
    assert [{tag.key: tag.value for tag in each.tags} for each in inputs] == [expected] * 2


def test_the_outcome_of_a_training_is_kept_once(flow_run: str, tmp_path: Path) -> None:
    """Metrics over all and of each class, pictures and tables; a file that cannot be read does not stop the others."""
    (tmp_path / "weights").mkdir()
    for name in ("results.csv", "results.png", "val_batch0_pred.jpg", "weights/best.pt", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    model = trained(tmp_path, tmp_path / "weights" / "best.pt", classes=("red/blue cell", "b", "c"))
    run_id = opened(flow_run)
    for _ in range(2):
        runs.log_training.fn(run_id, model)
    assert run(run_id).data.metrics == {
        "best/mAP50-95": 0.375,
        "best/precision": 0.5,
        "best/mAP50-95/red_blue cell": 0.25,
        "best/mAP50-95/b": 0.5,
        "epochs": 3.0,
        "best_epoch": 2.0,
    }
    assert steps(run_id, "best/mAP50-95") == [2]
    kept = {item.path for item in MlflowClient().list_artifacts(run_id, "plots")}
    assert kept == {"plots/results.csv", "plots/results.png", "plots/val_batch0_pred.jpg"}


def test_the_promotion_is_shown_where_runs_are_compared(flow_run: str) -> None:
    means = (MetricComparison("validation", 2, 0.4, 0.3), MetricComparison("gold", 1, 0.2, None))
    decision = Decision(version=7, promoted=True, reasons=("good",), metric="mAP50-95", means=means, champion=6)
    run_id = opened(flow_run)
    runs.log_decision.fn(run_id, decision)
    assert run(run_id).data.metrics == {
        "promotion/promoted": 1.0,
        "promotion/validation/challenger": 0.4,
        "promotion/validation/champion": 0.3,
        "promotion/gold/challenger": 0.2,
    }
    assert run(run_id).data.tags["promotion"] == "promoted"
    assert [item.path for item in MlflowClient().list_artifacts(run_id)] == ["promotion.json"]
