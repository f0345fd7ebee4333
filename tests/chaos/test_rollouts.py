"""Roll-backs and undeployments through their deployments, killed while they hold the lock of the model."""

import json
from uuid import UUID

import boto3
import pytest

from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.chaos.steps import FLOW, completed, kill, read, until
from tests.flows.steps import UNCOMPARED, aside, champion, deploy, served

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def has_lock(run: UUID, model: str) -> bool:
    store = boto3.client("s3")
    holder = json.loads(store.get_object(Bucket="runs", Key=f"locks/serving/{model}/holder")["Body"].read())
    return holder["holder"] == str(run) and not holder["released"]


@pytest.mark.parametrize("victim", [FLOW, "triton"])
@pytest.mark.parametrize(("flow", "left"), [("rollback-model", [1]), ("undeploy-model", [])])
def test_a_rollout_ends_right_whatever_is_killed(
    stack: StackSettings, model: str, flow: str, left: list[int], victim: str
) -> None:
    """Once: a roll-back that is tried again goes one version back, not two."""
    assert deploy(model, 2, **UNCOMPARED).is_completed()
    run = deployed_flows.start(flow, {"model_name": model})
    until(lambda: has_lock(run, model), "the run is at work on the model")
    assert read(run).state_name == "Running"
    kill(stack, victim, run)
    until(lambda: completed(run), "the run has completed")
    assert read(run).run_count == (2 if victim == FLOW else 1)
    assert (champion(model), served(model), aside(model)) == ("1" if left else "2", left, [])
