"""The attacker's script, its part in a browser: a real Chromium shows pages that attack the running services.

The person at this browser is signed in to MLflow and to the front page. The pages are of another port, of another name,
and of a name that points to 127.0.0.1 (DNS rebinding). Afterwards the services are asked, with the password, what has
come of it.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from infra.services import s3_client
from infra.stack_settings import USER, StackSettings
from tasks.dataset_watch.notifications import ObjectChange
from tests.clients import mlflow_api, prefect_api
from tests.infra.browser import OpenBrowser, Page
from tests.tasks.dataset_watch.test_notifications import minio, record

pytestmark = pytest.mark.heavy

FOREIGN, REBOUND = "evil.example", "rebound.example"

SCRIPT = Path(__file__).with_name("attack.js").read_text()


class Hostile(BaseHTTPRequestHandler):
    """A site that serves the attack."""

    def do_GET(self) -> None:
        body = f"<!doctype html><title>hostile</title><body><script>{SCRIPT}</script>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hostile_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(stack: StackSettings, open_browser: OpenBrowser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The browser of a person who is signed in to MLflow and to the front page."""
    names = f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1, MAP {REBOUND} 127.0.0.1"
    user, password = (stack.environment[f"MLFLOW_TRACKING_{name}"] for name in ("USERNAME", "PASSWORD"))
    with open_browser(tmp_path_factory.mktemp("profile"), names) as page:
        page.sign_in(f"http://127.0.0.1:{stack.live_port}/predictions", USER, stack.secrets["front_page"])
        assert page.js("fetch('/predictions').then(answer => answer.status)") == 200
        page.sign_in(f"http://127.0.0.1:{stack.mlflow_port}/", user, password)
        page.open(f"http://127.0.0.1:{stack.mlflow_port}/health")  # a page without a script of its own
        signed_in = "fetch('/api/2.0/mlflow/users/current').then(answer => answer.status)"
        assert page.js(signed_in) == 200
        yield page


def store_ports(stack: StackSettings) -> dict[str, int]:
    return {
        "s3": stack.s3_port,
        "master": stack.s3_master_port,
        "volume": stack.s3_volume_port,
        "filer": stack.s3_filer_port,
    }


def target(stack: StackSettings, mark: str, host: str = "127.0.0.1") -> dict[str, Any]:
    """What an attacker who knows everything but the passwords asks for; all of it carries `mark`."""
    with prefect_api(stack) as api:
        found = api.get("/deployments/name/validate-dataset/gpu").raise_for_status().json()
    action = {"type": "run-deployment", "source": "selected", "deployment_id": found["id"]}
    trigger = {"type": "event", "expect": ["x"], "posture": "Reactive", "threshold": 1, "within": 0}
    step = {"prefect.deployments.steps.run_shell_script": {"script": "id"}}
    return {
        "mark": mark,
        "prefect": f"http://{host}:{stack.prefect_port}",
        "mlflow": f"http://{host}:{stack.mlflow_port}",
        "live": f"http://{host}:{stack.live_port}",
        "triton": f"http://{host}:{stack.triton_http_port}",
        **{name: f"http://{host}:{port}" for name, port in store_ports(stack).items()},
        "deployment": found["id"],
        "automation": {"name": mark, "trigger": trigger, "actions": [action]},
        "run": {"name": mark, "parameters": {"archive": mark}, "job_variables": {"command": "id"}},
        "notification": minio(record(ObjectChange(bucket="datasets", key=f"{mark}.zip"))),
        "made": {"name": mark, "flow_id": found["flow_id"], "work_pool_name": "gpu", "pull_steps": [step]},
        "event": {
            "occurred": "2026-01-01T00:00:00Z",
            "event": mark,
            "resource": {"prefect.resource.id": mark},
            "id": "00000000-0000-4000-8000-000000000001",
        },
    }


