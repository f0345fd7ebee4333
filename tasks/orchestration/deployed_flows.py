"""Runs of our deployments: how one is started, found and awaited."""

import json
import time
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from tasks.errors import StudioError
from tasks.orchestration.prefect_client import PrefectUnavailableError

DEPLOYMENT = "gpu"  # of every flow
POLL_S = 2.0


def start(
    flow: str,
    parameters: Mapping[str, Any],
    *,
    name: str | None = None,
    idempotency_key: str | None = None,
    tags: Collection[str] = (),
) -> UUID:
    """Start a run of deployment `<flow>/gpu`, such as `train-model/gpu`; returns its id.

    With an `idempotency_key` that a run of this deployment has already, that run is returned and none is started.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: There is no such deployment, or the server refuses the parameters.
    """
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"{flow}/{DEPLOYMENT}")
            return client.create_flow_run_from_deployment(
                deployment.id, parameters=dict(parameters), name=name, idempotency_key=idempotency_key, tags=tags
            ).id
    except ObjectNotFound as error:
        raise StudioError(
            f"Expected deployment {flow}/{DEPLOYMENT} on Prefect's server, found none. `make up` registers it."
        ) from error
    except PrefectHTTPStatusError as error:
        raise StudioError(f"Prefect refused the run of {flow}: {_reason(error.response)}") from error
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        raise PrefectUnavailableError(error) from error


def find(flow_run: UUID) -> FlowRun | None:
    """Return a flow run; None if there is none of this id.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(flow_run)
    except ObjectNotFound:
        return None
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        raise PrefectUnavailableError(error) from error


def wait(flow_run: UUID, timeout_s: float | None = None) -> State[Any]:
    """Return the state in which a flow run ends; waits for `timeout_s` seconds, None for ever.

    Raises:
        StudioError: There is no such run, or it goes on after that time.
        PrefectUnavailableError: The server does not answer.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        run = find(flow_run)
        if run is None:
            raise StudioError(f"Expected a flow run {flow_run}, found none.")
        if run.state is not None and run.state.is_final():
            return run.state
        if deadline is not None and time.monotonic() > deadline:
            found = run.state.name if run.state else "no state"
            raise StudioError(f"Expected flow run {run.name} to end within {timeout_s:g} s, found it {found}.")
        time.sleep(POLL_S)


def _reason(response: httpx.Response) -> str:
    """The server's own words."""
    try:
        return str(response.json()["detail"])[:2000]
    except (json.JSONDecodeError, KeyError, TypeError):
        return response.text[:2000]
