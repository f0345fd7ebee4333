"""Which role a request needs: every route of the real applications is classed, and what nobody classed is admins'."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.accounts.permissions import Part, locate, need_of
from infra.accounts.roles import UserRole

ROUTES = Path(__file__).with_name("routes")
ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


def classed(part: str) -> dict[str, UserRole]:
    """The list: by method and path the role."""
    lines = (ROUTES / f"{part}.txt").read_text().splitlines()
    return {line.partition(" ")[2]: UserRole.parse(line.partition(" ")[0]) for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["prefect", "mlflow"])
def test_every_route_of_the_real_application_is_classed_by_a_person(part: str, tmp_path: Path) -> None:
    """A release with a new route fails here until somebody has looked at it."""
    command = [sys.executable, "-m", "tests.infra.accounts.routes_of", part]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), "PYTHONPATH": "."}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120).stdout
    found = {line for line in printed.splitlines() if " /" in line}
    assert found == classed(part).keys()


@pytest.mark.parametrize("part", ["prefect", "mlflow"])
def test_the_tables_give_each_route_the_role_of_the_list(part: str) -> None:
    wrong = {}
    for line, role in classed(part).items():
        method, path = re.sub(r"\{[^}]*\}", ID, line).split(" ", 1)
        for prefix in ("/api/2.0", "/ajax-api/3.0") if part == "mlflow" else ("/api",):
            found = need_of(part, method, re.sub("^/api(?=/)", prefix, path)).role
            if found != role:
                wrong[method, path] = str(found)
    assert not wrong


@pytest.mark.parametrize(
    ("part", "method", "path"),
    [
        ("prefect", "POST", "/api/a-part-of-the-next-release/filter"),
        ("prefect", "DELETE", "/prefect/anything"),
        ("prefect", "POST", "/"),
        ("prefect", "POST", "/api//flow_runs/filter"),
        ("prefect", "POST", "/api/block_documents/../flow_runs/filter"),
        ("prefect", "POST", "/api/flow_runs/filter\n"),
        ("prefect", "GET", "/api"),
        ("prefect", "OPTIONS", "/api/flow_runs/filter"),
        ("mlflow", "POST", "/api/2.0/mlflow/runs/search/more"),
        ("mlflow", "GET", "/studio/deleted"),
        ("mlflow", "GET", "/ajax-api/2.0/mlflow/users/list"),
        ("studio", "GET", "/accounts"),
        ("studio", "POST", "/accounts/ada/role"),
        ("studio", "GET", "/audit"),
        ("studio", "TRACE", "/datasets"),
        ("s3", "GET", "/"),
    ],
)
def test_what_is_not_in_the_tables_is_for_admins(part: str, method: str, path: str) -> None:
    assert need_of(part, method, path).role is UserRole.ADMIN


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/datasets", UserRole.VIEWER),
        ("HEAD", "/datasets", UserRole.VIEWER),
        ("POST", "/predict/shapes", UserRole.VIEWER),
        ("POST", "/account/password", UserRole.VIEWER),
        ("POST", "/start/train-model", UserRole.OPERATOR),
        ("DELETE", "/uploads", UserRole.OPERATOR),
    ],
)
def test_a_viewer_looks_and_an_operator_acts_on_the_front_page(method: str, path: str, role: UserRole) -> None:
    assert need_of(Part.STUDIO, method, path).role is role


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/deployments/"),
        ("PATCH", f"/api/deployments/{ID}"),
        ("PATCH", "/api/work_pools/gpu"),
        ("POST", "/api/automations/"),
        ("POST", "/api/block_documents/"),
        ("GET", "/api/block_documents/" + ID),
        ("DELETE", f"/api/flow_runs/{ID}"),
        ("POST", "/api/variables/"),
        ("GET", "/api/variables/name/vault"),
        ("GET", "/api/admin/settings"),
    ],
)
def test_a_worker_changes_neither_deployments_nor_pools_nor_what_they_read(method: str, path: str) -> None:
    assert not need_of("prefect", method, path).is_met_by(UserRole.WORKER)


@pytest.mark.parametrize(
    ("part", "method", "path"),
    [
        ("prefect", "POST", f"/api/flow_runs/{ID}/resume"),
        ("prefect", "POST", f"/api/deployments/{ID}/pause_deployment"),
        ("prefect", "PATCH", f"/api/deployments/{ID}/schedules/{ID}"),
        ("mlflow", "POST", "/api/2.0/mlflow/registered-models/set-tag"),
        ("studio", "POST", "/start/train-model"),
        ("studio", "POST", f"/questions/{ID}"),
        ("studio", "DELETE", "/uploads"),
    ],
)
def test_a_worker_decides_nothing_in_the_place_of_people(part: str, method: str, path: str) -> None:
    need = need_of(part, method, path)
    assert need.is_met_by(UserRole.OPERATOR)
    assert not need.is_met_by(UserRole.WORKER)


def test_a_worker_starts_runs_and_says_how_they_go() -> None:
    for method, path in (
        ("POST", f"/api/deployments/{ID}/create_flow_run"),
        ("PATCH", f"/api/flow_runs/{ID}"),
        ("POST", f"/api/flow_runs/{ID}/set_state"),
        ("POST", "/api/logs/"),
        ("GET", f"/api/flow_runs/{ID}"),
    ):
        assert need_of("prefect", method, path).is_met_by(UserRole.WORKER)


@pytest.mark.parametrize(
    ("path", "part", "inner"),
    [
        ("/prefect/api/flow_runs/filter", Part.PREFECT, "/api/flow_runs/filter"),
        ("/prefect/", Part.PREFECT, "/"),
        ("/prefect", Part.PREFECT, "/"),
        ("/mlflow/graphql", Part.MLFLOW, "/graphql"),
        ("/prefectly/x", Part.STUDIO, "/prefectly/x"),
        ("/", Part.STUDIO, "/"),
    ],
)
def test_the_path_says_the_part(path: str, part: Part, inner: str) -> None:
    assert locate(path) == (part, inner)
