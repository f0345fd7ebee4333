"""The tab Health: what is wrong comes first, and the last day is drawn as it was."""

import re
import time

import httpx
import pytest
from prometheus_client.core import GaugeMetricFamily

from infra.front_page.graphs import HEIGHT, MOST_LINES, WIDTH, Graph, format_value
from infra.metrics.dashboards import DASHBOARDS, MICROSECONDS, Panel
from infra.metrics.exposition import Exposition
from infra.metrics.prometheus_history import Line
from infra.stack_settings import StackSettings
from tasks.orchestration import run_figures
from tests.clients import front_page
from tests.infra.front_page.in_process import ask

PANEL = Panel(title="Failures", queries={})
Values = dict[str, dict[tuple[str, ...], float]]
WELL: Values = {
    "studio_source_up": {("prefect",): 1, ("triton",): 1, ("machine",): 1, ("backup",): 1},
    "studio_workers_online": {(): 1},
    "studio_flow_runs": {("train-model", "running"): 1},
    "studio_queue_oldest_wait_seconds": {("serving",): 60, ("training",): 20_000},
    "studio_champion_version": {("shapes",): 2},
    "studio_served_version": {("shapes",): 2},
    "studio_disk_free_bytes": {("state",): 50},
    "studio_disk_size_bytes": {("state",): 100},
    "studio_last_backup_timestamp_seconds": {(): time.time() - 5 * 3600},
    "studio_backup_limit_seconds": {(): 24 * 3600},
    "studio_worker_token_end_timestamp_seconds": {("gpu-7",): time.time() + 15 * 24 * 3600},
    "studio_key_rotation_stalled_seconds": {(): 300},
}


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> "Show":
    return Show(monkeypatch)


