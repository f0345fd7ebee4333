"""People with masks, hats and glasses as a segment model of 12 classes: boxes, class and polygon in one answer."""

from typing import Any

import boto3
import cv2
import httpx
import numpy as np
import pytest

from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.e2e import people
from tests.e2e.people import CLASSES, SIDE, Person

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600)]
TRAINING = {"epochs": 40, "imgsz": 160, "batch": 8, "rehearse": False}


def share_of_union(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two outlines [n, 2] in pixels."""
    masks = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(2)]
    for mask, outline in zip(masks, (one, other), strict=True):
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32).reshape(-1, 1, 2)], 1)
    return float((masks[0] & masks[1]).sum() / max((masks[0] | masks[1]).sum(), 1))


def corners(box: Any) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def best_for(person: Person, found: dict[str, Any]) -> int | None:
    """The place of the answer whose box covers a person best, if one covers it by more than 0.6."""
    overlaps = [share_of_union(corners(person.box), corners(box)) for box in found["boxes"]]
    best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
    return best if best is not None and overlaps[best] > 0.6 else None


def test_boxes_class_and_polygon_come_in_one_answer(stack: StackSettings) -> None:
    boto3.client("s3").put_object(Bucket="datasets", Key="people.zip", Body=people.archive(400, 40, seed=1))
    chosen: dict[str, object] = {"base_model": "yolo11n-seg.yaml", "training": TRAINING}
    trained = deployed_flows.wait(
        deployed_flows.start("train-model", {"model_name": "people", "archives": ["people.zip"], **chosen})
    )
    assert trained.is_completed(), trained
    deployed = deployed_flows.wait(deployed_flows.start("deploy-model", {"model_name": "people"}))
    assert deployed.is_completed(), deployed

    rng, total, boxes, classes, polygons = np.random.default_rng(99), 0, 0, 0, 0
    for _ in range(40):
        picture, everybody = people.draw(rng)
        address = f"http://127.0.0.1:{stack.live_port}/predict/people"
        found = httpx.post(address, content=people.jpeg(picture), timeout=60).raise_for_status().json()
        for person in everybody:
            total += 1
            place = best_for(person, found)
            if place is None:
                continue
            boxes += 1
            classes += found["labels"][place] == CLASSES[person.class_id]
            polygons += share_of_union(person.outline, np.array(found["polygons"][place])) > 0.8
    print(f"{trained.message}\nof {total} people: {boxes} boxes, {classes} with the class, {polygons} with the outline")
    assert boxes / total > 0.8
    assert classes / boxes > 0.4  # of 12: chance is 0.08
    assert polygons / boxes > 0.8
