"""Whose a model is: the person who started the training or the import that made it.

A model without an owner is that of the stack: who has Prefect's own password, or is an admin, decides about it.
"""

from tasks.orchestration.starters import current_starter
from tasks.orchestration.step import retried_step
from tasks.tracking.mlflow_client import TrackingError, tracking_errors
from tasks.tracking.registered_models import OWNER_TAG, USER_TAG, reason_not_to_change


def owner_tag() -> dict[str, str]:
    """Return the tag of a model that is made now; none if no person has started this run."""
    starter = current_starter()
    return {OWNER_TAG: starter.name} if starter and starter.is_known else {}


def user_tag() -> dict[str, str]:
    """Return the tag of a run that is made now: MLflow shows its user; none if no person has started this run."""
    starter = current_starter()
    return {USER_TAG: starter.name} if starter and starter.is_known else {}


@retried_step
def require_owner(model_name: str) -> None:
    """Check that whoever started this run may take versions of the model away.

    Raises:
        TrackingError: It was a person who is neither the owner of the model nor an admin, or nobody knows who it was.
    """
    starter = current_starter()
    if starter is None or starter.is_admin:
        return
    with tracking_errors(f"looking for the owner of {model_name}") as mlflow:
        found = mlflow.search_registered_models(f"name = '{model_name}'")
    if found and (reason := reason_not_to_change(model_name, found[0].tags, starter.name, starter.role)):
        raise TrackingError(reason)
