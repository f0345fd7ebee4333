"""A clean-up on the real stack: what goes, what stays, and a disk that stays as full as it was."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Running

from flows.clean_up import clean_up
from infra.stack_settings import StackSettings
from tasks.catalogue import tombstones
from tasks.parameters import CleanUpParams
from tasks.retention import steps
from tasks.retention.report import removal_command
from tasks.retention.rules import Kind, choose, retention
from tasks.settings import Settings
from tasks.storage.object_store import ObjectStore
from tasks.tracking import mlflow_bin
from tests.clients import mlflow_api

pytestmark = pytest.mark.usefixtures("stack")

AT_ONCE = {"checkpoints": 0, "parts": 0, "predictions": 0, "graphs": 0, "uploads": 0, "scratch": 0, "tracked": 0}
MEGABYTE = bytes(1_000_000)


@flow
def train_model() -> None:
    """A flow whose runs are made and never carried out."""


@flow
def run_inference(inputs: list[str]) -> None:
    """The same."""


@flow
def close_loop() -> None:
    """The same."""


@pytest.fixture
def prefect() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def made_run(prefect: SyncPrefectClient, state: State[Any] | None = None) -> str:
    return str(prefect.create_flow_run(train_model, state=state or Completed()).id)


def put(bucket: str, key: str, body: bytes = b"bytes") -> None:
    ObjectStore(bucket).put(key, body)


def keys(bucket: str, prefix: str) -> list[str]:
    return sorted(ObjectStore(bucket).keys(prefix))


def registered(model: str, flow_run: str, **tags: str) -> int:
    """A version as a training registers it, but without weights."""
    mlflow = MlflowClient()
    if not mlflow.search_registered_models(f"name = '{model}'"):
        mlflow.create_registered_model(model)
    run = mlflow.create_run("0").info.run_id
    tags |= {"flow_run_id": flow_run}
    version = mlflow.create_model_version(model, f"runs:/{run}/model", run, tags=tags)
    put("models", f"{model}/{version.version}/model.onnx")
    put("models", f"{model}/{version.version}/model.py")
    return int(version.version)


def cleaned(**cleaning: Any) -> State:
    state: State = clean_up(CleanUpParams.model_validate({"dry_run": False, **AT_ONCE, **cleaning}), return_state=True)
    assert state.is_completed(), state.message
    return state


def name_of_a_model() -> str:
    return f"model-{uuid4().hex[:8]}"


def test_a_dry_run_removes_nothing_and_says_what_would_go(
    prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what nobody could be asked for, here because MLflow is elsewhere."""
    monkeypatch.setattr(mlflow_bin, "list_deleted", lambda: None)
    run = made_run(prefect)
    put("runs", f"{run}/checkpoints/00001/last.pt", MEGABYTE)

    state = cleaned(dry_run=True)

    assert "would go" in str(state.message)
    assert keys("runs", run)
    page = next(
        each.data
        for each in prefect.read_artifacts()
        if each.key == "clean-up" and each.flow_run_id == state.state_details.flow_run_id
    )
    assert f"s3://runs/{run}/checkpoints/" in str(page).replace("<wbr>", "")
    assert "prefect deployment run clean-up/gpu --params" in str(page)
    assert "deleted runs and models of MLflow: this MLflow is not that of the local stack" in str(page)


def test_what_an_ended_training_left_goes_and_its_report_stays(prefect: SyncPrefectClient) -> None:
    ended, going_on, unregistered, unknown = (
        made_run(prefect),
        made_run(prefect, Running()),
        made_run(prefect),
        str(uuid4()),
    )
    registered(name_of_a_model(), ended)
    for run in (ended, going_on, unregistered, unknown):
        for file in ("checkpoints/00001/last.pt", "best.pt", "report.html"):
            put("runs", f"{run}/{file}")

    cleaned()

    assert keys("runs", ended) == [f"{ended}/report.html"]
    assert len(keys("runs", going_on)) == 3
    assert keys("runs", unregistered) == [f"{unregistered}/best.pt", f"{unregistered}/report.html"]
    assert len(keys("runs", unknown)) == 3


def test_what_an_evaluation_predicted_goes_and_its_page_stays(prefect: SyncPrefectClient) -> None:
    ended, going_on = made_run(prefect), made_run(prefect, Running())
    for run in (ended, going_on):
        for file in ("predictions/version-1/0.zip", "corrupted-predictions/version-1/0.zip", "evaluation.html"):
            put("runs", f"{run}/{file}")
    cleaned(parts=None)
    assert len(keys("runs", ended)) == 3

    cleaned()

    assert keys("runs", ended) == [f"{ended}/evaluation.html"]
    assert len(keys("runs", going_on)) == 3


