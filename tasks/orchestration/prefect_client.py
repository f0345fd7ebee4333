"""A client of Prefect's API for calls that are never worth a run."""

import atexit
import functools
import os

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL

API_TIMEOUT_S = 5.0


def fail_fast_client() -> SyncPrefectClient:
    """A client that fails at once where the server is away; that of the run would try for more than a minute.

    It is for all threads of this process, until that ends.
    """
    # Making one takes 30 ms of processor time, nearly all of it for certificates.
    return _fail_fast_client(PREFECT_API_URL.value(), os.getpid())


@functools.lru_cache(maxsize=1)
def _fail_fast_client(_server: str | None, _process: int) -> SyncPrefectClient:
    client = get_client(sync_client=True, httpx_settings={"timeout": API_TIMEOUT_S})
    atexit.register(client.__exit__, None, None, None)
    return client.__enter__()
