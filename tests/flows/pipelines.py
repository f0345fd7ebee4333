"""Pipelines that take seconds, and the runs that they start."""

from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import cv2
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from infra import demo_data
from infra.demo_data import ArchivePlan
from tasks.orchestration.prefect_client import patient_client
from tests.flows.registered import pictures

QUICK_PIPELINE: dict[str, Any] = {
    "archives": ["pipe-*.zip"],
    "inputs": ["pipe/"],
    "base_model": "yolo11n.yaml",
    "training": {"epochs": 1, "imgsz": 64, "batch": 8, "rehearse": False},
    "promotion": {"min_map50": 0.0},
    "serving": {"parity": None, "drain_s": 0},
}


def store_data(folder: Path, seed: int) -> None:
    """Put two archives of shapes, one that is none, and an image into the buckets; the seed makes them others."""
    store = boto3.client("s3")
    for number, name in enumerate(("pipe-a.zip", "pipe-b.zip")):
        plan = ArchivePlan(name=name, classes=("circle", "square"), train=16, val=4, seed=seed + number)
        store.upload_file(str(demo_data.write_archive(plan, folder)), "datasets", name)
    store.put_object(Bucket="datasets", Key="broken/x.zip", Body=b"no zip")
    jpeg = cv2.imencode(".jpg", pictures(1)[0])[1].tobytes()
    store.put_object(Bucket="media", Key="pipe/a.jpg", Body=jpeg)


def children(run: UUID) -> list[FlowRun]:
    """The runs that a pipeline has started."""
    chosen = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"pipeline:{run}"]))
    with patient_client() as client:
        return client.read_flow_runs(flow_run_filter=chosen)


def title(run: FlowRun) -> str:
    """What a run that a pipeline has started does: `check a.zip`."""
    return run.name.partition(",")[0]