def marked(stack: StackSettings, mark: str) -> dict[str, int]:
    """How many things of that name there are."""
    wanted = {"filter": {"event": {"name": [mark]}, "occurred": {"since": "2025-01-01T00:00:00Z"}}}
    with prefect_api(stack) as api:
        newest = api.post("/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_DESC"}).raise_for_status().json()
        found = {
            "automations": len(
                [each for each in api.post("/automations/filter", json={}).json() if each["name"] == mark]
            ),
            "runs": sum(mark in json.dumps([run["name"], run["parameters"]]) for run in newest),
            "deployments": len(
                api.post("/deployments/filter", json={"deployments": {"name": {"any_": [mark]}}}).json()
            ),
            "events": len(api.post("/events/filter", json=wanted).raise_for_status().json()["events"]),
        }
    with mlflow_api(stack) as api:
        named: dict[str, str | int] = {"filter": f"name = '{mark}'", "max_results": 5}
        experiments = api.get("/api/2.0/mlflow/experiments/search", params=named).raise_for_status().json()
        models = api.get("/api/2.0/mlflow/registered-models/search", params=named).raise_for_status().json()
    found |= {"experiments": len(experiments.get("experiments", []))}
    uploads = s3_client(stack).list_multipart_uploads(Bucket="datasets").get("Uploads", [])
    found |= {"uploads": sum(mark in each["Key"] for each in uploads)}
    return found | {"models": len(models.get("registered_models", []))}


# Of our door, of S3, and of the volume server, which let a page read that they refuse it.
REFUSALS = ("expected a request to 127.0.0.1 or localhost", "<Error><Code>", '{"error":')

NOTHING = dict.fromkeys(("automations", "runs", "deployments", "events", "uploads", "experiments", "models"), 0)


def unrefused(learned: list[str]) -> list[str]:
    """What a page has learned beside that it is refused."""
    return [text for text in learned if not any(refusal in text for refusal in REFUSALS)]


def asked(stack: StackSettings) -> int:
    """How many pictures the model behind the live page has been asked for."""
    found = httpx.get(f"http://{stack.environment['TRITON_HTTP_URL']}/v2/models/predict/stats").json()["model_stats"]
    return sum(int(each["execution_count"]) + int(each["inference_stats"]["fail"]["count"]) for each in found)


@pytest.mark.parametrize("site", ["another-port", "another-name"])
def test_a_page_of_another_site_reaches_nothing(stack: StackSettings, page: Page, hostile_port: int, site: str) -> None:
    mark, before = f"attack-{site}", asked(stack)
    s3_client(stack).put_object(Bucket="media", Key=mark, Body=b"kept")
    page.open(f"http://{'127.0.0.1' if site == 'another-port' else FOREIGN}:{hostile_port}/")
    assert unrefused(page.js(f"attack({json.dumps(target(stack, mark))})")) == []
    assert marked(stack, mark) == NOTHING
    assert asked(stack) == before
    assert httpx.get(f"http://{stack.environment['TRITON_HTTP_URL']}/v2/models/predict/ready").status_code == 200
    assert s3_client(stack).get_object(Bucket="media", Key=mark)["Body"].read() == b"kept"


@pytest.mark.parametrize("door", ["prefect", "mlflow", "live"])
def test_a_name_that_is_made_to_point_here_reads_nothing(stack: StackSettings, page: Page, door: str) -> None:
    """The page has the origin of the service itself, and says so; only its name gives it away."""
    mark, before = f"rebound-{door}", asked(stack)
    at = target(stack, mark, REBOUND)
    page.open(at[door] + "/")
    learned = page.js(f"(async () => {{ {SCRIPT}\nreturn await attack({json.dumps(at)}) }})()")
    assert unrefused(learned) == []
    assert marked(stack, mark) == NOTHING
    assert asked(stack) == before


def test_the_attack_is_a_real_one(stack: StackSettings, page: Page) -> None:
    """The same script from a page of MLflow's own, signed in, does write there: what stops the others is their door."""
    mark = "not-an-attack"
    page.open(f"http://127.0.0.1:{stack.mlflow_port}/health")
    page.js(f"(async () => {{ {SCRIPT}\nreturn await attack({json.dumps(target(stack, mark))}) }})()")
    assert marked(stack, mark) == NOTHING | {"experiments": 1, "models": 1}
