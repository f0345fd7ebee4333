"""Whether Prefect has what `make up` registers; read over HTTP, because to import Prefect takes seconds."""

import hashlib
import json
from typing import Any

import httpx
import yaml

from infra.stack_settings import ROOT, StackSettings, write_private
from tasks.settings import Settings

POOL = "gpu"
QUEUES = ROOT / "deployments" / "queues.yaml"
AUTOMATIONS = ROOT / "deployments" / "automations.yaml"
NOTIFICATIONS = ROOT / "deployments" / "notifications.yaml"
NOTIFICATION_BLOCKS = {"info": "studio-notify", "failure": "studio-notify-failure"}  # by kind of message
# Deployments carry the parameter schemas of these; the rest is made by infra itself.
_SOURCES = ("deployments", "flows", "infra", "model_repository", "tasks")


def remember(settings: StackSettings) -> None:
    """Write down what was registered, and from which files."""
    with _prefect(settings) as api:
        write_private(settings.state_dir / "registered.json", json.dumps(_registered(settings, api)))


def is_complete(settings: StackSettings) -> bool:
    """Return whether these very files were registered, and what a person is likely to change is as it was."""
    try:
        with _prefect(settings) as api:
            kept = json.loads((settings.state_dir / "registered.json").read_text())
            return bool(kept == _registered(settings, api))
    except (OSError, ValueError, httpx.HTTPError):
        return False


def is_of_these_sources(settings: StackSettings) -> bool:
    """Return whether the last time that all was registered, it was from these very files."""
    try:
        return bool(json.loads((settings.state_dir / "registered.json").read_text())["sources"] == _digest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _registered(settings: StackSettings, api: httpx.Client) -> dict[str, Any]:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = [f"{each['entrypoint'].rpartition(':')[2].replace('_', '-')}/{each['name']}" for each in deployments]
    queues = yaml.safe_load(QUEUES.read_text())
    automations = api.post("automations/filter", json={}).raise_for_status().json()
    ours = {each["name"] for path in (AUTOMATIONS, NOTIFICATIONS) for each in yaml.safe_load(path.read_text())}
    return {
        "sources": _digest(),
        "address": settings.environment["PREFECT_API_URL"],
        "deployments": {name: _facts(_get(api, f"deployments/name/{name}")) for name in names},
        "pipelines": sorted(each["name"] for each in _find(api, "deployments", tags={"all_": ["pipelines.yaml"]})),
        "queues": {name: _get(api, f"work_pools/{POOL}/queues/{name}")["concurrency_limit"] for name in queues},
        "template": _get(api, f"work_pools/{POOL}")["base_job_template"],
        "automations": [
            [each["name"], each["enabled"], each["actions"], _in_order(each["trigger"])]
            for each in sorted(automations, key=lambda each: str(each["name"]))
            if each["name"] in ours
        ],
        "notifications": _notifications(settings, api),
    }


def _facts(deployment: dict[str, Any]) -> list[Any]:
    """What of a deployment is ours: another checkout that registers with the same server may have replaced it."""
    schema = json.dumps(deployment["parameter_openapi_schema"], sort_keys=True)
    facts = [deployment[name] for name in ("job_variables", "entrypoint", "pull_steps", "work_queue_name")]
    return [*facts, hashlib.sha256(schema.encode()).hexdigest()]


def _notifications(settings: StackSettings, api: httpx.Client) -> list[Any]:
    """What messages are made from: a digest of where they go and of what they link, and the blocks that Prefect has."""
    wanted = f"{settings.notify.get_secret_value()} {Settings().addresses.prefect}"
    named = {"block_documents": {"name": {"any_": [*NOTIFICATION_BLOCKS.values()]}}}
    present = api.post("block_documents/filter", json=named).raise_for_status().json()
    return [hashlib.sha256(wanted.encode()).hexdigest(), [block["id"] for block in present]]


def _in_order(trigger: dict[str, Any]) -> dict[str, Any]:
    """The server gives names of events in another order after each start."""
    return {name: sorted(value) if name in {"after", "expect"} else value for name, value in trigger.items()}


def _find(api: httpx.Client, kind: str, **condition: Any) -> Any:  # noqa: ANN401 - JSON
    return api.post(f"{kind}/filter", json={kind: condition}).raise_for_status().json()


def _get(api: httpx.Client, path: str) -> Any:  # noqa: ANN401 - JSON
    return api.get(path).raise_for_status().json()


def _digest() -> str:
    paths = [ROOT / "prefect.yaml", *(path for name in _SOURCES for path in (ROOT / name).rglob("*"))]
    digest = hashlib.sha256()
    for path in sorted(path for path in paths if path.suffix in {".py", ".yaml", ".pbtxt"}):
        digest.update(repr((str(path.relative_to(ROOT)), path.read_bytes())).encode())
    return digest.hexdigest()


def _prefect(settings: StackSettings) -> httpx.Client:
    environment = settings.environment
    user, _, password = environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    return httpx.Client(base_url=environment["PREFECT_API_URL"], auth=auth, timeout=5)
