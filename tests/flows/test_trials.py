"""A new version that is tried on a share of the runs of inference, before it may be the champion."""

import json
import threading
from uuid import uuid4

import boto3
import cv2
import pytest
from prefect.client.schemas.objects import State

from flows.run_inference import run_inference
from tasks.parameters import CanaryParams
from tasks.serving import canary_stats
from tasks.tracking import canaries
from tests.emitted import emitted
from tests.flows.registered import pictures
from tests.flows.steps import UNCOMPARED, aside, champion, deploy, everything, served

pytestmark = pytest.mark.usefixtures("stack")


def answer_for(name: str, version: int, images: int, detections: int) -> None:
    """What a run of inference says of the trial that goes on."""
    canary = canaries.find_canary.fn(name)
    assert canary is not None
    canary_stats.record_canary_stats(canary.flow_run_id, str(uuid4()), "0", version, images, detections)


def begin_trial(name: str, params: CanaryParams, states: list[State]) -> threading.Thread:
    """Deploy version 2 with a trial; returns when that goes on. How it ends comes into `states`."""
    deploying = threading.Thread(target=lambda: states.append(deploy(name, canary=params, **UNCOMPARED)))
    deploying.start()
    while canaries.find_canary.fn(name) is None and deploying.is_alive():
        threading.Event().wait(0.2)
    return deploying


@pytest.mark.heavy
@pytest.mark.parametrize(("found", "ended"), [(200, "COMPLETED"), (900, "FAILED")])
def test_a_canary_lets_the_version_in_or_fails_the_deployment(exported: str, found: int, ended: str) -> None:
    """The champion finds 2 in an image; a new version that finds 9 is not let in."""
    name, states = exported, list[State]()
    params = CanaryParams(share=0.5, minutes=5, images=100, max_slowdown=100)
    before = everything(name)
    deploying = begin_trial(name, params, states)
    assert (champion(name), served(name), aside(name)) == ("1", [1], [f"{name}.candidate"])
    answer_for(name, 1, 100, 200)
    answer_for(name, 2, 100, found)
    deploying.join()
    assert states[0].type.name == ended, states[0].message
    assert canaries.find_canary.fn(name) is None
    if ended == "FAILED":
        assert "within 50% of the champion's 2.00, found 9.00" in str(states[0].message)
        assert everything(name) == before
        payload = emitted("model.refused", f"version:{name}/2")["payload"]
        assert (payload["refused_by"], payload["reason"]) == ("canary", states[0].message)
    else:
        assert champion(name) == "2"


@pytest.fixture
def picture_prefix() -> str:
    """Ten pictures in bucket media."""
    prefix = f"trial-{uuid4().hex[:8]}/"
    for number, picture in enumerate(pictures(10)):
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        boto3.client("s3").put_object(Bucket="media", Key=f"{prefix}{number}.jpg", Body=jpeg)
    return prefix


@pytest.mark.heavy
def test_runs_of_inference_are_shared_out_and_decide(exported: str, picture_prefix: str) -> None:
    """Each run says which version answered; both are the same model here, so the new one gets in."""
    name, states, answered = exported, list[State](), set[str]()
    params = CanaryParams(share=0.5, minutes=5, images=10, min_images=10, max_slowdown=100)
    deploying = begin_trial(name, params, states)
    runs = 0
    while deploying.is_alive() and runs < 20:
        state = run_inference(name, [picture_prefix], return_state=True)
        assert state.is_completed(), state.message
        answered.add(str(version_of(str(state.state_details.flow_run_id))))
        runs += 1
    deploying.join()
    assert states[0].is_completed(), states[0].message
    assert answered == {"1", "2"}
    assert champion(name) == "2"


def version_of(run: str) -> int:
    """The version that a run's summary names."""
    body = boto3.client("s3").get_object(Bucket="predictions", Key=f"{run}/summary.json")["Body"].read()
    return int(json.loads(body)["model_version"])
