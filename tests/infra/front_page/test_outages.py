"""Tabs while a service is away: they open all the same, and each panel names the service that it misses."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra import supervisord
from infra.stack_settings import StackSettings
from tests.clients import front_page
from tests.infra.front_page.in_process import NOBODY, ask
from tests.waiting import eventually


@pytest.fixture
def _no_services(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{NOBODY}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with temporary_settings({PREFECT_API_URL: f"http://{NOBODY}/api"}):
        yield


@pytest.mark.usefixtures("_no_services")
@pytest.mark.parametrize("path", ["/runs", "/registered-models", "/registered-models/model?name=shapes"])
def test_a_tab_opens_without_any_service(path: str) -> None:
    assert ask(path).status_code == 200


@pytest.mark.usefixtures("_no_services")
@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/runs/newest", "Prefect's server to answer"),
        ("GET", "/runs/older", "Prefect's server to answer"),
        ("POST", "/runs/7c9e6679-7425-40de-944b-e07fc1f90ae7/cancel", "Prefect's server to answer"),
        ("GET", "/runs/7c9e6679-7425-40de-944b-e07fc1f90ae7/mlflow?flow=train-model", "MLflow at"),
        ("GET", "/questions", "Prefect's server to answer"),
        ("GET", "/registered-models/list", "MLflow at"),
        ("GET", "/registered-models/versions?name=shapes", "MLflow at"),
        ("GET", "/registered-models/parity?name=shapes/1", "MLflow at"),
    ],
)
def test_a_panel_names_the_service_that_is_away(method: str, path: str, service: str) -> None:
    answer = ask(path, method)
    assert answer.status_code == 502
    assert service in answer.text.replace("&#39;", "'")
    assert 'role="alert"' in answer.text
    assert "<html" not in answer.text


@pytest.mark.timeout(300)
@pytest.mark.heavy
def test_a_tab_misses_a_service_that_dies_and_finds_it_again(stack: StackSettings) -> None:
    """Prefect's own client would try for a minute before it says anything."""
    with front_page(stack) as page:

        def runs() -> int:
            return page.get("/runs/newest").status_code

        assert runs() == 200
        with supervisord.connect(stack) as supervisor:
            supervisor.stopProcess("prefect")
            assert runs() == 502
            assert page.get("/registered-models/list").status_code == 200
            supervisor.startProcess("prefect")
        eventually(lambda: runs() == 200, "the list of runs", 120, every_s=1)
