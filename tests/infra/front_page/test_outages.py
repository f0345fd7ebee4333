"""Tabs while a service is away: they open all the same, and each panel names the service that it misses."""

import asyncio

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from starlette.applications import Starlette

from infra.front_page.access import token
from infra.front_page.application import Services, application
from infra.stack_settings import USER
from tests.stack_environment import CLOSED

PASSWORD = "secret"
NOBODY = f"127.0.0.1:{CLOSED}"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Starlette:
    """The front page, whose services are all away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{NOBODY}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return application(Services(triton_url=NOBODY, triton_key="", password=PASSWORD, store_url=f"http://{NOBODY}"))


def ask(app: Starlette, path: str, method: str = "GET") -> httpx.Response:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            auth=(USER, PASSWORD),
            headers={"HX-Request": "true", "X-Studio-Token": token(PASSWORD)},
        ) as client:
            return await client.request(method, path)

    with temporary_settings({PREFECT_API_URL: f"http://{NOBODY}/api"}):
        return asyncio.run(answer())


@pytest.mark.parametrize("path", ["/runs", "/registered-models", "/registered-models/model?name=shapes"])
def test_a_tab_opens_without_any_service(app: Starlette, path: str) -> None:
    assert ask(app, path).status_code == 200


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
def test_a_panel_names_the_service_that_is_away(app: Starlette, method: str, path: str, service: str) -> None:
    answer = ask(app, path, method)
    assert answer.status_code == 502
    assert service in answer.text.replace("&#39;", "'")
    assert 'role="alert"' in answer.text
    assert "<html" not in answer.text