class Show:
    """The page with these metrics, in place of those of services."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __call__(self, values: Values) -> str:
        families = []
        for name, samples in values.items():
            families.append(family := GaugeMetricFamily(name, "", labels=["a", "b"][: len(next(iter(samples)))]))
            for labels, value in samples.items():
                family.add_metric(labels, value)
        self._patch.setattr(Exposition, "collect", lambda _: families)
        return ask("/health/now").text


def problems(text: str) -> list[str]:
    return [re.sub(r"<[^>]*>", "", item).strip() for item in re.findall(r"<li.*?</li>", text, re.DOTALL)]


def test_nothing_is_wrong_if_nothing_is(show: Show) -> None:
    text = show(WELL)
    assert (problems(text), "Nothing is wrong" in text) == ([], True)
    assert "<dt>Runs that are running</dt><dd>1</dd>" in text
    assert re.search(r"<dt>Last backup</dt><dd>5(\.\d)? h old</dd>", text)  # since these tests were collected


@pytest.mark.parametrize("gone", ["studio_last_backup_timestamp_seconds", "studio_backup_limit_seconds"])
def test_no_backup_and_no_limit_of_its_age_are_no_problem(show: Show, gone: str) -> None:
    long_ago = WELL | {"studio_last_backup_timestamp_seconds": {(): 0}}
    text = show({name: values for name, values in long_ago.items() if name != gone})
    assert problems(text) == []
    assert ("<dd>none is known</dd>" in text) == (gone == "studio_last_backup_timestamp_seconds")


@pytest.mark.parametrize(
    ("name", "labels", "value", "told"),
    [
        ("studio_source_up", ("store",), 0, "wrong store does not answer"),
        ("studio_workers_online", (), 0, "wrong No worker takes runs"),
        ("studio_served_version", ("shapes",), 1, "wrong Version 2 of shapes is the champion"),
        ("studio_disk_free_bytes", ("state",), 5, "wrong The disk of state has 5% left"),
        ("studio_last_backup_timestamp_seconds", (), 0, "wrong The last backup is"),
        ("studio_worker_token_end_timestamp_seconds", ("gpu-7",), 0, "wrong The token of worker gpu-7 has ended"),
        ("studio_key_rotation_stalled_seconds", (), 900, "wrong A rotation of the keys has not gone on for 15 min"),
        ("studio_queue_oldest_wait_seconds", ("serving",), 7200, "look at it A run of queue serving is due for 2 h"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(
    show: Show, name: str, labels: tuple[str, ...], value: float, told: str
) -> None:
    (problem,) = problems(show(WELL | {name: WELL[name] | {labels: value}}))
    assert problem.startswith(told)
    assert len(re.findall(r"[.:] ", problem)) >= 1


def test_a_token_of_a_worker_that_will_end_is_told_two_weeks_before(show: Show) -> None:
    soon: Values = {"studio_worker_token_end_timestamp_seconds": {("gpu-7",): time.time() + 13.5 * 24 * 3600}}
    (problem,) = problems(show(WELL | soon))
    assert problem.startswith("look at it The token of worker gpu-7 ends in 13 d"), problem


def test_a_service_that_is_away_is_one_problem(show: Show) -> None:
    """Not also a champion that Triton does not serve."""
    away = {name: values for name, values in WELL.items() if name != "studio_served_version"}
    (problem,) = problems(show(away | {"studio_source_up": {("prefect",): 1, ("triton",): 0}}))
    assert "triton does not answer" in problem


def test_a_name_of_a_model_is_text(show: Show) -> None:
    assert "<b>" not in show(WELL | {"studio_served_version": {("<b>",): 1, ("shapes",): 2}})


def test_without_prometheus_the_last_day_is_that_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_URL", raising=False)
    monkeypatch.setattr(run_figures, "list_ended", lambda _: [])
    text = ask("/health/day").text
    assert (text.count("<figure"), "make up METRICS=1" in text) == (1, True)


def test_a_prometheus_that_is_away_is_told(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", "http://127.0.0.1:1")
    (problem,) = problems(show(WELL))
    assert "Expected Prometheus at http://127.0.0.1:1" in problem
    assert ask("/health/day").status_code == 502


def test_the_page_shows_the_main_panels_of_all_dashboards(stack: StackSettings, prometheus: httpx.Client) -> None:  # noqa: ARG001
    with front_page(stack) as page:
        text = page.get("/health/day").raise_for_status().text
        assert page.get("/health/now").is_success
    titles = [panel.title for dashboard in DASHBOARDS for panel in dashboard.panels if panel.summary]
    assert re.findall(r"<figcaption>(.*?) <", text) == titles
    assert 'class="line-0"' in text, "the memory of this machine is not 0"


def test_a_graph_goes_from_the_beginning_to_now_and_from_0_to_its_top() -> None:
    graph = Graph.of(PANEL, [Line(name="a", points=[(100, 0), (150, 4), (200, 2)])], 100, 100)
    (line,) = graph.lines
    assert line.points == f"0.0,{HEIGHT}.0 {WIDTH / 2},0.0 {WIDTH}.0,{HEIGHT / 2}"
    assert (line.now, graph.top) == ("2", "4")


def test_a_graph_shows_the_highest_lines_and_none_that_is_always_0() -> None:
    lines = [Line(name=f"model {number}", points=[(0, number)]) for number in range(MOST_LINES + 3)]
    graph = Graph.of(PANEL, lines, 0, 1)
    assert [line.name for line in graph.lines] == [f"model {number}" for number in range(MOST_LINES + 2, 2, -1)]
    assert graph.left_out == 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.256, "percentunit", "26%"),
        (90, "s", "90 s"),
        (7200, "s", "2 h"),
        (3 * 86_400, "s", "3 days"),
        (2500, MICROSECONDS, "2.5 ms"),
        (2496, "s", "42 min"),
        (0.25, "reqps", "0.25/s"),
        (9.01, "short", "9"),
        (1e-9, "short", "0"),
        (12_345, "short", "12,345"),
    ],
)
def test_values_are_told_with_their_unit(value: float, unit: str, text: str) -> None:
    assert format_value(value, unit) == text
