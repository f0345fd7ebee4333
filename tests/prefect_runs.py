"""Runs on the real server that no worker carries out."""

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Scheduled


def make_run(
    client: SyncPrefectClient,
    deployment: UUID,
    *states: State,
    tag: str = "",
    due: datetime | None = None,
    **parameters: object,
) -> UUID:
    """A run that is due now or later, and has gone through these states."""
    first: State[None] = Scheduled(scheduled_time=due or datetime.now(UTC))
    run = client.create_flow_run_from_deployment(deployment, state=first, tags=[tag], parameters=parameters).id
    for state in states:
        client.set_flow_run_state(run, state, force=True)
    return run
