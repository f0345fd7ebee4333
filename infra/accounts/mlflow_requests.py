"""What the bodies of visitors' requests to MLflow may say: plain functions over JSON.

A run that a visitor logs is theirs by name. Flows decide by tags, of runs as of models: visitors write only those by
which no flow ever does. What is written on a model and its versions is its owner's. A worker elsewhere writes what the
flows do that it carries out; none of them makes a champion.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.errors import safe_repr
from tasks.tracking.registered_models import CHALLENGER, USER_TAG, reason_not_to_change

Body = Any  # JSON
NOTE = "mlflow.note.content"
NOTES = "note."  # how tags of visitors begin
_OF_MLFLOW = "mlflow."  # how tags begin that its own clients and pages write, of runs and experiments
_MODELS = re.compile(r"/(?:ajax-)?api/[\d.]+/mlflow/(?:registered-models|model-versions)/(?:set-tag|update)")
_CHANGES = re.compile(
    r"/(?:ajax-)?api/[\d.]+/mlflow/"
    r"(?:runs/(?:create|set-tag|delete-tag|log-batch)|experiments/(?:create|set-experiment-tag)|registered-models/alias)"
)


def checks_body(method: str, path: str) -> bool:
    """Return whether the body of a request is looked at."""
    return (method == "POST" and _CHANGES.fullmatch(path) is not None) or (
        method in {"POST", "PATCH"} and _MODELS.fullmatch(path) is not None
    )


def changed_model(path: str, body: Mapping[str, Body]) -> str | None:
    """Return the name of the model that a body changes, or a version of it; None if it changes none.

    Raises:
        RequestRefusedError: It names no model.
    """
    if not _MODELS.fullmatch(path):
        return None
    name = body.get("name")
    if not isinstance(name, str):
        raise RequestRefusedError(f"Expected the name of a model; found {safe_repr(name)}.")
    return name


def require_owner(model: str, tags: Mapping[str, str], visitor: Visitor) -> None:
    """Check that a visitor may write on a model, and on its versions; a worker writes on those of all.

    Raises:
        RequestRefusedError: They are neither its owner nor an admin.
    """
    if visitor.role in {UserRole.WORKER, UserRole.ADMIN}:
        return
    if reason := reason_not_to_change(model, tags, visitor.name, str(visitor.role)):
        raise RequestRefusedError(reason)


def permitted(path: str, body: Body, visitor: Visitor) -> Body:
    """Return the body as MLflow may have it: a new run is the visitor's, unless a worker sends it.

    Raises:
        RequestRefusedError: It writes a tag that flows might decide by, or is of another form.
    """
    asked = json.loads(body) if isinstance(body, str) else body  # MLflow's older clients encode it twice
    if not isinstance(asked, dict):
        raise RequestRefusedError(f"Expected a JSON object; found {safe_repr(asked)}.")
    if visitor.role is UserRole.WORKER:  # flows write these tags, and whose run it is
        alias = asked.get("alias", CHALLENGER)
        if alias != CHALLENGER:
            raise RequestRefusedError(
                f"Expected alias {CHALLENGER!r}; found {safe_repr(alias)}. Others are for admins."
            )
        return asked
    tags = asked.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in tags):
        raise RequestRefusedError(f"Expected a list of tags; found {safe_repr(tags)}.")
    if path.endswith("/runs/create"):
        own = [tag for tag in tags if tag.get("key") != USER_TAG]
        asked = {name: value for name, value in asked.items() if name not in {"user_id", "userId"}}
        asked |= {"user_id": visitor.name, "tags": [*own, {"key": USER_TAG, "value": visitor.name}]}
        tags = own
    if visitor.role < UserRole.ADMIN:
        written = [*([asked["key"]] if "key" in asked else []), *(tag.get("key") for tag in tags)]
        _require_free(written, of_a_model=_MODELS.fullmatch(path) is not None)
    return asked


def _require_free(keys: list[Body], *, of_a_model: bool) -> None:
    for key in keys:
        is_mlflows = not of_a_model and str(key).startswith(_OF_MLFLOW) and key != USER_TAG
        if not (key == NOTE or str(key).startswith(NOTES) or is_mlflows):
            raise RequestRefusedError(
                f"Expected {NOTE}, or a tag whose name begins with {NOTES!r}; found {safe_repr(key)}. "
                "The rest is for flows and admins."
            )
