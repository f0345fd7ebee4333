"""How a worker learns that a run waits before it looks by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient

from infra import due_runs
from infra.registration import POOL


async def follow_while(block: Any, found: list[bool], looks: list[float]) -> None:
    """Follow a queue as long as a block takes; each look notes when it was, and finds what comes next of `found`."""

    async def look() -> bool:
        looks.append(asyncio.get_running_loop().time())
        return found.pop(0) if found else True

    following = asyncio.create_task(due_runs.follow(["interactive"], look))
    await block
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


@pytest.mark.parametrize(("found", "times"), [([True], 1), ([False, True], 2), ([False, False], 2)])
def test_it_looks_at_once_and_once_more_if_the_run_was_not_there_yet(
    monkeypatch: pytest.MonkeyPatch, found: list[bool], times: int
) -> None:
    """By a stand-in of the socket, which says nothing but that it is open."""

    @contextlib.asynccontextmanager
    async def opened(_: object) -> AsyncIterator[Any]:
        yield silence()

    async def silence() -> AsyncIterator[None]:
        await asyncio.sleep(60)
        yield

    monkeypatch.setattr(due_runs, "get_events_subscriber", opened)
    looks: list[float] = []
    asyncio.run(follow_while(asyncio.sleep(1), found, looks))
    assert len(looks) == times


def test_a_socket_that_fails_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        tried.append(True)
        raise OSError("no server")

    tried: list[bool] = []
    monkeypatch.setattr(due_runs, "get_events_subscriber", refuse)
    monkeypatch.setattr(due_runs, "_AGAIN_S", 0.1)
    looks: list[float] = []
    asyncio.run(follow_while(asyncio.sleep(0.5), [], looks))
    assert len(tried) > 1
    assert not looks


@pytest.mark.usefixtures("stack")
def test_the_server_says_that_a_run_waits_in_a_queue_and_nothing_of_others(client: SyncPrefectClient) -> None:
    """Of queues that no worker looks at."""
    deployments = []
    queues = [f"nobody-{uuid4().hex[:8]}" for _ in range(2)]
    for queue in queues:
        client.create_work_queue(name=queue, work_pool_name=POOL)
        flow = client.create_flow_from_name(queue)
        made = client.create_deployment(flow, "none", work_pool_name=POOL, work_queue_name=queue)
        deployments.append(made)
    looked = asyncio.Event()
    looks = 0

    async def look() -> bool:
        nonlocal looks
        looks += 1
        looked.set()
        return True

    async def see() -> None:
        following = asyncio.create_task(due_runs.follow(queues[:1], look))
        await asyncio.wait_for(looked.wait(), 30)  # it is connected
        looked.clear()
        await asyncio.to_thread(client.create_flow_run_from_deployment, deployments[1])
        await asyncio.sleep(1)
        assert not looked.is_set()
        await asyncio.to_thread(client.create_flow_run_from_deployment, deployments[0])
        await asyncio.wait_for(looked.wait(), 30)
        following.cancel()

    asyncio.run(see())
    for made, queue in zip(deployments, queues, strict=True):
        client.delete_deployment(made)
        found = client.read_work_queue_by_name(queue, work_pool_name=POOL)
        client.delete_work_queue_by_id(found.id)
    assert looks == 2
