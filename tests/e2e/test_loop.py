"""The loop on a stack: 40 labelled images and 160 without labels become a better champion; an oracle does the review.

It answers on the front page as a person does there: it keeps a suggestion that lies on a true object, under the true
class, refuses the others, and sets an image aside in which an object is missing.
"""

import io
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import pytest
from prefect.client.schemas.objects import FlowRun

from infra import demo_data
from infra.stack_settings import StackSettings
from tasks.dataset.label_origins import LABEL_ORIGINS, Origin, unpack_label_origins
from tasks.orchestration import deployed_flows
from tasks.vision.geometry import box_iou_matrix
from tests.clients import front_page
from tests.flows.pipelines import children, title
from tests.flows.steps import champion, served
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600)]

MODEL = "loop"
TRAINING = {"imgsz": 128, "batch": 8, "patience": 0, "rehearse": False}
Objects = list[tuple[str, tuple[float, float, float, float]]]  # class, and corners in pixels
Truth = dict[str, Objects]  # by address


def store_images(folder: Path) -> Truth:
    """Put 40 labelled images and 160 without labels into the buckets; returns what the latter show."""
    store = boto3.client("s3")
    plan = demo_data.ArchivePlan(name="loop.zip", classes=demo_data.CLASSES, train=24, val=16, seed=7)
    store.upload_file(str(demo_data.write_archive(plan, folder)), "datasets", plan.name)
    rng = np.random.default_rng(8)
    truth: Truth = {}
    for number in range(160):
        jpeg, shapes = demo_data.draw_image(rng, demo_data.CLASSES)
        key = f"loop/{number:03d}.jpg"
        store.put_object(Bucket="media", Key=key, Body=jpeg)
        truth[f"s3://media/{key}"] = [(name, (x - r, y - r, x + r, y + r)) for name, x, y, r in shapes]
    return truth


def review_as_an_oracle(page: httpx.Client, run: FlowRun, truth: Truth) -> Counter[str]:
    """Answer each image of a round; returns how many of each verdict there were, and how many objects stayed."""
    verdicts: Counter[str] = Counter()
    for number, answered in enumerate(page.get(f"/reviews/{run.id}/answered").raise_for_status().json()["answered"]):
        assert not answered
        image = page.get(f"/reviews/{run.id}/images/{number}").raise_for_status().json()
        verdict, kept = judge(image["shapes"], truth[image["name"]])
        body = {"verdict": verdict, "kept": kept, "seconds": 1.0}
        page.post(f"/reviews/{run.id}/answers/{number}", json=body).raise_for_status()
        verdicts.update({verdict: 1, "kept": len(kept)})
    return verdicts


def judge(shapes: list[dict[str, Any]], true: Objects) -> tuple[str, dict[str, str]]:
    """The verdict about an image, and the suggestions that stay, with their classes."""
    corners = np.array([[*each["rings"][0][0], *each["rings"][0][2]] for each in shapes], np.float32).reshape(-1, 4)
    overlaps = box_iou_matrix(corners, np.array([box for _, box in true], np.float32).reshape(-1, 4))
    kept: dict[str, str] = {}
    for column, (name, _) in enumerate(true):
        free = [row for row in range(len(shapes)) if str(row) not in kept and overlaps[row, column] >= 0.7]
        if not free:
            return "set_aside", {}
        kept[str(max(free, key=lambda row: overlaps[row, column]))] = name
    return "done", kept


def archives_of(run: FlowRun) -> dict[str, Counter[str]]:
    """The archives that a loop has made, and how many labels of each origin they tell."""
    store = boto3.client("s3")
    prefix = f"loops/{MODEL}/{str(run.id)[:8]}-"
    made = {}
    for each in store.list_objects_v2(Bucket="datasets", Prefix=prefix).get("Contents", []):
        data = store.get_object(Bucket="datasets", Key=each["Key"])["Body"].read()
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            origins = unpack_label_origins(file.read(LABEL_ORIGINS))
        made[each["Key"].removeprefix(prefix)] = Counter(
            row.origin.value for row in origins.rows if row.row is not None
        )
        assert all("/train/" in image for image in origins.pseudo_labelled)
    return made


def test_40_labelled_images_and_160_others_become_a_better_champion(stack: StackSettings, tmp_path: Path) -> None:
    truth = store_images(tmp_path)
    first = {"model_name": MODEL, "archives": ["loop.zip"], "base_model": "yolo11n.yaml", "promotion": {"min_map50": 0}}
    begun = deployed_flows.start("run-pipeline", first | {"training": {**TRAINING, "epochs": 100}})
    state = deployed_flows.wait(begun, 1500)
    assert (state.name, champion(MODEL)) == ("Completed", "1"), state

    parameters = {
        "model_name": MODEL,
        "inputs": ["loop/"],
        "base_model": "yolo11n.yaml",
        "labelling": {"precision": 0.8, "recall": 0.8},  # 16 validation images bear out no more
        "selection": {"images": 60},
        "review": {"tool": "front-page", "confidence": 0.1},
        "training": {**TRAINING, "epochs": 60},
    }
    loop = deployed_flows.start("close-loop", parameters)

    def waiting() -> FlowRun | None:
        ended = deployed_flows.require(loop).state
        assert ended is None or not ended.is_final(), ended
        found = (each for each in children(loop) if title(each) == f"review for {MODEL}")
        return next((each for each in found if each.state_name == "Suspended"), None)

    review: Any = eventually(waiting, "the review waits for people", 900, every_s=2)
    eventually(lambda: deployed_flows.require(loop).state_name == "Suspended", "the loop waits, too", 30)
    with front_page(stack) as page:
        verdicts = review_as_an_oracle(page, review, truth)
    state = deployed_flows.wait(loop, 1500)
    made = archives_of(deployed_flows.require(loop))
    print(f"verdicts {dict(verdicts)}, labels {made}: {state.message}")
    assert (state.name, champion(MODEL)) == ("Completed", "2"), state
    assert 2 in served(MODEL)
    assert 0 < made["reviewed.zip"][Origin.ACCEPTED.value] <= verdicts["kept"]
    assert {title(each) for each in children(loop)} >= {
        *(f"{part} {MODEL}" for part in ("label with", "select images for", "review for", "train")),
        f"deploy {MODEL} version 2",
    }
