"""The main job through the deployments on a worker, as a user's click runs it, on drawn shapes."""

import io
import json
import re
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import httpx
import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact, State

from infra import demo_data
from infra.backup import last_backup
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.inference.results.parquet import schema
from tasks.orchestration import deployed_flows
from tasks.serving.model_control import list_served_versions
from tasks.serving.served_model import ServedModel
from tasks.tracking import registry
from tasks.tracking.ancestry import read_ancestry
from tests.emitted import emitted, related
from tests.flows.run_log import run_log
from tests.infra.browser import OpenBrowser
from tests.infra.metrics.programs import metrics_of
from tests.infra.metrics.test_rules import ALERTS, QUERIES
from tests.waiting import eventually

MODEL = "shapes"
EPOCHS = 7
# Few epochs are enough for shapes if each image is shown as it is and steps are large from the beginning.
STEEP = {"optimizer": "AdamW", "lr0": 0.003, "warmup_epochs": 1, "mosaic": 0}
PLANS = (
    ArchivePlan(name="first.zip", classes=("circle", "square", "triangle"), train=120, val=16, seed=1),
    ArchivePlan(name="second.zip", classes=("triangle", "circle", "cross"), train=120, val=16, seed=2),
)


@dataclass(frozen=True)
class MainJob:
    """What the runs of the main job ended in, and the truth about the pictures that were looked at."""

    verdict: State
    training: State
    deployment: State
    inference: State
    inference_id: str
    truth: dict[str, list[demo_data.Shape]]


def pictures(count: int) -> tuple[bytes, dict[str, list[demo_data.Shape]]]:
    """A zip of pictures the model has not seen, and the shapes on each."""
    rng, truth, buffer = np.random.default_rng(99), {}, io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(count):
            jpeg, truth[f"{index}.jpg"] = demo_data.draw_image(rng, demo_data.CLASSES)
            archive.writestr(f"{index}.jpg", jpeg)
    return buffer.getvalue(), truth


def run(flow: str, **parameters: object) -> tuple[State, str]:
    started = deployed_flows.start(flow, parameters)
    return deployed_flows.wait(started), str(started)


