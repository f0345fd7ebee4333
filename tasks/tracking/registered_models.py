"""What aliases and tags of a registered model say: its champion, its challenger, its owner; plain values.

The door in front of MLflow's server asks them, too, so no client of anything is imported here.
"""

from collections.abc import Mapping

from tasks.errors import expected_found_fix, safe_repr

CHAMPION = "champion"
CHALLENGER = "challenger"
OWNER_TAG = "studio.owner"
USER_TAG = "mlflow.user"  # of a run


def reason_not_to_change(model_name: str, tags: Mapping[str, str], name: str, role: str) -> str:
    """Return why somebody who is no admin must not change a model with these tags; empty: they are its owner."""
    owner = tags.get(OWNER_TAG)
    if owner == name:
        return ""
    whose = f"{owner}'s" if owner else "that of the stack"
    return expected_found_fix(
        f"the owner of {safe_repr(model_name)} or an admin",
        f"{name}, who is {role}; the model is {whose}",
        f"Ask {owner or 'an admin'} to do it.",
    )
