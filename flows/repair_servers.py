"""Tritons that serve something else than what is deployed, put right."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deployment import repairs
from tasks.orchestration import outcome


@flow
@outcome.fail_flow_with_message
def repair_servers() -> State:
    """Have each Triton that answers serve what is deployed: one that was away during a rollout still serves the old.

    The front page starts it when two servers differ for half a minute. A model that a rollout works on is left to that.
    """
    return outcome.completed(repairs.repair_all().sentence)
