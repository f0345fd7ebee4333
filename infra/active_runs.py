"""Which runs seem to go on, told to the automations again and again.

Prefect's server holds events, and what automations are about to do, in memory for a moment: if it ends then, nobody
waits for the heartbeat of a run whose process has died meanwhile. `deployments/automations.yaml` begins to wait with
these events, too, if it does not wait already.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

EVERY_S = 60.0
CRASHED_SINCE = timedelta(hours=1)  # an older one was left to a person
CHANGED = "changed"
_ACTIVE = ("PENDING", "RUNNING", "CANCELLING")
_PAGE = 200  # the most that Prefect returns

Run = Mapping[str, Any]


def announce_active_runs(api: httpx.Client) -> None:
    """Send an event for each run that is active, or has crashed of late.

    A run may change before its event is there. So they are read again, and an event takes back what was wrong.
    """
    runs = [*read_runs(api, {"state": {"type": {"any_": _ACTIVE}}}), *_read_crashed(api)]
    if not runs:
        return
    chosen = {"flows": {"id": {"any_": sorted({run["flow_id"] for run in runs})}}}
    flows = {flow["id"]: str(flow["name"]) for flow in _post(api, "flows/filter", chosen)}
    _post_events(api, flows, ((run, run["state_type"].lower()) for run in runs))
    now = {run["id"]: run for run in read_runs(api, {"id": {"any_": [run["id"] for run in runs]}})}
    changed = [run for run in runs if run["id"] in now and now[run["id"]]["state_type"] != run["state_type"]]
    _post_events(api, flows, ((run, CHANGED) for run in changed))


def announce_quietly(api: httpx.Client) -> None:
    """Do so; a server that does not answer is asked again a minute later."""
    try:
        announce_active_runs(api)
    except httpx.HTTPError as error:
        logging.getLogger(__name__).warning("active runs were not announced: %s", error)


def _read_crashed(api: httpx.Client) -> list[Run]:
    since = (datetime.now(UTC) - CRASHED_SINCE).isoformat()
    return read_runs(api, {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": since}})


def read_runs(api: httpx.Client, chosen: Mapping[str, Any]) -> list[Run]:
    """Return all flow runs that match a filter of Prefect's API.

    Raises:
        httpx.HTTPError: The server does not answer, or refuses it.
    """
    runs: list[Run] = []
    while True:
        body = {"flow_runs": chosen, "limit": _PAGE, "offset": len(runs), "sort": "ID_DESC"}
        page = _post(api, "flow_runs/filter", body)
        runs += page
        if len(page) < _PAGE:
            return runs


def _post_events(api: httpx.Client, flows: Mapping[str, str], named: Iterable[tuple[Run, str]]) -> None:
    events = [_event(run, flows[run["flow_id"]], name) for run, name in named if run["flow_id"] in flows]
    if events:
        api.post("events", json=events).raise_for_status()


def _event(run: Run, flow: str, name: str) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"studio.flow-run.{name}",
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{run['id']}",
            "prefect.run-count": str(run["run_count"]),
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{run['flow_id']}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow,
            }
        ],
    }


def _post(api: httpx.Client, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    return api.post(path, json=body).raise_for_status().json()
