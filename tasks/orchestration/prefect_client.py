"""A client of Prefect's API for calls that are never worth a run."""

import atexit
import functools
import os
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL

from tasks.errors import StudioError

API_TIMEOUT_S = 5.0


class PrefectUnavailableError(StudioError):
    """Prefect's server does not answer."""

    transient = True

    def __init__(self, reason: Exception) -> None:
        """Say what its client found."""
        super().__init__(f"Expected Prefect's server to answer, found {reason!r}. `make status` says more.")


def fail_fast_client() -> SyncPrefectClient:
    """Return this process's client that fails at once if the server is away; Prefect's own tries for over a minute."""
    return _fail_fast_client(PREFECT_API_URL.value(), os.getpid())


def read_flow_run(flow_run: UUID) -> FlowRun | None:
    """Return a flow run; None if the server does not answer or does not know it."""
    try:
        return fail_fast_client().read_flow_run(flow_run)
    except Exception:  # noqa: BLE001 - whatever the client raises
        return None


# A new one takes 30 ms of processor time, nearly all of it for certificates.
@functools.lru_cache(maxsize=1)
def _fail_fast_client(_server: str | None, _process: int) -> SyncPrefectClient:
    client = get_client(sync_client=True, httpx_settings={"timeout": API_TIMEOUT_S})
    atexit.register(client.__exit__, None, None, None)
    return client.__enter__()
