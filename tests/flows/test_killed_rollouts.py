"""Deployments, roll-backs and undeployments that are killed at each of their steps, while clients ask."""

import subprocess
import sys
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Crashed

from infra.settings import ROOT
from tasks.storage import repository
from tests.flows.registered import LiveClients
from tests.flows.steps import UNCOMPARED, champion, deploy, rollback, served, undeploy

pytestmark = [pytest.mark.usefixtures("stack"), pytest.mark.timeout(600)]

CONTROL, CONFIG = "tasks.serving.control.", "tasks.storage.repository.ConfigFile."
BEFORE_THE_ALIAS = [
    f"before {CONTROL}load_versions 1",
    f"after {CONTROL}load_versions 1",
    "after tasks.serving.asking.smoke_test 1",
    f"before {CONFIG}write 1",
    f"after {CONFIG}write 1",
    "before mlflow.MlflowClient.set_registered_model_alias 1",
]
AFTER_THE_ALIAS = [
    "after mlflow.MlflowClient.set_registered_model_alias 1",
    "after tasks.tracking.champions.crown 1",
    f"after {CONTROL}load_versions 2",
    f"after {CONTROL}drain 1",
    f"after {CONFIG}write 2",
    f"after {CONTROL}load_versions 3",
    "before tasks.tracking.champions.keep_history 1",
]


def killed(flow: str, model: str, version: int, place: str) -> None:
    """Run a flow that is killed at `place`, and say what a worker says of a process that is gone."""
    command = [sys.executable, "-m", "tests.flows.dying", flow, model, str(version), *place.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == -9, done.stderr[-2000:]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(done.stdout.split()[-1]), Crashed(message="its process is gone"), force=True)


@pytest.mark.parametrize("place", [pytest.param(place, marks=pytest.mark.heavy) for place in BEFORE_THE_ALIAS])
def test_killed_before_the_alias_moves_clients_have_the_old_version(exported: str, place: str) -> None:
    name = exported
    with LiveClients(name) as clients:
        killed("deploy", name, 2, place)
    assert (champion(name), clients.versions, clients.failures) == ("1", {"1"}, [])
    with LiveClients(name) as clients:
        assert deploy(name, 2, **UNCOMPARED).is_completed()
    assert (champion(name), served(name), clients.failures) == ("2", [2], [])


@pytest.mark.parametrize(
    "place",
    [pytest.param(place, marks=[] if "load_versions 2" in place else [pytest.mark.heavy]) for place in AFTER_THE_ALIAS],
)
def test_killed_after_the_alias_has_moved_the_next_roll_back_leads_back(exported: str, place: str) -> None:
    name = exported
    with LiveClients(name) as clients:
        killed("deploy", name, 2, place)
        assert champion(name) == "2"
        assert rollback(name).is_completed()
    assert (champion(name), served(name), clients.failures) == ("1", [1], [])
    assert 'string_value: "1"' in str(repository.ConfigFile(name).read())


@pytest.mark.heavy
@pytest.mark.parametrize("place", [BEFORE_THE_ALIAS[1], *AFTER_THE_ALIAS[:4]])
def test_a_killed_roll_back_is_done_by_the_next(exported: str, place: str) -> None:
    name = exported
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    with LiveClients(name) as clients:
        killed("rollback", name, 1, place)
        assert rollback(name, 1).is_completed()
    assert (champion(name), served(name), clients.failures) == ("1", [1], [])


@pytest.mark.heavy
@pytest.mark.parametrize(
    "place",
    [
        f"after {CONFIG}write 1",
        f"after {CONTROL}take_from_clients 1",
        f"before {CONTROL}unload 1",
        f"after {CONTROL}unload 1",
    ],
)
def test_a_killed_undeployment_is_done_by_the_next(exported: str, place: str) -> None:
    name = exported
    killed("undeploy", name, 0, place)
    assert undeploy(name).is_completed()
    assert (served(name), repository.ConfigFile(name).read()) == ([], None)
    assert deploy(name, 2, **UNCOMPARED).is_completed()
    assert (champion(name), served(name)) == ("2", [2])
