"""`/metrics`: who reads it, and that services which are away are told, not an error."""

import asyncio
import re

import httpx
import pytest

from infra.front_page.access import token
from infra.front_page.application import Services, application
from infra.metrics.live_source import LiveSource
from infra.stack_settings import USER, StackSettings
from tests.clients import front_page
from tests.infra.front_page.in_process import NOBODY, PASSWORD
from tests.infra.metrics.programs import needs_promtool, promtool

TOKEN = "scraper"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def scrape(metrics_token: str = TOKEN, path: str = "/metrics", **asked: object) -> httpx.Response:
    """What the page answers where no service is."""
    services = Services(
        triton_url=NOBODY, triton_key="", password=PASSWORD, store_url=f"http://{NOBODY}", metrics_token=metrics_token
    )

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(application(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, **asked)  # type: ignore[arg-type]

    return asyncio.run(answer())


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"Authorization": "Bearer "}},
        {"headers": {"Authorization": f"Bearer {PASSWORD}"}},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"headers": {"X-Studio-Token": token(PASSWORD)}},
        {"params": {"token": TOKEN}},
        {"auth": (USER, TOKEN)},
        {"auth": ("scraper", PASSWORD)},
    ],
)
def test_metrics_need_their_token_or_the_password(asked: dict[str, object]) -> None:
    answer = scrape(**asked)  # type: ignore[arg-type]
    assert (answer.status_code, "studio_" in answer.text) == (401, False)


def test_a_live_prediction_that_fails_is_counted_apart_from_one_that_is_refused() -> None:
    source = LiveSource()
    for status in (200, 200, 400, 413, 500, 502):
        source.count(status)
    samples = [sample for metric in source.read() for sample in metric.samples]
    assert {each.labels["outcome"]: each.value for each in samples} == {"answered": 2, "refused": 2, "failed": 2}


def test_without_a_token_there_is_none() -> None:
    assert scrape("", headers={"Authorization": "Bearer "}).status_code == 401


def test_the_token_of_metrics_opens_nothing_else() -> None:
    assert scrape(path="/runs", headers=BEARER).status_code == 401


def test_services_that_are_away_are_told_and_their_metrics_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{NOBODY}")
    monkeypatch.setenv("TRITON_HTTP_URL", NOBODY)
    answer = scrape(headers=BEARER)
    assert answer.status_code == 200
    up = {source: f'studio_source_up{{source="{source}"}} 0.0' for source in ("mlflow", "triton")}
    assert {source for source, line in up.items() if line not in answer.text} == set()
    assert 'studio_source_up{source="machine"} 1.0' in answer.text
    assert not re.search("studio_(champion|served)", answer.text)
    assert 'studio_disk_free_bytes{place="state"}' in answer.text


@needs_promtool
def test_prometheus_finds_no_fault_in_the_names(stack: StackSettings) -> None:
    with front_page(stack) as page:
        text = page.get("/metrics").raise_for_status().text
    assert promtool("check", "metrics", stdin=text) == ""