@pytest.fixture(scope="module")
def job(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> MainJob:  # noqa: ARG001
    folder, store = tmp_path_factory.mktemp("job"), boto3.client("s3")
    for plan in PLANS:
        store.upload_file(str(demo_data.write_archive(plan, folder)), "datasets", plan.name)
    unseen, truth = pictures(20)
    store.put_object(Bucket="media", Key="e2e/unseen.zip", Body=unseen)
    store.put_object(Bucket="media", Key="e2e/broken.jpg", Body=b"\xff\xd8\xff not a picture")
    store.upload_file(str(demo_data.write_video(folder / "clip.mp4", 30)), "media", "e2e/clip.mp4")

    verdict, _ = run("validate-dataset", archive=PLANS[0].name)
    training, _ = run(
        "train-model",
        model_name=MODEL,
        archives=[plan.name for plan in PLANS],
        base_model="yolo11n.yaml",
        training={"epochs": EPOCHS, "imgsz": 128, "batch": 8, "overrides": STEEP},
    )
    deployment, _ = run("deploy-model", model_name=MODEL)
    inference, inference_id = run("run-inference", model_name=MODEL, inputs=["e2e/"])
    return MainJob(verdict, training, deployment, inference, inference_id, truth)


def served(name: str) -> list[ServedModel]:
    found: list[ServedModel] = list_served_versions(name)
    return found


def test_every_flow_run_of_the_main_job_completes(job: MainJob) -> None:
    assert job.verdict.name == "Valid"
    assert job.training.name == job.deployment.name == "Completed", (job.training, job.deployment)
    assert job.inference.name == "Completed with 1 failures"


def test_the_log_of_a_run_tells_its_steps_in_words(job: MainJob) -> None:
    """A line a step and an epoch, the outcome at the end once, and nothing of what Prefect does for it."""
    for state, steps in (
        (job.verdict, ("checking first.zip",)),
        (
            job.training,
            ("checking second.zip", "merging 2 archives", "rehearsing", f"epoch {EPOCHS}/{EPOCHS}", "registering"),
        ),
        (job.deployment, ("exporting", "loading version 1", "comparing")),
        (job.inference, ("looking for", "detecting with shapes version 1", "gallery")),
    ):
        log = run_log(state, str(state.message))
        assert not [line for line in log if line.startswith(("Created", "Finished in state")) or "Traceback" in line]
        assert [line for line in log if str(state.message) in line] == [f"{state.name}: {state.message}"]
        told = [next((number for number, line in enumerate(log) if line.startswith(step)), -1) for step in steps[:-1]]
        assert told == sorted(told), (steps, log)
        assert min(told, default=0) >= 0, (steps, log)
        assert any(steps[-1] in line for line in log)


def test_the_version_is_registered_with_its_lineage(job: MainJob) -> None:  # noqa: ARG001
    client = MlflowClient()
    version = client.get_model_version_by_alias(MODEL, "champion")
    assert (version.version, client.get_registered_model(MODEL).aliases) == ("1", {"champion": "1"})
    assert json.loads(version.tags["class_names"]) == ["circle", "square", "triangle", "cross"]
    assert {name: len(digest) for name, digest in json.loads(version.tags["archives"]).items()} == {
        "first.zip": 64,
        "second.zip": 64,
    }
    assert version.tags["base_model"] == "yolo11n.yaml"
    assert len(version.tags["flow_run_id"]) == 36
    assert version.tags["git_commit"]
    ancestry = read_ancestry.fn(registry.find_version.fn(MODEL, 1))
    assert ancestry.tells_images
    assert (len(ancestry.images.train), len(ancestry.images.val)) == (240, 32)


def test_every_metric_that_an_alert_or_a_dashboard_names_is_there(
    job: MainJob,  # noqa: ARG001
    stack: StackSettings,
    prometheus: httpx.Client,
) -> None:
    """Those of GPUs where there is one, and that of backups once there is one, which is told and not taken here.

    This stack has no front door.
    """
    last_backup.write(stack, "newest", Path("/mnt/backups"), datetime.now(UTC))
    expressions = [*QUERIES, *(rule["expr"] for rule in ALERTS)]
    named = {name for expression in expressions for name in metrics_of(expression)}
    absent = ("studio_front_door_", "studio_worker_token_", *(() if torch.cuda.is_available() else ("studio_gpu_",)))
    expected = {name for name in named if not name.startswith(absent)}

    def has_all() -> bool:
        known = prometheus.get("/api/v1/label/__name__/values").raise_for_status().json()["data"]
        return expected <= set(known)

    assert len(expected) > 40
    eventually(has_all, f"all of {sorted(expected)}", 60, every_s=2)


def test_the_job_is_a_chain_of_events(job: MainJob) -> None:
    version = MlflowClient().get_model_version_by_alias(MODEL, "champion")
    digests = json.loads(version.tags["archives"])
    trained, promoted = (emitted(kind, f"version:{MODEL}/1") for kind in ("model.trained", "model.promoted"))
    assert (
        related(trained) == related(promoted) == {f"model:{MODEL}", *(f"dataset:{each}" for each in digests.values())}
    )
    assert dict(zip(trained["payload"]["archives"], trained["payload"]["digests"], strict=True)) == digests
    assert trained["payload"]["metrics"]["mAP50"] > 0.5
    assert promoted["payload"]["reason"] in str(job.training.message)
    assert httpx.get(promoted["payload"]["report"]).status_code == 200
    assert emitted("dataset.validated", f"dataset:{digests[PLANS[0].name]}")["payload"]["verdict"] == "valid"
    assert emitted("model.deployed", f"version:{MODEL}/1")["payload"]["replaced"] is None
    assert emitted("inference.completed", f"prediction:{job.inference_id}")["payload"]["failures"] == 1


def test_pages_lead_to_each_other(job: MainJob, stack: StackSettings) -> None:
    """From the training in MLflow to Prefect and the report, and from the report in Prefect to MLflow."""
    client = MlflowClient()
    version = client.get_model_version_by_alias(MODEL, "champion")
    run, flow_run = client.get_run(str(version.run_id)), version.tags["flow_run_id"]
    prefect, mlflow_ui = (
        stack.environment["PREFECT_API_URL"].removesuffix("/api"),
        stack.environment["MLFLOW_TRACKING_URI"],
    )
    here = f"{prefect}/runs/flow-run/{flow_run}"
    there = f"{mlflow_ui}/#/experiments/{run.info.experiment_id}/runs/{version.run_id}"
    assert here in run.data.tags["mlflow.note.content"]
    assert there not in run.data.tags["mlflow.note.content"]
    assert here in str(version.description)
    assert run.data.params["model_name"] == MODEL
    page = mlflow.artifacts.load_text(f"runs:/{version.run_id}/report.html")
    assert page.index("Quality on validation") < page.index("Worst pictures")
    assert page.count('class="line line') >= 6
    (report,) = [each for each in artifacts(flow_run) if each.key == "training-report"]
    assert there in str(report.data)
    assert f"{mlflow_ui}/#/models/{MODEL}/versions/1" in str(report.data)
    address = re.search(r"\[Curves and worst pictures\]\((\S+)\)", str(report.data))
    assert address is not None
    assert httpx.get(address[1]).text == page
    (found,) = [each for each in artifacts(job.inference_id) if each.key == "inference-report"]
    assert "#/experiments/" in str(found.data)


def artifacts(flow_run: str) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run)]))
        return list(client.read_artifacts(artifact_filter=wanted))


