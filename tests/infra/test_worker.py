"""Our worker: which of the runs that wait it takes."""

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import anyio
import pytest
from prefect.workers.process import ProcessWorker

from infra.worker import DrainingWorker


def test_a_run_whose_process_is_still_here_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in of what Prefect's own worker does then, without a server."""
    taken: list[object] = []

    async def take(_: ProcessWorker, found: list[SimpleNamespace]) -> list[object]:
        taken.append([entry.flow_run.id for entry in found])
        return []

    async def poll() -> None:
        worker = DrainingWorker(work_pool_name="gpu", limit=2)
        worker._limiter = anyio.CapacityLimiter(2)
        worker._limiter.acquire_on_behalf_of_nowait(here)
        found = [SimpleNamespace(flow_run=SimpleNamespace(id=run)) for run in (here, other)]
        await worker._submit_scheduled_flow_runs(found)
        worker._limiter.release_on_behalf_of(here)
        await worker._submit_scheduled_flow_runs(found)

    here, other = uuid4(), uuid4()
    monkeypatch.setattr(ProcessWorker, "_submit_scheduled_flow_runs", take)
    asyncio.run(poll())
    assert taken == [[other], [here, other]]
