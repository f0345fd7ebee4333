"""Who is told what happens: the block in Prefect that holds the addresses of `STUDIO_NOTIFY`, and its automations."""

from typing import Any

import yaml
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import PrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from infra.bootstrap import ensure_automation
from infra.notification_addresses import parse_addresses
from infra.registration import NOTIFICATION_BLOCK, NOTIFICATIONS
from infra.stack_settings import StackSettings
from tasks.settings import Settings

# Of the blocks that every server of Prefect knows, this one hands any address to Apprise as it is.
Block = SlackWebhook


async def ensure_notifications(settings: StackSettings) -> None:
    """Make or update the block and the automations of deployments/notifications.yaml; without addresses remove both.

    Raises:
        StackError: An address is none.
    """
    wanted: list[dict[str, Any]] = yaml.safe_load(NOTIFICATIONS.read_text())
    addresses = parse_addresses(settings.notify.get_secret_value())
    async with get_client() as client:
        if not addresses:
            await _remove(client, [automation["name"] for automation in wanted])
            return
        block = await Block(url=SecretStr(" ".join(addresses))).asave(NOTIFICATION_BLOCK, overwrite=True, client=client)
        for automation in wanted:
            message = with_message(automation, str(block), Settings().addresses.prefect)
            await ensure_automation(client, AutomationCore.model_validate(message))


async def _remove(client: PrefectClient, names: list[str]) -> None:
    for name in names:
        for present in await client.read_automations_by_name(name):
            await client.delete_automation(present.id)
    try:
        block = await client.read_block_document_by_name(NOTIFICATION_BLOCK, Block.get_block_type_slug())
    except ObjectNotFound:
        return
    await client.delete_block_document(block.id)


def with_message(automation: dict[str, Any], block: str, prefect: str) -> dict[str, Any]:
    """Return an automation of the file as Prefect takes it, with the block and what all messages share.

    Args:
        automation: As the file says it, with one action.
        block: Id of the block that holds the addresses.
        prefect: Address of Prefect's UI, for the link to the run that ends each message.
    """
    (action,) = automation["actions"]
    link = f"{{% if flow_run %}}\nRun: {prefect}/runs/flow-run/{{{{ flow_run.id }}}}{{% endif %}}"
    texts = {"subject": action["subject"], "body": action["body"].rstrip() + link}
    return automation | {"actions": [action | {"block_document_id": block} | {k: _plain(v) for k, v in texts.items()}]}


def _plain(template: str) -> str:
    """In Slack `<!channel>` calls everybody, and in a mail that is HTML `<b>` is a tag: no name may be one."""
    return f"{{% filter replace('<', '(') %}}{template}{{% endfilter %}}"
