"""Models that find more than boxes, from an archive to the answer that a live client gets, through the deployments."""

from typing import Any

import boto3
import httpx
import pytest
from prefect.client.schemas.objects import State

from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tasks.serving.model_control import list_served_versions
from tests.tasks.dataset.archives import zipped
from tests.tasks.merge.archives import dataset, picture, tree


def run(flow: str, **parameters: object) -> State:
    return deployed_flows.wait(deployed_flows.start(flow, parameters))


def ask(stack: StackSettings, model: str, jpeg: bytes, **parameters: str) -> dict[str, Any]:
    """The JSON of `predict`, as the little server of the live page passes it on."""
    address = f"http://127.0.0.1:{stack.live_port}/predict/{model}"
    answer: dict[str, Any] = httpx.post(address, content=jpeg, params=parameters, timeout=60).raise_for_status().json()
    return answer


@pytest.mark.heavy
@pytest.mark.parametrize(("task", "suffix"), [("segment", "seg"), ("classify", "cls")])
def test_a_model_of_another_task_is_trained_deployed_and_answers(stack: StackSettings, task: str, suffix: str) -> None:
    """Trained, registered, exported, compared with its weights, served, and asked; it has hardly learned anything."""
    archive, model = f"{task}.zip", f"whole-{task}"
    entries = tree(0) if task == "classify" else dataset(0, task=task)
    boto3.client("s3").put_object(Bucket="datasets", Key=archive, Body=zipped(entries))
    training = run(
        "train-model",
        model_name=model,
        archives=[archive],
        base_model=f"yolo11n-{suffix}.yaml",
        training={"epochs": 1, "imgsz": 64, "batch": 4, "rehearse": False},
        promotion={"min_map50": 0},
    )
    assert training.is_completed(), training
    deployment = run("deploy-model", model_name=model, serving={"drain_s": 1.0})
    assert deployment.is_completed(), deployment
    (served,) = list_served_versions(model)
    assert (served.task, served.image_size, served.class_names) == (task, 64, ("cat", "dog"))

    found = ask(stack, model, picture(3), confidence="0")
    assert (found["model"], found["version"], found["task"]) == (model, 1, task)
    assert (found["width"], found["height"]) == (96, 72)
    if task == "classify":
        assert set(found["labels"]) == {"cat", "dog"}
        assert sum(found["scores"]) == pytest.approx(1, abs=1e-3)
    else:
        assert len(found["boxes"]) == len(found["polygons"]) == len(found["labels"]) == len(found["scores"])
        assert set(found["labels"]) <= {"cat", "dog"}
