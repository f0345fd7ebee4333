"""`make chaos`: each flow, with each part of the stack killed -9 in the middle, ends right without a hand."""

import contextlib
import io
import itertools
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import cv2
import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from infra import demo_data
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.inference.image_lists import find_image_list
from tasks.inference.results.chunk_reader import FAILURES, PICTURES, PREDICTIONS
from tasks.inference.results.parquet import schema, to_image_table, to_table
from tasks.orchestration import deployed_flows
from tasks.parameters import TrainingParams
from tasks.serving.http_client import ServingError
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.tracked_evaluation.validation import keep_validation
from tasks.tracking import registered_models, registry
from tests.chaos.steps import ENGINE, FLOW, IMAGES, kill, log, processes, read, until
from tests.flows import registered
from tests.flows.steps import aside, champion, served
from tests.tasks.catalogue.registry import infer as record_run
from tests.tasks.evaluation.test_validation_matching import all_right
from tests.tasks.importing import sources
from tests.tasks.inference.results.examples import model as example
from tests.tasks.inference.results.examples import picture

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
EPOCHS = 6
LARGE_IMAGES = 1000
EVALUATED_IMAGES = 800
CHOSEN_FROM = 500
MONITORED_IMAGES = 20
LOW = [cv2.IMWRITE_JPEG_QUALITY, 30]
KILLED = (FLOW, "worker", "prefect", "postgres", "mlflow", "object-store", "triton")
CELLS = (
    *itertools.product(("validate", "train", "deploy_again", "infer"), KILLED),
    # What the services do meanwhile is the same as above.
    *itertools.product(("evaluate", "judge", "choose", "convert", "register", "label", "monitor"), (FLOW, "worker")),
)


@pytest.fixture(scope="module")
def large_archive(stack: object) -> str:  # noqa: ARG001
    """A valid archive that takes seconds to check: its pictures are large."""
    rng, packed = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.yaml", "train: images/train\nval: images/val\nnames: [square]\n")
        for number in range(LARGE_IMAGES):
            split = "val" if number % 5 == 0 else "train"
            noise = rng.integers(0, 255, (9, 12, 3), np.uint8)
            picture = cv2.resize(noise, (4000, 3000), interpolation=cv2.INTER_LINEAR)
            archive.writestr(f"images/{split}/{number}.jpg", cv2.imencode(".jpg", picture, LOW)[1].tobytes())
            archive.writestr(f"labels/{split}/{number}.txt", "0 0.5 0.5 0.25 0.25\n")
    boto3.client("s3").put_object(Bucket="datasets", Key="large.zip", Body=packed.getvalue())
    return "large.zip"


