"""Whose a model is: the person who started the training or the import that made it.

A model without an owner is that of the machine: who has Prefect's own password, or is an admin, decides about it.
"""

from tasks.errors import expected_found_fix
from tasks.orchestration.starters import current_starter
from tasks.orchestration.step import retried_step
from tasks.tracking.mlflow_client import TrackingError, tracking_errors

OWNER_TAG = "studio.owner"  # of a registered model
_USER_TAG = "mlflow.user"  # of a run


def owner_tag() -> dict[str, str]:
    """Return the tag of a model that is made now; none if no person has started this run."""
    starter = current_starter()
    return {OWNER_TAG: starter.name} if starter and starter.is_known else {}


def user_tag() -> dict[str, str]:
    """Return the tag of a run that is made now: MLflow shows its user; none if no person has started this run."""
    starter = current_starter()
    return {_USER_TAG: starter.name} if starter and starter.is_known else {}


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
    owner = found[0].tags.get(OWNER_TAG) if found else None
    if found and owner != starter.name:
        whose = f"{owner}'s" if owner else "that of the machine"
        raise TrackingError(
            expected_found_fix(
                f"the owner of {model_name} or an admin",
                f"{starter.name}, who is {starter.role}; the model is {whose}",
                f"Ask {owner or 'an admin'} to do it.",
            )
        )