def test_answers_of_people_go_when_the_round_has_taken_them_and_no_sooner(prefect: SyncPrefectClient) -> None:
    """A round that failed before it could make an archive of them may be the only one that has them."""
    taken, left, going_on = made_run(prefect), made_run(prefect), made_run(prefect, Running())
    for run in (taken, left, going_on):
        for key in (f"{run}/review-images/a.jpg", f"{run}/review/round.json", f"review-answers/{run}/0.json"):
            put("runs", key)
    for run in (taken, going_on):
        put("runs", f"{run}/review/answers.json")

    cleaned()

    assert keys("runs", taken) == [f"{taken}/review/answers.json", f"{taken}/review/round.json"]
    assert keys("runs", left) == [f"{left}/review-images/a.jpg", f"{left}/review/round.json"]  # a retry needs both
    assert [len(keys("runs", f"review-answers/{run}/")) for run in (taken, left, going_on)] == [0, 1, 1]


def test_what_a_monitoring_predicted_goes_and_lists_of_images_that_nobody_reads(prefect: SyncPrefectClient) -> None:
    """Without its list, a run of label-images with predictions would stand for all that it has answered."""
    ended, going_on, answered = made_run(prefect), made_run(prefect, Running()), made_run(prefect)
    put("runs", f"{ended}/reference/000000.zip")
    put("runs", f"{ended}/monitoring.json")
    put("predictions", f"{answered}/summary.json")
    read = str(prefect.create_flow_run(run_inference, parameters={"inputs": [f"run:{going_on}"]}, state=Completed()).id)
    named = made_run(prefect)
    reader = prefect.create_flow_run(
        run_inference, parameters={"inputs": ["a.jpg", f"run:{named}"]}, state=Running()
    ).id
    for run in (ended, going_on, answered, read, named):
        put("runs", f"image-lists/{run}.jsonl")

    cleaned(predictions=None)

    assert keys("runs", ended) == [f"{ended}/monitoring.json"]
    there = [bool(keys("runs", f"image-lists/{run}.jsonl")) for run in (ended, going_on, answered, read, named)]
    assert there == [False, True, True, False, True]

    prefect.set_flow_run_state(reader, Completed(), force=True)
    loop = prefect.create_flow_run(close_loop, state=Running()).id
    cleaned(predictions=None)
    assert keys("runs", f"image-lists/{named}.jsonl")
    prefect.set_flow_run_state(loop, Completed(), force=True)
    cleaned(predictions=None)
    assert not keys("runs", f"image-lists/{named}.jsonl")


def test_graphs_of_versions_that_somebody_needs_stay(prefect: SyncPrefectClient) -> None:
    model, run = name_of_a_model(), made_run(prefect)
    for _ in range(5):
        registered(model, run)
    registered(name_of_a_model(), run, base_model=f"models:/{model}/4")
    mlflow = MlflowClient()
    mlflow.set_registered_model_alias(model, "champion", "2")
    mlflow.set_registered_model_alias(model, "prod", "3")
    mlflow.set_registered_model_tag(model, "champions", "[1, 2]")
    stranger = name_of_a_model()
    put("models", f"{stranger}/1/model.onnx")

    cleaned()

    assert [version for version in range(1, 6) if keys("models", f"{model}/{version}/")] == [1, 2, 3, 4]
    assert keys("models", stranger)


def test_predictions_go_when_they_may_with_a_tombstone(prefect: SyncPrefectClient) -> None:
    ended, going_on = made_run(prefect), made_run(prefect, Running())
    for run in (ended, going_on):
        put("predictions", f"{run}/summary.json", b"{}")
    cleaned(predictions=None)
    assert keys("predictions", ended)

    cleaned()

    assert keys("predictions", ended) == []
    assert keys("predictions", going_on)
    assert tombstones.read("prediction", ended) is not None


def test_an_upload_that_was_cut_off_is_aborted() -> None:
    s3, key = boto3.client("s3"), f"{uuid4()}/ü <b>#1.zip"
    upload = s3.create_multipart_upload(Bucket="datasets", Key=key)["UploadId"]
    s3.upload_part(Bucket="datasets", Key=key, UploadId=upload, PartNumber=1, Body=MEGABYTE)
    cleaned(uploads=7)
    assert [each.key for each in ObjectStore("datasets").list_uploads() if each.size == len(MEGABYTE)] == [key]

    cleaned()

    assert key not in [each.key for each in ObjectStore("datasets").list_uploads()]