@pytest.fixture(scope="module")
def small_archive(stack: object, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: ARG001
    plan = ArchivePlan(name="matrix.zip", classes=("circle", "square"), train=16, val=6, seed=1)
    path = demo_data.write_archive(plan, tmp_path_factory.mktemp("archive"))
    boto3.client("s3").upload_file(str(path), "datasets", plan.name)
    return plan.name


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run: how it is started, when it is in the middle of its work, and what must be true when it has ended."""

    start: Callable[[], UUID]
    is_halfway: Callable[[UUID], bool]
    check: Callable[[UUID], None]


def objects(bucket: str, prefix: str) -> list[str]:
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def has_checked_for_a_while(run: UUID) -> bool:
    if any(line.startswith("checking ") for line in log(run)):
        time.sleep(3)  # it takes about ten
        return True
    return False


@pytest.fixture
def validate(large_archive: str) -> Case:
    policy = {"max_class_ratio": 1000 + uuid4().int % 10**6}  # no answer from the cache

    def check(run: UUID) -> None:
        report = json.loads(boto3.client("s3").get_object(Bucket="runs", Key=f"{run}/report.json")["Body"].read())
        assert report["verdict"] != "invalid"
        assert sum(split["images"] for split in report["statistics"]["splits"].values()) == LARGE_IMAGES

    return Case(
        start=lambda: deployed_flows.start("validate-dataset", {"archive": large_archive, "policy": policy}),
        is_halfway=has_checked_for_a_while,
        check=check,
    )


@pytest.fixture
def train(small_archive: str) -> Case:
    name = f"matrix-{uuid4().hex[:8]}"
    training = {"epochs": EPOCHS, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {"model_name": name, "archives": [small_archive], "base_model": "yolo11n.yaml", "training": training}

    def check(run: UUID) -> None:
        (version,) = MlflowClient().search_model_versions(f"name = '{name}'")
        assert version.tags["flow_run_id"] == str(run)
        history = MlflowClient().get_metric_history(str(version.run_id), "metrics/mAP50")
        assert [value.step for value in history] == list(range(1, EPOCHS + 1))
        assert MlflowClient().get_run(str(version.run_id)).info.status == "FINISHED"

    return Case(
        start=lambda: deployed_flows.start("train-model", dict(parameters)),
        is_halfway=lambda run: any(key.endswith(".json") for key in objects("runs", f"{run}/checkpoints/")),
        check=check,
    )


@pytest.fixture
def deploy_again(model: str) -> Case:
    def check(run: UUID) -> None:  # noqa: ARG001
        assert (champion(model), served(model), aside(model)) == ("2", [2], [])

    return Case(
        start=lambda: deployed_flows.start("deploy-model", {"model_name": model}),
        is_halfway=lambda run: any("comparing what Triton answers" in line for line in log(run)),
        check=check,
    )


@pytest.fixture
def infer(model: str, media: str) -> Case:
    inference = {"confidence": 0.01, "annotate": False, "max_failure_share": 0}
    parameters = {"model_name": model, "inputs": [media], "inference": inference}

    def check(run: UUID) -> None:
        body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{run}/pictures.parquet")["Body"].read()
        sources = pq.read_table(io.BytesIO(body))["source"].to_pylist()
        assert sources == [f"s3://media/{media}{number:05d}.jpg" for number in range(IMAGES)]

    return Case(
        start=lambda: deployed_flows.start("run-inference", dict(parameters)),
        is_halfway=lambda run: sum("/parts/" in key for key in objects("runs", f"{run}/inference/")) >= 2,
        check=check,
    )


@pytest.fixture
def evaluate(weights: tuple[Path, Path, Path], tmp_path: Path) -> Case:
    name = f"matrix-{uuid4().hex[:8]}"
    registered.register(name, weights[0], None)
    plan = ArchivePlan(name=f"{name}.zip", classes=demo_data.CLASSES, train=8, val=EVALUATED_IMAGES, seed=2)
    boto3.client("s3").upload_file(str(demo_data.write_archive(plan, tmp_path)), "datasets", plan.name)
    before: dict[str, datetime] = {}

    def is_halfway(run: UUID) -> bool:
        before.update(predicted(run))
        return len(before) >= 2

    def check(run: UUID) -> None:
        now = predicted(run)
        assert len(now) == EVALUATED_IMAGES // 100 > len(before)
        assert {key: now[key] for key in before} == before  # nothing was predicted again
        facts = json.loads(boto3.client("s3").get_object(Bucket="runs", Key=f"{run}/evaluation.json")["Body"].read())
        assert facts["images"] == EVALUATED_IMAGES
        tags = MlflowClient().get_model_version(name, "1").tags
        assert json.loads(tags["thresholds_from"])["flow_run_id"] == str(run)

    parameters = {"model_name": name, "archive": plan.name, "versions": [1]}
    return Case(
        start=lambda: deployed_flows.start("evaluate-model", dict(parameters)), is_halfway=is_halfway, check=check
    )


@pytest.fixture
def judge(weights: tuple[Path, Path, Path], tmp_path: Path) -> Case:
    name = f"matrix-{uuid4().hex[:8]}"
    plan = ArchivePlan(name=f"{name}.zip", classes=("circle", "square"), train=16, val=8, seed=6)
    archive = demo_data.write_archive(plan, tmp_path)
    boto3.client("s3").upload_file(str(archive), "datasets", plan.name)
    registered.register(name, weights[0], None)
    registered.mark_trained(name, archive, TrainingParams(epochs=6, imgsz=registered.SIZE, batch=8, device="cpu"))
    before: dict[str, datetime] = {}

    def is_halfway(run: UUID) -> bool:
        before.update(predicted(run))
        return len(before) == 1 and any("/folds/1/" in key for key in stored(f"{run}/folds/"))

    def check(run: UUID) -> None:
        now = predicted(run)
        assert len(now) == 2
        assert now.items() > before.items()  # the first fold was not predicted again
        facts = json.loads(boto3.client("s3").get_object(Bucket="runs", Key=f"{run}/label-errors.json")["Body"].read())
        assert facts["out_of_fold"] is True

    parameters = {"model_name": name, "archive": plan.name, "version": 1, "label_errors": {"folds": 2}}
    return Case(
        start=lambda: deployed_flows.start("find-label-errors", dict(parameters)), is_halfway=is_halfway, check=check
    )


@pytest.fixture
def choose(weights: tuple[Path, Path, Path], tmp_path: Path) -> Case:
    name = f"matrix-{uuid4().hex[:8]}"
    registered.register(name, weights[0], None)
    plan = ArchivePlan(name=f"{name}.zip", classes=demo_data.CLASSES, train=CHOSEN_FROM, val=1, seed=3)
    boto3.client("s3").upload_file(str(demo_data.write_archive(plan, tmp_path)), "media", plan.name)
    before: dict[str, datetime] = {}

    def is_halfway(run: UUID) -> bool:
        before.update(looked_at(run))
        return len(before) >= 4  # two files for each hundred images

    def check(run: UUID) -> None:
        now = looked_at(run)
        assert {key: now[key] for key in before} == before  # nothing was looked at again
        assert len(now) > len(before)
        listed = find_image_list(str(run))
        assert listed is not None
        assert len(listed.images) == 50

    parameters = {"model_name": name, "inputs": [plan.name], "selection": {"version": 1, "images": 50}}
    return Case(
        start=lambda: deployed_flows.start("select-images", dict(parameters)), is_halfway=is_halfway, check=check
    )


def looked_at(run: UUID) -> dict[str, datetime]:
    """When each file of detections and of embeddings was written."""
    return stored(f"{run}/selection/")


def predicted(run: UUID) -> dict[str, datetime]:
    """When each file of predictions was written."""
    return stored(f"{run}/predictions/")


def stored(prefix: str) -> dict[str, datetime]:
    """When each object of bucket runs with this prefix was written."""
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=prefix).get("Contents", [])
    return {entry["Key"]: entry["LastModified"] for entry in found}


@pytest.fixture
def convert(tmp_path: Path) -> Case:
    archive = f"{uuid4().hex}.zip"
    images = {f"{number}.jpg": [sources.Box("cat", 4, 4, 30, 40)] for number in range(IMAGES)}
    path = sources.write_zip(tmp_path / archive, sources.coco(images))
    boto3.client("s3").upload_file(str(path), "datasets", f"sources/{archive}")

    def is_halfway(run: UUID) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = [child for each in processes(run) for child in each.children(recursive=True)]
            return any("tasks.importing" in child.cmdline() for child in children)
        return False

    def check(run: UUID) -> None:
        stored = boto3.client("s3").get_object(Bucket="datasets", Key=archive)
        with zipfile.ZipFile(io.BytesIO(stored["Body"].read())) as made:
            assert len(json.loads(made.read("provenance.json"))["images"]) == IMAGES
        state = read(run).state
        assert state
        assert str(state.message).endswith("from coco; nothing lost")

    parameters = {"source": f"sources/{archive}", "archive": archive}
    return Case(
        start=lambda: deployed_flows.start("import-dataset", dict(parameters)), is_halfway=is_halfway, check=check
    )


@pytest.fixture
def label(model: str, media: str) -> Case:
    keep_validation(registry.find_version.fn(model, 1), all_right(demo_data.CLASSES))
    archive = f"{uuid4().hex}.zip"
    labelling = {"take_from": dict.fromkeys(demo_data.CLASSES, 0.3), "background": True}
    labelling |= {"drop_below": labelling["take_from"]}
    parameters = {"model_name": model, "inputs": [media], "archive": archive, "labelling": labelling}

    def check(run: UUID) -> None:
        body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{run}/pictures.parquet")["Body"].read()
        assert len(pq.read_table(io.BytesIO(body))) == IMAGES
        stored = boto3.client("s3").get_object(Bucket="datasets", Key=archive)
        with zipfile.ZipFile(io.BytesIO(stored["Body"].read())) as made:
            assert len(json.loads(made.read("provenance.json"))["images"]) == 8  # the others are the same files again
        assert not objects("runs", f"{run}/inference/")

    return Case(
        start=lambda: deployed_flows.start("label-images", dict(parameters)),
        is_halfway=lambda run: sum("/parts/" in key for key in objects("runs", f"{run}/inference/")) >= 2,
        check=check,
    )


@pytest.fixture
def monitor(weights: tuple[Path, Path, Path], tmp_path: Path) -> Case:
    name = f"matrix-{uuid4().hex[:8]}"
    registered.register(name, weights[0], weights[1])
    MlflowClient().set_registered_model_alias(name, registered_models.CHAMPION, "1")
    answered = [picture(1, source=f"s3://media/{number}.jpg") for number in range(MONITORED_IMAGES)]
    pq.write_table(to_image_table(answered, example(version=1)), tmp_path / PICTURES)
    pq.write_table(to_table(answered, example(version=1), schema("detect", tracked=False)), tmp_path / PREDICTIONS)
    (tmp_path / FAILURES).write_bytes(b"")
    ObjectStore(Bucket.PREDICTIONS).upload_folder(tmp_path, record_run(name, 1))
    before: dict[str, datetime] = {}

    def is_halfway(run: UUID) -> bool:
        before.update(stored(f"{run}/reference/"))
        return len(before) >= 2

    def check(run: UUID) -> None:
        now = stored(f"{run}/reference/")
        assert len(now) > len(before)
        assert now.items() > before.items()  # nothing was predicted again
        facts = json.loads(boto3.client("s3").get_object(Bucket="runs", Key=f"{run}/monitoring.json")["Body"].read())
        assert facts["images"] == MONITORED_IMAGES

    parameters = {"model_name": name, "monitoring": {"min_images": 10, "device": "cpu"}}
    return Case(
        start=lambda: deployed_flows.start("monitor-model", dict(parameters)), is_halfway=is_halfway, check=check
    )


@pytest.fixture
def register(small_archive: str, tmp_path: Path) -> Case:
    name = f"matrix-{uuid4().hex[:8]}"
    body = registered.make_foreign_weights(tmp_path)
    boto3.client("s3").put_object(Bucket="base-models", Key=f"{name}.pt", Body=body)
    parameters = {"model_name": name, "weights": f"{name}.pt", "archive": small_archive, "promotion": {"min_map50": 0}}

    def check(run: UUID) -> None:
        (version,) = MlflowClient().search_model_versions(f"name = '{name}'")
        assert version.tags["flow_run_id"] == str(run)
        assert "mAP50-95" in version.tags["metrics"]
        assert MlflowClient().get_model_version_by_alias(name, "challenger").version == version.version
        assert MlflowClient().get_run(str(version.run_id)).info.status == "FINISHED"

    return Case(
        start=lambda: deployed_flows.start("register-model", dict(parameters)),
        is_halfway=lambda run: any(line.startswith("measuring ") for line in log(run)),
        check=check,
    )


@pytest.mark.parametrize(("flow", "victim"), CELLS)
def test_a_flow_ends_right_whatever_is_killed(
    stack: StackSettings, request: pytest.FixtureRequest, flow: str, victim: str
) -> None:
    kill_halfway(stack, request.getfixturevalue(flow), flow.removesuffix("_again"), victim)


@pytest.mark.parametrize("victim", [FLOW, "worker"])
def test_a_review_ends_right_whatever_is_killed(
    stack: StackSettings, label_studio: httpx.Client, model: str, media: str, victim: str
) -> None:
    """It is killed while Label Studio has some of the images: in the end it has each of them once."""
    key, most = f"{uuid4().hex}.zip", 60
    review = {"max_images": most}
    parameters = {"model_name": model, "inputs": [f"{media}000*.jpg"], "archive": key}

    def shown(run: UUID) -> list[dict[str, Any]]:
        projects = label_studio.get("/api/projects", params={"title": f"review {run}"}).json()["results"]
        asked = {"project": projects[0]["id"], "page_size": most, "fields": "all"} if projects else {}
        return list(label_studio.get("/api/tasks", params=asked).json()["tasks"]) if projects else []

    def submit_all(run: UUID) -> None:
        until(lambda: read(run).state_name == "Suspended", "people are asked")
        for task in shown(run):
            answer = {"result": task["predictions"][0]["result"]}
            label_studio.post(f"/api/tasks/{task['id']}/annotations", json=answer).raise_for_status()

    def check(run: UUID) -> None:
        entries = [task["data"]["entry"] for task in shown(run)]
        assert len(entries) == len(set(entries)) == most
        stored = boto3.client("s3").get_object(Bucket="datasets", Key=key)
        with zipfile.ZipFile(io.BytesIO(stored["Body"].read())) as made:
            assert len(json.loads(made.read("provenance.json"))["images"]) == most
            assert made.read("label-origins.parquet")

    case = Case(
        start=lambda: deployed_flows.start("review-images", {**parameters, "review": review}),
        is_halfway=lambda run: 0 < len(shown(run)) < most,
        check=check,
    )
    kill_halfway(stack, case, "review", victim, submit_all)


def kill_halfway(
    stack: StackSettings, case: Case, name: str, victim: str, meanwhile: Callable[[UUID], object] = lambda _: None
) -> None:
    """Kill a part of the stack in the middle of a run, do what the run waits for, and check what it has made."""
    run = case.start()
    until(lambda: case.is_halfway(run), "the run is in the middle of its work")
    assert processes(run, ENGINE)
    kill(stack, victim, run)
    killed_at = time.monotonic()
    meanwhile(run)
    until(lambda: has_completed(run), "the run has completed")
    seconds = time.monotonic() - killed_at
    until(lambda: is_right(case, run), "its results are there")
    print(f"\n{name} | {victim} killed | {read(run).state_name}, attempt {read(run).run_count}, {seconds:.0f} s after")


def has_completed(run: UUID) -> bool:
    """Whether it has; the server may be what was killed. Nothing brings a Failed run back."""
    try:
        state = read(run).state
    except Exception:  # noqa: BLE001 - whatever the client raises while the server is away
        return False
    assert state is None or not state.is_failed(), state
    return state is not None and state.is_completed()


def is_right(case: Case, run: UUID) -> bool:
    """Whether the results are; a service that was killed may still be starting."""
    try:
        case.check(run)
    except (BotoCoreError, ClientError, MlflowException, ServingError):
        return False
    return True
