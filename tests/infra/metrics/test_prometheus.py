"""Prometheus and Alertmanager in the stack: all is scraped, and their doors are closed."""

import base64

import httpx
import psutil
import pytest

from infra import supervisord
from infra.stack_settings import USER, StackSettings
from tests.waiting import eventually

FOREIGN = {"Origin": "http://evil.example"}
AT_PROMETHEUS = [
    *(("GET", path) for path in ("/", "/metrics", "/-/ready", "/api/v1/query?query=up", "/api/v1/status/config")),
    *(("GET", path) for path in ("/federate?match[]=up", "/debug/pprof/", "/consoles/", "/api/v1/alerts")),
    *(("POST", path) for path in ("/-/quit", "/-/reload", "/api/v1/write", "/api/v1/admin/tsdb/snapshot")),
]
AT_ALERTMANAGER = [
    *(("GET", path) for path in ("/", "/metrics", "/-/ready", "/api/v2/alerts", "/api/v2/status", "/debug/pprof/")),
    *(("POST", path) for path in ("/api/v2/silences", "/api/v2/alerts", "/-/reload")),
    ("DELETE", "/api/v2/silence/00000000-0000-0000-0000-000000000000"),
]


@pytest.fixture
def doors(stack: StackSettings, prometheus: httpx.Client) -> dict[str, tuple[str, list[tuple[str, str]]]]:  # noqa: ARG001
    """Of each service its password, and what it has, by its address."""
    return {
        f"http://127.0.0.1:{stack.prometheus_port}": (stack.secrets["prometheus"], AT_PROMETHEUS),
        f"http://127.0.0.1:{stack.alertmanager_port}": (stack.secrets["alertmanager"], AT_ALERTMANAGER),
    }


def test_everything_is_scraped(prometheus: httpx.Client) -> None:
    def health() -> dict[str, str]:
        targets = prometheus.get("/api/v1/targets").raise_for_status().json()["data"]["activeTargets"]
        found = {each["labels"]["job"]: each["health"] + each["lastError"] for each in targets}
        return found if "unknown" not in found.values() else {}

    jobs = ("studio", "triton", "prefect", "prometheus", "alertmanager")
    assert eventually(health, "scrapes of all jobs", 40) == dict.fromkeys(jobs, "up")


def test_nothing_answers_without_its_own_password(doors: dict[str, tuple[str, list[tuple[str, str]]]]) -> None:
    answers = {}
    with httpx.Client() as client:
        for (address, (password, paths)), (other, _) in zip(doors.items(), reversed(doors.values()), strict=True):
            for auth in (None, (USER, ""), ("admin", password), (USER, other)):
                for method, path in paths:
                    asked = client.request(method, f"{address}{path}", auth=auth)
                    answers[address, method, path, auth] = asked.status_code
    assert {each: status for each, status in answers.items() if status != 401} == {}


def test_a_page_of_another_site_reads_no_answer_and_silences_nothing(
    doors: dict[str, tuple[str, list[tuple[str, str]]]],
) -> None:
    """Even if its user is signed in, and the browser sends the password along."""
    for address, (password, _) in doors.items():
        for path in ("/api/v1/query?query=up", "/api/v2/alerts", "/"):
            headers = httpx.get(f"{address}{path}", auth=(USER, password), headers=FOREIGN).headers
            assert "access-control-allow-credentials" not in headers
            assert headers.get("access-control-allow-origin") in {None, "*"}, "* lets no page send a password"
    alertmanager, (password, _) = list(doors.items())[1]
    silence = (
        '{"matchers": [{"name": "alertname", "value": ".+", "isRegex": true}], "startsAt": "2020-01-01T00:00:00Z"}'
    )
    simple = FOREIGN | {"Content-Type": "text/plain"}  # the kind that a page may send without asking first
    posted = httpx.post(f"{alertmanager}/api/v2/silences", auth=(USER, password), headers=simple, content=silence)
    assert posted.status_code == 415
    asks_first = FOREIGN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert httpx.options(f"{alertmanager}/api/v2/silences", headers=asks_first).status_code == 401


def test_nobody_stops_or_rewrites_prometheus_by_http(stack: StackSettings, prometheus: httpx.Client) -> None:  # noqa: ARG001
    for path in ("/-/quit", "/-/reload", "/api/v1/write", "/api/v1/admin/tsdb/delete_series?match[]=up"):
        assert prometheus.post(path).status_code in {403, 404, 500, 503}, path
    assert "disabled" in prometheus.post("/api/v1/admin/tsdb/delete_series?match[]=up").text


def test_no_command_line_and_no_answer_has_a_secret(stack: StackSettings, prometheus: httpx.Client) -> None:
    secrets = [value for name, value in stack.secrets.items() if "access_key" not in name]
    secrets += [base64.b64encode(f"{USER}:{each}".encode()).decode() for each in secrets]
    lines = [" ".join(process.cmdline()) for process in supervisord.processes(stack) if psutil.pid_exists(process.pid)]
    assert any("prometheus" in line for line in lines)
    answers = [prometheus.get(f"/api/v1/status/{name}").text for name in ("config", "flags")]
    assert [text for text in [*lines, *answers] if any(secret in text for secret in secrets)] == []


def test_the_files_of_it_are_for_us_alone(stack: StackSettings, prometheus: httpx.Client) -> None:  # noqa: ARG001
    folder = stack.state_dir / "metrics"
    open_to_others = [path for path in [folder, *folder.iterdir()] if path.stat().st_mode & 0o077]
    assert open_to_others == []
    assert stack.secrets["prometheus"] not in (folder / "prometheus-web.yml").read_text()
