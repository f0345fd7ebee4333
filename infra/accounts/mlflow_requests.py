"""What the bodies of visitors' requests to MLflow may say: plain functions over JSON.

A run that a visitor logs is theirs by name, and tags that this project takes decisions by are for admins.
"""

import json
import re
from typing import Any

from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.errors import safe_repr

Body = Any  # JSON
USER_TAG = "mlflow.user"
OWNED = "studio."  # tags that begin with it say who owns what
# Flows decide by these.
OF_FLOWS = frozenset(
    {"champions", "rollout", "champion_since", "champion_until", "served_as", "canary", "deleted_version", "drifted"}
    | {"flow_run_id", "fingerprint"}
)
_CHANGES = re.compile(
    r"/(?:ajax-)?api/[\d.]+/mlflow/"
    r"(runs/(?:create|set-tag|delete-tag|log-batch)|(?:registered-models|model-versions)/set-tag)"
)


def checks_body(method: str, path: str) -> bool:
    """Return whether the body of a request is looked at."""
    return method == "POST" and _CHANGES.fullmatch(path) is not None


def permitted(path: str, body: Body, visitor: Visitor) -> Body:
    """Return the body as MLflow may have it: a new run is the visitor's, unless a worker sends it.

    Raises:
        RequestRefusedError: It writes a tag that is for admins, or is of another form.
    """
    if visitor.role is UserRole.WORKER:  # flows write these tags, and whose run it is
        return body
    asked = json.loads(body) if isinstance(body, str) else body  # MLflow's older clients encode it twice
    if not isinstance(asked, dict):
        raise RequestRefusedError(f"Expected a JSON object; found {safe_repr(asked)}.")
    tags = asked.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in tags):
        raise RequestRefusedError(f"Expected a list of tags; found {safe_repr(tags)}.")
    if path.endswith("/runs/create"):
        own = [tag for tag in tags if tag.get("key") != USER_TAG]
        asked = {name: value for name, value in asked.items() if name not in {"user_id", "userId"}}
        asked |= {"user_id": visitor.name, "tags": [*own, {"key": USER_TAG, "value": visitor.name}]}
        tags = own
    if visitor.role < UserRole.ADMIN:
        _require_free([asked.get("key"), *(tag.get("key") for tag in tags)])
    return asked


def _require_free(keys: list[Body]) -> None:
    reserved = [key for key in keys if key == USER_TAG or key in OF_FLOWS or str(key).startswith(OWNED)]
    if reserved:
        raise RequestRefusedError(
            f"Expected a tag that no flow decides by; found {safe_repr(reserved[0])}, which is for admins."
        )
