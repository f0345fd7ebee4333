"""Runs that have waited for a person as long as they may: they get the answer of nobody, which refuses.

Prefect would fail such a run without starting it again, and nobody would hear why its version is not served.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from infra.active_runs import read_runs
from tasks.deployment.approval_form import unanswered
from tasks.orchestration.questions import GRACE, KEYSET


def answer_unanswered(api: httpx.Client, now: datetime | None = None) -> None:
    """Answer each question whose time is over; one that a person has just answered is let alone by the server."""
    now = now or datetime.now(UTC)
    for run in read_runs(api, {"state": {"type": {"any_": ["PAUSED"]}}}):
        deadline = deadline_of(run["state"])
        if deadline and deadline <= now:
            form = unanswered(deadline)
            api.post(f"flow_runs/{run['id']}/resume", json={"run_input": form.model_dump()}).raise_for_status()


def deadline_of(state: Mapping[str, Any]) -> datetime | None:
    """Return until when a person may answer; None for a run that asks nothing."""
    details = state["state_details"]
    if details.get("run_input_keyset") != KEYSET or not details.get("pause_timeout"):
        return None
    return datetime.fromisoformat(details["pause_timeout"]) - GRACE


def answer_quietly(api: httpx.Client) -> None:
    """Do so; a server that does not answer is asked again a minute later."""
    try:
        answer_unanswered(api)
    except httpx.HTTPError as error:
        logging.getLogger(__name__).warning("questions whose time is over were not answered: %s", error)