def test_a_scratch_folder_that_nobody_owns_goes() -> None:
    parent = Settings().studio_scratch_dir
    parent.mkdir(parents=True, exist_ok=True)
    abandoned = parent / "studio-test-abandoned"
    (abandoned / "deep").mkdir(parents=True)
    (abandoned / "deep" / "file").write_bytes(MEGABYTE)
    outside = parent / "studio-test-link"
    outside.symlink_to(Path("/usr"))

    cleaned()

    assert not abandoned.exists()
    assert outside.is_symlink()
    outside.unlink()


def test_what_was_deleted_in_mlflow_goes_for_good_but_for_the_run_of_a_version(prefect: SyncPrefectClient) -> None:
    mlflow, model = MlflowClient(), name_of_a_model()
    registered(model, made_run(prefect))
    needed = str(mlflow.get_model_version(model, "1").run_id)
    free, alive = (mlflow.create_run("0").info.run_id for _ in range(2))
    for run in (needed, free, alive):
        mlflow.log_text(run, "text", "note.txt")
    for run in (needed, free):
        mlflow.delete_run(run)
    cleaned(tracked=30)
    assert keys("mlflow", f"0/{free}/")

    cleaned()

    assert keys("mlflow", f"0/{free}/") == []
    assert [bool(keys("mlflow", f"0/{run}/")) for run in (needed, alive)] == [True, True]
    assert mlflow.get_run(needed).info.lifecycle_stage == "deleted"
    assert mlflow.get_run(alive).info.lifecycle_stage == "active"
    mlflow.restore_run(needed)


def test_the_bin_gives_nothing_away_and_takes_only_what_is_deleted(stack: StackSettings) -> None:
    alive = MlflowClient().create_run("0").info.run_id
    with mlflow_api(stack) as api:
        assert api.delete(f"/studio/deleted/run/{alive}").status_code == 409
        assert api.delete("/studio/deleted/run/none").json() == {"removed": False}
        assert api.delete(f"/studio/deleted/table/{alive}").status_code == 409
        assert api.get("/studio/deleted").status_code == 200
        assert api.get("/studio/deleted", auth=("admin", "wrong")).status_code == 401
        assert api.get("/studio/deleted", headers={"origin": "http://evil.example"}).status_code == 403


def test_the_command_of_the_report_does_what_the_report_says() -> None:
    cleaning = CleanUpParams(graphs=3)
    command = removal_command(cleaning)
    assert command == """prefect deployment run clean-up/gpu --params '{"cleaning": {"dry_run": false, "graphs": 3}}'"""


def stored(model: str, runs: set[str]) -> int:
    """Bytes that the trainings hold, but for the pages that lineage names."""
    held = [*ObjectStore("models").list(f"{model}/")]
    held += [each for each in ObjectStore("runs").list() if each.key.partition("/")[0] in runs]
    held += [each for each in ObjectStore("predictions").list() if each.key.partition("/")[0] in runs]
    return sum(each.size for each in held if not each.key.endswith("report.html"))


@pytest.mark.heavy
@pytest.mark.slow
def test_three_hundred_trainings_later_the_disk_is_as_full_as_before(prefect: SyncPrefectClient) -> None:
    """Thirty trainings a month, the tenth of them champion, and a clean-up at the end of each month."""
    model, runs, full = name_of_a_model(), set[str](), list[int]()
    mlflow = MlflowClient()
    policy = retention(CleanUpParams(dry_run=False, predictions=30))
    for number in range(300):
        run = made_run(prefect)
        runs.add(run)
        version = registered(model, run)
        put("runs", f"{run}/checkpoints/00009/last.pt", bytes(20_000))
        put("runs", f"{run}/checkpoints/00010/last.pt", bytes(20_000))
        put("runs", f"{run}/best.pt", bytes(7_000))
        put("runs", f"{run}/report.html", bytes(300))
        put("models", f"{model}/{version}/model.onnx", bytes(10_000))
        put("predictions", f"{run}/summary.json", b"{}")
        if version == 10:
            mlflow.set_registered_model_alias(model, "champion", "10")
            mlflow.set_registered_model_tag(model, "champions", "[10]")
        if number % 30 == 29:
            choice = choose(steps.take_stock.fn(), policy, datetime.now(UTC) + timedelta(days=31))
            own = [each for each in choice.going if each.owners & runs or any(model in owner for owner in each.owners)]
            for kind in Kind:
                steps.remove.fn(kind, [each for each in own if each.kind is kind])
            full.append(stored(model, runs))
    assert len(set(full)) == 1
    assert full[0] == 10_000 + len(b"bytes")
    assert len([each for each in keys("runs", "") if each.endswith("report.html") and each[:36] in runs]) == 300
