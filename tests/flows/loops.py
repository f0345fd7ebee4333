"""Loops that take minutes: a model that finds much without having learnt it, and images of which it is half sure."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import cv2
import httpx
from mlflow import MlflowClient
from prefect.client.schemas.objects import FlowRun

from infra import demo_data
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tasks.tracked_evaluation.validation import keep_validation
from tasks.tracking import registry
from tests.chaos.steps import processes, read, until
from tests.clients import front_page
from tests.flows import registered
from tests.flows.pipelines import children, title
from tests.tasks.evaluation.test_validation_matching import all_right

IMAGES = 24
REVIEWED = 3
TAKEN, DROPPED = 0.28, 0.26  # of what the model finds, some lies above, some between and some below
QUICK_LOOP: dict[str, Any] = {
    "base_model": "yolo11n.yaml",
    "labelling": {
        "take_from": dict.fromkeys(demo_data.CLASSES, TAKEN),
        "drop_below": dict.fromkeys(demo_data.CLASSES, DROPPED),
        "background": True,
    },
    "selection": {"images": REVIEWED, "strategy": "random"},
    "review": {"tool": "front-page", "confidence": 0.1},
    "training": {"epochs": 2, "imgsz": 64, "batch": 8, "rehearse": False},
    "promotion": {"min_map50": 0, "min_gain": -1, "max_class_drop": 1},  # however bad it is
    "serving": {"parity": None, "drain_s": 0},
}


def store_data(name: str, folder: Path) -> None:
    """Store images for a loop with a model that `store_archive` lets have one."""
    store_archive(name, folder)
    store = boto3.client("s3")
    for number, picture in enumerate(registered.pictures(IMAGES)):
        body = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
        store.put_object(Bucket="media", Key=f"{name}/{number:02d}.jpg", Body=body)


def store_archive(name: str, folder: Path) -> None:
    """Let version 1 of a model be trained on an archive that is there, and right in validation."""
    keep_validation(registry.find_version.fn(name, 1), all_right(demo_data.CLASSES))
    store, first = boto3.client("s3"), f"{name}-first.zip"
    plan = ArchivePlan(name=first, classes=demo_data.CLASSES, train=16, val=6, seed=4)
    store.upload_file(str(demo_data.write_archive(plan, folder)), "datasets", first)
    MlflowClient().set_model_version_tag(name, "1", "archives", json.dumps({first: "0" * 64}))


def start(name: str) -> UUID:
    """Start a loop with a model whose data `store_data` has stored."""
    return deployed_flows.start("close-loop", {"model_name": name, "inputs": [f"{name}/"], **QUICK_LOOP})


def part(loop: UUID, name: str) -> FlowRun | None:
    """The run of a loop that does this part."""
    return next((each for each in children(loop) if title(each) == name), None)


def waits(run: UUID) -> bool:
    """Whether it is suspended, and no process of it lives."""
    state = read(run).state
    assert state is None or not state.is_failed(), state
    return state is not None and state.name == "Suspended" and not processes(run)


def answer_all(stack: StackSettings, review: UUID) -> int:
    """Keep each suggestion in each image of a round, as its page does; returns how many images there are."""
    with front_page(stack) as page:
        answered = page.get(f"/reviews/{review}/answered").raise_for_status().json()["answered"]
        assert not any(answered), "nobody has answered yet"
        for number in range(len(answered)):
            image = page.get(f"/reviews/{review}/images/{number}").raise_for_status().json()
            kept = {str(at): shape["name"] for at, shape in enumerate(image["shapes"])}
            body = {"verdict": "done", "kept": kept, "seconds": 1.0}
            _has_posted(page, f"/reviews/{review}/answers/{number}", body)
        found = page.get(f"/reviews/{review}/answered").raise_for_status().json()["answered"]
        assert all(found), "each answer is kept, whatever becomes of the run"
        until(lambda: _has_posted(page, f"/reviews/{review}/resume"), "the run goes on")
    return len(answered)


def _has_posted(page: httpx.Client, path: str, body: Mapping[str, object] | None = None) -> bool:
    """Prefect may be away when the last answer is to have the run go on."""
    with contextlib.suppress(httpx.TransportError):
        return page.post(path, json=body).is_success
    return False
