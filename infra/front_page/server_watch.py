"""Servers that differ: one that was away during a rollout serves what was before it, until a run puts it right.

Where there is one Triton, this does nothing.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import httpx
from starlette.concurrency import run_in_threadpool

from infra.triton import KEY_HEADER
from tasks.errors import StudioError
from tasks.orchestration import deployed_flows
from tasks.serving.triton_names import is_aside

FLOW = "repair-servers"
EVERY_S = 15.0
TIMEOUT_S = 5.0
# A run that could not put this difference right is not started again before that time is over.
AGAIN_AFTER_S = 600
Served = Mapping[str, object]  # the config of each model, as far as clients see it


@contextlib.asynccontextmanager
async def watching(
    triton: httpx.AsyncClient, list_tritons: Callable[[], Sequence[str]], key: str
) -> AsyncIterator[None]:
    """Compare the servers in the block, and start flow `repair-servers` when they differ twice in a row."""
    task = asyncio.create_task(_watch(triton, list_tritons, key))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _watch(triton: httpx.AsyncClient, list_tritons: Callable[[], Sequence[str]], key: str) -> None:
    before: str | None = None
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            addresses = await run_in_threadpool(list_tritons)
            found = difference(await read_all(triton, addresses, key)) if len(addresses) > 1 else None
            if found and found == before:
                await run_in_threadpool(_start, found)
            before = found
        except (StudioError, httpx.HTTPError) as error:
            logging.getLogger(__name__).warning("the Tritons were not compared: %s", error)


async def read_all(triton: httpx.AsyncClient, addresses: Sequence[str], key: str) -> dict[str, Served]:
    """Return what each Triton serves, of those that answer."""
    found = await asyncio.gather(*(_read(triton, address, key) for address in addresses), return_exceptions=True)
    return {
        address: served
        for address, served in zip(addresses, found, strict=True)
        if not isinstance(served, BaseException)
    }


async def _read(triton: httpx.AsyncClient, address: str, key: str) -> Served:
    url = f"http://{address}/v2"
    index = await triton.post(
        f"{url}/repository/index", json={"ready": True}, headers={KEY_HEADER: key}, timeout=TIMEOUT_S
    )
    names = sorted({row["name"] for row in index.raise_for_status().json() if not is_aside(row["name"])})
    served = {}
    for name in names:
        config = await triton.get(f"{url}/models/{name}/config", timeout=TIMEOUT_S)
        if config.is_success:  # else it was unloaded a moment ago
            values = config.json()
            served[name] = [values.get("version_policy"), values.get("parameters"), values.get("max_batch_size")]
    return served


def difference(served: Mapping[str, Served]) -> str | None:
    """Return a name for the way in which the servers differ; None if they serve the same."""
    texts = {address: json.dumps(models, sort_keys=True) for address, models in served.items()}
    if len(set(texts.values())) < 2:
        return None
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]


def _start(found: str) -> None:
    logging.getLogger(__name__).warning("the Tritons do not serve the same: starting %s", FLOW)
    deployed_flows.start(FLOW, {}, idempotency_key=f"{FLOW} {found} {time.time() // AGAIN_AFTER_S:.0f}")
