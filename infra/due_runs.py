"""Tells a worker at once that a run waits in one of its queues: the server says so on the socket of its events.

Whoever has clicked would wait for the worker's next look otherwise, up to 2.6 s. The looks go on, and find what an
event did not tell.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.events.schemas.events import ResourceSpecification

LOGGER = logging.getLogger("prefect.worker.studio")
_NAMES = ["Scheduled", "AwaitingRetry", "Resuming"]  # the states of runs that wait for a worker
_PAUSES_S = (0.05, 0.5)  # an event is sent before the server has committed what it tells
_AGAIN_S = 30.0


async def follow(queues: Sequence[str], look: Callable[[], Awaitable[bool]]) -> NoReturn:
    """Call `look` when a run has come into one of these queues, and once more if it found none; all queues if empty."""
    told = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_listen(queues, told))
        while True:
            await told.wait()
            told.clear()
            for pause in _PAUSES_S:
                await asyncio.sleep(pause)
                if await look():
                    break


async def _listen(queues: Sequence[str], told: asyncio.Event) -> NoReturn:
    # Among what the server filters its stream by, this is what knows roles and names; related resources are not.
    labels = {"prefect.resource.role": ["work-queue"]} | ({"prefect.resource.name": [*queues]} if queues else {})
    of_queues = EventAnyResourceFilter(labels=ResourceSpecification(labels))
    names = EventNameFilter(name=[f"prefect.flow-run.{name}" for name in _NAMES])
    while True:
        try:
            async with get_events_subscriber(EventFilter(event=names, any_resource=of_queues)) as events:
                told.set()  # for what came meanwhile
                async for _ in events:
                    told.set()
        except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
            LOGGER.debug("the events of the server say no more which runs wait: %r", error)
        await asyncio.sleep(_AGAIN_S)
