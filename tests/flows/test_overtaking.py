"""A roll-back that does not wait for a deployment of the model: both run on the stack's worker."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.orchestration import deployed_flows
from tasks.serving import model_repository
from tasks.tracking import canaries
from tests.flows.registered import register
from tests.flows.steps import UNCOMPARED, aside, champion, deploy, served
from tests.flows.traffic import Traffic
from tests.waiting import eventually

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.timeout(600), pytest.mark.heavy]


def times(run: UUID) -> tuple[datetime, datetime]:
    """When a run began, and when it ended."""
    found = deployed_flows.require(run)
    assert found.start_time is not None
    assert found.end_time is not None
    return found.start_time, found.end_time


def overtake(name: str, version: int, serving: dict[str, Any], is_there: Callable[[], bool]) -> None:
    """Deploy a version while clients ask, and roll back to version 1 when the deployment has come so far."""
    with Traffic(name) as clients:
        offset = time.monotonic() - time.time()
        deploying = deployed_flows.start("deploy-model", {"model_name": name, "version": version, "serving": serving})
        eventually(is_there, "the deployment has come so far", 200, every_s=0.5)
        rolling = deployed_flows.start("rollback-model", {"model_name": name})
        rolled, cancelled = deployed_flows.wait(rolling), deployed_flows.wait(deploying)
    began, ended = times(rolling)
    seconds = clients.only_since(1) - (began.timestamp() + offset)
    print(f"\nin effect {seconds:.1f} s after Running, ended after {(ended - began).total_seconds():.1f} s")
    assert rolled.is_completed(), rolled
    assert cancelled.is_cancelled(), cancelled
    assert (champion(name), served(name), aside(name)) == ("1", [1], [])
    assert (clients.failures, clients.wrong) == ([], [])
    assert clients.versions == {"1", "2"}
    assert seconds < 15


def test_a_roll_back_is_in_effect_within_15_s_while_a_canary_goes_on(
    exported: str, weights: Path, sample: Path, graph: Path
) -> None:
    """The deployment is cancelled and cleans up; nobody gets an answer of a version that was not champion."""
    name = exported
    model_repository.publish_version.fn(name, register(name, weights, sample), graph)
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    serving = {"canary": {"share": 0.5, "minutes": 20}, **UNCOMPARED}
    overtake(name, 3, serving, lambda: canaries.find_canary.fn(name) is not None)


def test_a_roll_back_is_in_effect_within_15_s_while_a_deployment_drains(exported: str) -> None:
    """It waits for clients of the version before; nobody waits for it."""
    name = exported
    overtake(name, 2, {"drain_s": 300, **UNCOMPARED}, lambda: champion(name) == "2")
