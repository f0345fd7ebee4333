"""Deployments, roll-backs and undeployments that are killed, or lose Triton, at each step, while clients ask."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from subprocess import DEVNULL, PIPE
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Crashed

from flows.deploy_model import deploy_model
from flows.rollback_model import rollback_model
from infra.stack_settings import ROOT, StackSettings
from tasks.parameters import ServingParams
from tasks.serving import model_repository
from tasks.serving.http_client import ServingError
from tests.chaos.steps import kill_service
from tests.flows.steps import COMPARED, QUICK, UNCOMPARED, aside, champion, deploy, rollback, served, undeploy
from tests.flows.traffic import TOLERANCE_S, Traffic

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.timeout(600), pytest.mark.heavy]

STOPPED = [sys.executable, "-m", "tests.flows.dying"]
CONTROL, CONFIG, CHAMPIONS = (
    "tasks.serving.model_control.",
    "tasks.serving.model_repository.ConfigFile.",
    "tasks.tracking.champions.",
)
ALIAS = "mlflow.MlflowClient.set_registered_model_alias"
WHILE_IT_IS_TRIED = [
    f"before {CONTROL}load_aside 1",
    f"after {CONTROL}load_aside 1",
    "after tasks.serving.grpc_client.smoke_test 1",
    f"after {CHAMPIONS}announce_champion 1",
    f"before {CONTROL}load_versions 1",
]
WHILE_PRECISIONS_ARE_TRIED = [
    f"before {CONTROL}load_aside 2",
    f"after {CONTROL}load_aside 2",
    "after tasks.deployment.precision.predict_in_turns 1",
    "after tasks.deployment.precision.predict_reference 1",
    "after tasks.deployment.gates.tag_version 1",
]
BETWEEN_TRITON_AND_THE_ALIAS = [f"after {CONTROL}load_versions 1", f"after {CONFIG}write 1", f"before {ALIAS} 1"]
AFTER_THE_ALIAS = [
    f"after {ALIAS} 1",
    f"after {CHAMPIONS}set_champion 1",
    f"before {CHAMPIONS}tag_champion_dates 1",
    f"before {CONTROL}serve_alone 1",
    f"after {CONTROL}serve_alone 1",
]


def killed(flow: str, model: str, version: int, place: str) -> UUID:
    """Run a flow that is killed at `place`, and say what a worker says of a process that is gone; its flow run."""
    command = [*STOPPED, flow, model, str(version), "killed", place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -9, done.stderr[-2000:]
    run = UUID(done.stdout.split()[-1])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Crashed(message="its process is gone"), force=True)
    return run


def again(flow: str, model: str, run: UUID) -> Any:
    """Try a flow run again, as a worker does that is given it back."""
    parameters: dict[str, Any] = {"model_name": model}
    if flow == "deploy":
        parameters["serving"] = ServingParams.model_validate(QUICK | UNCOMPARED)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, AwaitingRetry(scheduled_time=datetime.now(UTC)), force=True)
        found = client.read_flow_run(run)
    story: Any = deploy_model if flow == "deploy" else rollback_model
    state: Any = run_flow(story, flow_run=found, parameters=parameters, return_type="state")
    return state


def assert_served(name: str, version: int, clients: Traffic) -> None:
    """One version is left, clients had no failure, and none was answered by another than the champion."""
    assert (champion(name), served(name), aside(name)) == (str(version), [version], [])
    assert f'string_value: "{version}"' in str(model_repository.ConfigFile(name).read())
    assert (clients.failures, clients.wrong) == ([], [])


@pytest.mark.parametrize(
    ("change", "serving", "place"),
    [
        *(("deploy", UNCOMPARED, place) for place in WHILE_IT_IS_TRIED),
        *(("compare", COMPARED, place) for place in WHILE_PRECISIONS_ARE_TRIED),
    ],
)
def test_killed_while_it_is_tried_clients_have_the_champion(
    exported: str, change: str, serving: dict[str, Any], place: str
) -> None:
    """And the next deployment finds nothing of what was tried, in one precision or in several."""
    name = exported
    with Traffic(name) as clients:
        killed(change, name, 2, place)
    assert (champion(name), clients.versions) == ("1", {"1"})
    with Traffic(name) as clients:
        assert deploy(name, 2, **serving).is_completed()
    assert_served(name, 2, clients)


@pytest.mark.parametrize("place", ["before", "after"])
def test_killed_while_a_graph_of_int8_is_written_the_next_deployment_serves_it(exported: str, place: str) -> None:
    name = exported
    killed("int8", name, 2, f"{place} tasks.deployment.rollout.publish_precision 1")
    assert (champion(name), served(name)) == ("1", [1])
    assert deploy(name, 2, precision="int8", **UNCOMPARED).is_completed()
    assert (champion(name), served(name), aside(name)) == ("2", [2], [])


@pytest.mark.parametrize("place", WHILE_PRECISIONS_ARE_TRIED[1:2])
def test_a_deployment_that_tries_precisions_goes_on_when_triton_is_back(
    stack: StackSettings, exported: str, place: str
) -> None:
    name = exported
    command = [*STOPPED, "compare", name, "2", "held", place]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as deployment:
        assert deployment.stdout is not None
        run = UUID(deployment.stdout.readline().strip())
        kill_service(stack, "triton")
        deployment.communicate("\n", timeout=300)
    assert_completed(run)
    assert (champion(name), served(name), aside(name)) == ("2", [2], [])


@pytest.mark.parametrize("place", BETWEEN_TRITON_AND_THE_ALIAS)
def test_killed_between_triton_and_the_alias_the_alias_follows(exported: str, place: str) -> None:
    """All clients have the new version, which was found good, from one moment on. The next rollout moves the alias
    first: the version that it finds served is the one that a roll-back leads away from.
    """
    name = exported
    with Traffic(name) as clients:
        killed("deploy", name, 2, place)
        at = time.monotonic() + TOLERANCE_S  # `predict` looks up once a second who is champion
        time.sleep(3)
    assert (champion(name), clients.failures) == ("1", [])
    assert {answer.version for answer in clients.answers if answer.began > at} == {2}
    with Traffic(name) as clients:
        assert rollback(name).is_completed()
    assert (champion(name), served(name), aside(name), clients.failures) == ("1", [1], [], [])


@pytest.mark.parametrize("place", AFTER_THE_ALIAS)
def test_killed_after_the_alias_has_moved_the_next_roll_back_leads_back(exported: str, place: str) -> None:
    name = exported
    with Traffic(name) as clients:
        killed("deploy", name, 2, place)
        assert champion(name) == "2"
        assert rollback(name).is_completed()
    assert_served(name, 1, clients)


@pytest.mark.parametrize(
    "place",
    [f"before {CONTROL}load_versions 1", *AFTER_THE_ALIAS],
)
def test_a_killed_roll_back_is_done_by_the_next(exported: str, place: str) -> None:
    name = exported
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    with Traffic(name) as clients:
        killed("rollback", name, 1, place)
        assert rollback(name, 1).is_completed()
    assert_served(name, 1, clients)


@pytest.mark.parametrize("flow", ["deploy", "rollback"])
@pytest.mark.parametrize("place", [*BETWEEN_TRITON_AND_THE_ALIAS, *AFTER_THE_ALIAS])
def test_a_killed_run_that_is_tried_again_does_what_it_was_to_do(exported: str, flow: str, place: str) -> None:
    """Also where no version was named: not one further."""
    name = exported
    if flow == "rollback":
        assert deploy(name, 2, **UNCOMPARED).is_completed()
    run = killed(flow, name, 0, place)
    with Traffic(name) as clients:
        assert again(flow, name, run).is_completed()
    assert (champion(name), served(name), aside(name)) == (("2", [2], []) if flow == "deploy" else ("1", [1], []))
    assert clients.failures == []


def test_a_killed_run_that_is_tried_again_gives_way_to_who_came_after_it(exported: str) -> None:
    """Somebody has rolled back before a worker gave the deployment back."""
    name = exported
    run = killed("deploy", name, 0, AFTER_THE_ALIAS[0])
    assert rollback(name).is_completed()
    state = again("deploy", name, run)
    assert "nobody has changed what is served" in str(state.message)
    assert (champion(name), served(name), aside(name)) == ("1", [1], [])


@pytest.mark.parametrize(
    "place",
    [f"before {CONFIG}write 1", f"after {CONFIG}write 1", f"before {CONTROL}unload 1", f"after {CONTROL}unload 1"],
)
def test_a_killed_undeployment_is_done_by_the_next(exported: str, place: str) -> None:
    name = exported
    killed("undeploy", name, 0, place)
    assert undeploy(name).is_completed()
    assert (served(name), model_repository.ConfigFile(name).read()) == ([], None)
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    assert (champion(name), served(name)) == ("2", [2])


@pytest.mark.parametrize("place", [*WHILE_IT_IS_TRIED[1:], *BETWEEN_TRITON_AND_THE_ALIAS[1:], *AFTER_THE_ALIAS])
def test_triton_killed_too_serves_champions_alone(stack: StackSettings, exported: str, place: str) -> None:
    """At the same step: what it serves when it is back is what clients had, and nothing that is only tried."""
    name = exported
    with Traffic(name, patience=60) as clients:
        killed("deploy", name, 2, place)
        kill_service(stack, "triton")
        wait_until_served(name)
    expected = 1 if place in WHILE_IT_IS_TRIED else 2
    assert served(name) == [expected]
    assert clients.failures == []
    if place not in BETWEEN_TRITON_AND_THE_ALIAS:
        assert clients.wrong == []
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    assert (champion(name), served(name), aside(name)) == ("2", [2], [])


@pytest.mark.parametrize(
    "place", [*WHILE_IT_IS_TRIED[1:], BETWEEN_TRITON_AND_THE_ALIAS[0], AFTER_THE_ALIAS[0], AFTER_THE_ALIAS[-1]]
)
def test_a_deployment_goes_on_when_triton_is_back(stack: StackSettings, exported: str, place: str) -> None:
    """Wherever Triton is killed under it: it loads the candidate again, or makes it the champion again."""
    name = exported
    command = [*STOPPED, "deploy", name, "2", "held", place]
    with (
        Traffic(name, patience=60) as clients,
        subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as deployment,
    ):
        assert deployment.stdout is not None
        run = UUID(deployment.stdout.readline().strip())
        kill_service(stack, "triton")
        deployment.communicate("\n", timeout=300)
        wait_until_served(name)
    assert_completed(run)
    assert_served(name, 2, clients)


@pytest.mark.parametrize(
    ("flow", "victim", "place"),
    [
        *(
            (flow, victim, "before tasks.tracking.canaries.end_canary 1")
            for flow in ("deploy", "rollback", "undeploy")
            for victim in ("triton", "object-store", "mlflow")
        ),
        *(
            ("deploy", "object-store", place)
            for place in (WHILE_IT_IS_TRIED[0], *BETWEEN_TRITON_AND_THE_ALIAS, AFTER_THE_ALIAS[-1])
        ),
    ],
)
def test_a_rollout_goes_on_when_a_service_is_back(
    stack: StackSettings, exported: str, flow: str, victim: str, place: str
) -> None:
    """Whatever it asks next."""
    name = exported
    if flow == "rollback":
        assert deploy(name, 2, **UNCOMPARED).is_completed()
    command = [*STOPPED, flow, name, "0", "held", place]
    with subprocess.Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as rollout:
        assert rollout.stdout is not None
        run = UUID(rollout.stdout.readline().strip())
        kill_service(stack, victim)
        rollout.communicate("\n", timeout=300)
    assert_completed(run)
    number, left = {"deploy": ("2", [2]), "rollback": ("1", [1]), "undeploy": ("1", [])}[flow]
    assert (champion(name), served(name), aside(name)) == (number, left, [])


def assert_completed(run: UUID) -> None:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    assert state is not None
    assert state.is_completed(), (state.name, state.message)


def wait_until_served(name: str) -> None:
    deadline = time.monotonic() + 60
    while not is_served(name):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def is_served(name: str) -> bool:
    try:
        return bool(served(name))
    except ServingError:
        return False
