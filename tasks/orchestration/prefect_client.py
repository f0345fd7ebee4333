"""Clients of Prefect's API, what they raise, and flow runs in pages."""

import atexit
import contextlib
import functools
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from math import inf
from typing import Any
from uuid import UUID

import httpx
from prefect.client.base import PrefectHttpxSyncClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from tasks.errors import StudioError
from tasks.log_lines import outgoing_headers
from tasks.orchestration.retries import ONCE, RetryPolicy

API_TIMEOUT_S = 5.0
_FRAME = re.compile(
    r"^(?:Error creating flow run: )?(?:Validation failed(?: for field '(?P<field>[^']*)')?\. Failure reason: )?"
)
RUNS_PER_REQUEST = 200  # the most that the server gives
Connect = Callable[[], contextlib.AbstractContextManager[SyncPrefectClient]]


class PrefectUnavailableError(StudioError):
    """Prefect's server does not answer."""

    transient = True

    def __init__(self, reason: Exception) -> None:
        """Say what its client found."""
        super().__init__(f"Expected Prefect's server to answer, found {reason!r}. `studio status` says more.")


class CallRefusedError(StudioError):
    """Prefect's server refuses a call. `reason` is why, without the words that Prefect puts around it."""

    def __init__(self, words: str) -> None:
        """Take the server's own words."""
        self.reason = _FRAME.sub(lambda found: f"{found['field']}: " if found["field"] else "", words)
        super().__init__(f"Prefect refused the call: {self.reason}")


def fail_fast_client() -> SyncPrefectClient:
    """Return this process's client that fails within seconds if the server is away; Prefect's own try a minute."""
    return _fail_fast_client(PREFECT_API_URL.value(), os.getpid())


@contextlib.contextmanager
def patient_client() -> Iterator[SyncPrefectClient]:
    """Yield this process's client that tries for over a minute to reach the server.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: It refuses the call; the message has its words.
    """
    with server_errors():
        yield _shared_client(PREFECT_API_URL.value(), os.getpid())


@contextlib.contextmanager
def prompt_client() -> Iterator[SyncPrefectClient]:
    """Yield the client that fails at once, for who waits at a page.

    Raises:
        PrefectUnavailableError: The server does not answer.
        StudioError: It refuses the call; the message has its words.
    """
    with server_errors():
        yield fail_fast_client()


@contextlib.contextmanager
def server_errors() -> Iterator[None]:
    """Raise our errors for those of a client of Prefect, but for ObjectNotFound.

    Raises:
        PrefectUnavailableError: The server does not answer.
        CallRefusedError: It refuses the call.
    """
    try:
        yield
    except PrefectHTTPStatusError as error:
        if error.response.is_server_error:
            raise PrefectUnavailableError(error) from error
        raise CallRefusedError(_words(error.response)) from error
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        raise PrefectUnavailableError(error) from error


def in_state(*types: StateType) -> FlowRunFilterState:
    """Return the filter for runs in a state of one of these types."""
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


def list_flow_runs(
    runs: FlowRunFilter | None = None,
    *,
    flows: FlowFilter | None = None,
    sort: FlowRunSort = FlowRunSort.ID_DESC,
    limit: float = inf,
    connect: Connect = patient_client,
    patience: RetryPolicy = ONCE,
) -> Iterator[FlowRun]:
    """Yield the first `limit` flow runs that match both filters; each page is asked for with `patience`.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    offset = 0

    def read_page(size: int) -> list[FlowRun]:
        with connect() as client:
            return client.read_flow_runs(
                flow_run_filter=runs,
                flow_filter=flows,
                sort=sort,
                limit=size,
                offset=offset,
            )

    while size := int(min(RUNS_PER_REQUEST, limit - offset)):
        page = patience.call(functools.partial(read_page, size))
        yield from page
        if len(page) < size:
            return
        offset += size


def read_flow_runs(flow_runs: Collection[UUID]) -> Iterator[FlowRun]:
    """Yield these flow runs, without those that were deleted.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    ids = list(flow_runs)
    for first in range(0, len(ids), RUNS_PER_REQUEST):
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=ids[first:][:RUNS_PER_REQUEST]))
        yield from list_flow_runs(chosen, limit=RUNS_PER_REQUEST, connect=prompt_client)


def read_flow_run(flow_run: UUID) -> FlowRun | None:
    """Return a flow run; None if the server does not answer or does not know it."""
    try:
        return fail_fast_client().read_flow_run(flow_run)
    except Exception:  # noqa: BLE001 - whatever the client raises
        return None


class _SingleTry(PrefectHttpxSyncClient):
    """Sends each request once, also after the server has answered, when Prefect's own begins to try again."""

    def _send_with_retry(self, *args: Any, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - those of Prefect
        once = kwargs | {"retry_codes": set(), "retry_exceptions": ()}
        response: httpx.Response = super()._send_with_retry(*args, **once)
        return response


def _name_who_asks(request: httpx.Request) -> None:
    request.headers.update(outgoing_headers())


_HOOKS = {"request": [_name_who_asks]}


# A new client takes 30 ms of processor time, nearly all of it for certificates.
@functools.lru_cache(maxsize=1)
def _shared_client(_server: str | None, _process: int) -> SyncPrefectClient:
    return _open(get_client(sync_client=True, httpx_settings={"event_hooks": _HOOKS}))


@functools.lru_cache(maxsize=1)
def _fail_fast_client(_server: str | None, _process: int) -> SyncPrefectClient:
    client = get_client(sync_client=True, httpx_settings={"timeout": API_TIMEOUT_S, "event_hooks": _HOOKS})
    client._client.__class__ = _SingleTry  # noqa: SLF001 - a setting would hold for all clients of the process
    return _open(client)


def _open(client: SyncPrefectClient) -> SyncPrefectClient:
    atexit.register(client.__exit__, None, None, None)
    return client.__enter__()


def _words(response: httpx.Response) -> str:
    """The server's own words."""
    try:
        return str(response.json()["detail"])[:2000]
    except (json.JSONDecodeError, KeyError, TypeError):
        return response.text[:2000]
