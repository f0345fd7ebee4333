"""A message takes seconds, whatever its receivers do, and no other action waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prefect.blocks.abstract import NotificationError
from prefect.server.utilities.messaging import Message, MessageHandler
from prefect.server.utilities.messaging.memory import MemoryMessage
from pydantic import SecretStr

from infra import notification_delivery
from infra.notification_delivery import StudioNotifications, beside_others
from tests.infra.receiver import open_dripping_receiver, open_receiver


@pytest.mark.slow
def test_a_receiver_that_drips_is_cut_off_and_the_others_get_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_delivery, "MOST_SECONDS", 4.0)
    with open_receiver() as receiver, open_dripping_receiver() as dripping:
        block = StudioNotifications(addresses=SecretStr(f"{dripping} {receiver.address}"), kind="failure")
        began = time.monotonic()
        with pytest.raises(NotificationError, match="answer within 4 s"):
            asyncio.run(block.notify("It broke.", "shapes failed"))
        assert time.monotonic() - began < 8
    assert (receiver.messages, receiver.kinds) == ([("shapes failed", "It broke.")], ["failure"])


def test_a_receiver_that_nobody_is_at_is_a_failure_with_its_reason() -> None:
    with pytest.raises(NotificationError, match="Connection"):
        asyncio.run(StudioNotifications(addresses=SecretStr("json://127.0.0.1:9/")).notify("x"))


def test_no_other_action_waits_for_a_message() -> None:
    handled: list[object] = []
    told, started = (f'{{"action": {{"type": "{kind}"}}}}' for kind in ("send-notification", "run-deployment"))
    over, all_told = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def consumer() -> AsyncIterator[MessageHandler]:
        async def handle(message: Message) -> None:
            if message.data == told:
                await over.wait()
            handled.append(message.data)
            if len(handled) == 10:
                all_told.set()

        yield handle

    async def consume() -> None:
        async with beside_others(consumer)() as handle:
            for data in [told] * 9 + [started]:
                await asyncio.wait_for(handle(MemoryMessage(data=data, attributes={})), 1)
            assert handled == [started]
            over.set()
            await asyncio.wait_for(all_told.wait(), 1)

    asyncio.run(consume())
