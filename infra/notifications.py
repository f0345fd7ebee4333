"""Who is told what happens: the blocks in Prefect that hold the addresses of `STUDIO_NOTIFY`, and their automations."""

import contextlib
from collections.abc import Mapping
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from infra.bootstrap import ensure_automation
from infra.notification_addresses import parse_addresses
from infra.notification_delivery import StudioNotifications
from infra.registration import NOTIFICATION_BLOCKS, NOTIFICATIONS
from infra.stack_settings import StackSettings
from tasks.rendering.links import UiLinks
from tasks.settings import Settings


async def ensure_notifications(settings: StackSettings) -> bool:
    """Make or update the blocks and the automations of deployments/notifications.yaml; without addresses remove both.

    Returns whether there were some and they are removed.

    Raises:
        StackError: An address is none.
    """
    wanted: list[dict[str, Any]] = yaml.safe_load(NOTIFICATIONS.read_text())
    addresses = parse_addresses(settings.notify.get_secret_value())
    async with get_client() as client:
        if not addresses:
            return await _remove(client, [automation["name"] for automation in wanted])
        blocks: dict[str, str] = {}
        for kind, name in NOTIFICATION_BLOCKS.items():
            block = StudioNotifications.model_validate({"addresses": " ".join(addresses), "kind": kind})
            blocks[kind] = str(await block.asave(name, overwrite=True, client=client))
        for automation in wanted:
            message = with_message(automation, blocks, Settings().addresses)
            await ensure_automation(client, AutomationCore.model_validate(message))
    return False


async def _remove(client: PrefectClient, names: list[str]) -> bool:
    present = [each for name in names for each in await client.read_automations_by_name(name)]
    for each in present:
        await client.delete_automation(each.id)
    for name in NOTIFICATION_BLOCKS.values():
        with contextlib.suppress(ObjectNotFound):
            block = await client.read_block_document_by_name(name, StudioNotifications.get_block_type_slug())
            await client.delete_block_document(block.id)
    return bool(present)


def with_message(automation: dict[str, Any], blocks: Mapping[str, str], links: UiLinks) -> dict[str, Any]:
    """Return an automation of the file as Prefect takes it, with a block and what all messages share.

    Args:
        automation: As the file says it, with one action, whose `kind` is that of the message (none: `info`).
        blocks: Id of the block that holds the addresses, by kind of message.
        links: Where the pages are that a message links; `STUDIO` in it is the front page.
    """
    (action,) = automation["actions"]
    run = f"{{% if flow_run %}}\nRun: {links.prefect}/runs/flow-run/{{{{ flow_run.id }}}}{{% endif %}}"
    body = action["body"].replace("STUDIO", links.front_page).rstrip() + run
    described = {name: value for name, value in action.items() if name != "kind"}
    described |= {"block_document_id": blocks[action.get("kind", "info")]}
    return automation | {"actions": [described | {"subject": _plain(action["subject"]), "body": _plain(body)}]}


def _plain(template: str) -> str:
    """In Slack `<!channel>` calls everybody, and in a mail that is HTML `<b>` is a tag: no name may be one."""
    return f"{{% filter replace('<', '(') %}}{template}{{% endfilter %}}"