def test_every_epoch_is_logged_once(job: MainJob) -> None:  # noqa: ARG001
    client = MlflowClient()
    run_id = str(client.get_model_version_by_alias(MODEL, "champion").run_id)
    history = client.get_metric_history(run_id, "metrics/mAP50")
    assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).data.metrics["best/mAP50"] > 0.5


def test_the_registered_model_loads_and_predicts(job: MainJob, tmp_path: Path) -> None:  # noqa: ARG001
    """`mlflow.pyfunc.load_model` gives a detector without this repository's flows."""
    import pandas as pd

    picture = tmp_path / "x.jpg"
    picture.write_bytes(demo_data.draw_image(np.random.default_rng(5), ("circle",))[0])
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    found = model.predict(pd.DataFrame({"image": [str(picture)]}))
    assert list(found.columns[:4]) == ["image", "class_id", "class_name", "confidence"]
    assert set(found["class_name"]) <= set(demo_data.CLASSES)


def test_triton_serves_that_version_and_says_what_it_is(job: MainJob) -> None:  # noqa: ARG001
    (model,) = served(MODEL)
    assert (model.version, model.task, model.image_size) == (1, "detect", 128)
    assert model.class_names == ("circle", "square", "triangle", "cross")


def table_of(job: MainJob) -> Any:
    body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{job.inference_id}/predictions.parquet")["Body"]
    return pq.read_table(io.BytesIO(body.read()))


def test_predictions_have_the_contract_columns(job: MainJob) -> None:
    table = table_of(job)
    assert table.schema.equals(schema("detect", tracked=False))
    assert set(table["model_version"].to_pylist()) == {1}
    assert len(set(table.filter(table["source"].to_numpy() == "s3://media/e2e/clip.mp4")["frame"].to_pylist())) > 15


def test_boxes_and_classes_are_right(job: MainJob) -> None:
    """Merged class ids, letterbox, export and mapping back are all right, or shapes would not be found as they are."""
    rows = table_of(job).to_pylist()
    found = total = 0
    for name, shapes in job.truth.items():
        boxes = [row for row in rows if row["source"].endswith(f"unseen.zip/{name}")]
        for shape in shapes:
            total += 1
            found += any(box["class_name"] == shape[0] and overlap(box, shape) > 0.6 for box in boxes)
    # With classes mixed up it would be a third at most.
    assert found / total > 0.5, f"{found} of {total} shapes found"


