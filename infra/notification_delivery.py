"""How Prefect's server sends messages to people: within seconds, and beside all other actions of automations."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.server.utilities.messaging import Message, MessageHandler
from pydantic import SecretStr

from infra.stack_settings import ROOT

MOST_SECONDS = 15.0  # of a message, to all its receivers together
AT_ONCE = 4  # messages on their way, each in a process of 50 MB
_ACTION = "send-notification"
Consumer = Callable[[], AbstractAsyncContextManager[MessageHandler]]


class StudioNotifications(NotificationBlock):
    """The addresses of STUDIO_NOTIFY. `kind` is what receivers are told about the message, beside its words."""

    _block_type_name = "Studio notifications"
    _block_type_slug = "studio-notifications"

    addresses: SecretStr
    kind: Literal["info", "failure"] = "info"

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send a message to all addresses at one time.

        Raises:
            NotificationError: A receiver did not take it, or not within `MOST_SECONDS`.
        """
        addresses = self.addresses.get_secret_value()
        message = {"addresses": addresses, "title": subject or "", "body": body, "notify_type": self.kind}
        sender = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.message_sender"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, log = await asyncio.wait_for(sender.communicate(json.dumps(message).encode()), MOST_SECONDS)
        except TimeoutError as error:
            raise NotificationError(
                f"Expected all receivers to answer within {MOST_SECONDS:g} s, found one that did not."
            ) from error
        finally:
            if sender.returncode is None:
                sender.kill()
                await sender.wait()
        if sender.returncode:
            raise NotificationError(log.decode(errors="replace"))


def beside_others(consumer: Consumer) -> Consumer:
    """Return Prefect's consumer of actions so that none waits for a message: it handles two at a time."""

    @asynccontextmanager
    async def consume() -> AsyncIterator[MessageHandler]:
        places, on_their_way = asyncio.Semaphore(AT_ONCE), set[asyncio.Task[None]]()
        async with consumer() as handle:

            async def send(message: Message) -> None:
                async with places:
                    await handle(message)

            async def handle_beside(message: Message) -> None:
                if message.data and json.loads(message.data)["action"]["type"] == _ACTION:
                    task = asyncio.create_task(send(message))
                    on_their_way.add(task)  # the loop itself would forget it
                    task.add_done_callback(on_their_way.discard)
                else:
                    await handle(message)

            yield handle_beside

    return consume