def overlap(box: dict[str, Any], shape: demo_data.Shape) -> float:
    """Intersection over union of a detection and a drawn shape."""
    _, x, y, r = shape
    width = min(box["x2"], x + r) - max(box["x1"], x - r)
    height = min(box["y2"], y + r) - max(box["y1"], y - r)
    inside = max(width, 0) * max(height, 0)
    return float(inside / ((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) + 4 * r * r - inside))


def test_the_broken_image_is_a_failure_with_its_reason(job: MainJob) -> None:
    body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{job.inference_id}/failures.jsonl")["Body"]
    (failure,) = [json.loads(line) for line in body.read().splitlines()]
    assert failure["input"] == "s3://media/e2e/broken.jpg"
    assert "expected" in failure["reason"]


def gallery_of(job: MainJob) -> str:
    body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{job.inference_id}/summary.json")["Body"]
    link: str = json.loads(body.read())["gallery"]
    return link


def test_the_gallery_opens_without_keys(job: MainJob) -> None:
    answer = httpx.get(gallery_of(job), timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_the_gallery_shows_its_pictures(job: MainJob, open_browser: OpenBrowser, tmp_path: Path) -> None:
    """In a real browser the first thumbnails come through their presigned links."""
    with open_browser(tmp_path / "profile") as page:
        page.resize(1280, 900)
        page.open(gallery_of(job))
        page.wait("document.querySelectorAll('.card.seen').length >= 10")
        assert page.js("document.querySelector('.card.missing')") is None
        assert "broken.jpg" in page.js("document.body.textContent")


@pytest.fixture(scope="module")
def worse(job: MainJob) -> State:  # noqa: ARG001
    """A second training, from the first one's weights, which knows one class less; both are measured on gold too."""
    parameters = {"archives": ["first.zip"], "base_model": f"models:/{MODEL}@champion"}
    training = {"epochs": 1, "imgsz": 64, "batch": 32, "rehearse": False}
    gold = {"gold": "second.zip"}
    return run("train-model", model_name=MODEL, training=training, promotion=gold, **parameters)[0]


@pytest.mark.heavy
def test_a_worse_version_is_not_promoted(worse: State) -> None:
    """It is registered, with the reasons, and is no challenger of the version that was better on the same images."""
    client = MlflowClient()
    version = client.get_model_version(MODEL, "2")
    assert worse.is_completed(), worse
    assert "refused" in str(worse.message)
    assert version.tags["promotion"] == "refused"
    assert "cross" in version.tags["promotion_reason"]
    assert client.get_registered_model(MODEL).aliases == {"champion": "1"}
    found = client.get_run(str(version.run_id)).data
    assert found.tags["promotion"] == "refused"
    facts = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/promotion.json")
    assert {mean["data"] for mean in facts["means"]} == {"validation", "gold"}
    assert all(mean["champion"] > 0.2 for mean in facts["means"])
    assert " fell from " in facts["falls"][0]
    assert "Why it was refused" in client.get_run(str(version.run_id)).data.tags["mlflow.note.content"]


@pytest.mark.heavy
def test_a_second_version_takes_over_when_it_is_named(worse: State) -> None:  # noqa: ARG001
    """Deployed, it is the only one served; the first version stays in the repository, untouched."""
    store = boto3.client("s3")
    before = store.head_object(Bucket="models", Key=f"{MODEL}/1/model.onnx")["ETag"]
    deployment, _ = run("deploy-model", model_name=MODEL, version=2)
    assert deployment.is_completed(), deployment
    assert [(model.version, model.image_size) for model in served(MODEL)] == [(2, 64)]
    assert MlflowClient().get_model_version_by_alias(MODEL, "champion").version == "2"
    assert store.head_object(Bucket="models", Key=f"{MODEL}/1/model.onnx")["ETag"] == before
