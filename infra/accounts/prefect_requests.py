"""What the bodies of visitors' requests to Prefect may say: plain functions over JSON.

An operator starts, stops and answers runs of deployments as they are. What would say with which code, as whom or with
what outcome a run goes, is for admins.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.starters import with_starter
from infra.accounts.visitors import Visitor
from tasks.errors import safe_repr
from tasks.orchestration.starters import is_starter_tag

Body = Any  # JSON
_ID = "[^/]+"
_STATES = ("SCHEDULED", "PAUSED", "CANCELLING", "CANCELLED")
_DETAILS = {"scheduled_time", "pause_timeout", "pause_key", "pause_reschedule", "transition_id"}
_OF_A_NEW_RUN = {
    "name",
    "parameters",
    "tags",
    "idempotency_key",
    "work_queue_name",
    "state",
    "enforce_parameter_schema",
}
_NOTHING: tuple[Body, ...] = (None, False, "", [], {})


def checks_body(method: str, path: str) -> bool:
    """Return whether the body of a request is looked at."""
    return _check_of(method, path) is not None


def permitted(method: str, path: str, body: Body, visitor: Visitor) -> Body:
    """Return the body as Prefect may have it: with the starter of a run in its tags, unless a worker sends it.

    Raises:
        RequestRefusedError: It says more than the visitor's role may, or is of another form.
    """
    if visitor.role is UserRole.WORKER:  # a run that starts another says itself who has started them
        return body
    check = _check_of(method, path)
    return check(body, visitor) if check else body


def keep_starter(body: Body, known: list[str]) -> Body:
    """Return the change of a run with the starter that the run has, whatever it says of one."""
    if not isinstance(body, dict) or "tags" not in body:
        return body
    own = [tag for tag in _tags(body) if not is_starter_tag(tag)]
    return {**body, "tags": [*own, *filter(is_starter_tag, known)]}


def _check_of(method: str, path: str) -> Callable[[Body, Visitor], Body] | None:
    return next(
        (check for known, pattern, check in _CHECKS if known == method and re.fullmatch(f"/api/{pattern}", path)), None
    )


def _new_run(body: Body, visitor: Visitor) -> Body:
    """A run of a deployment, with the deployment's own code, variables and rules for parameters."""
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, _OF_A_NEW_RUN)
        if asked.get("enforce_parameter_schema") is False:
            raise _refused("parameters that fit their schema", "enforce_parameter_schema: false")
        if asked.get("state") is not None:
            _require_state(asked["state"], ("SCHEDULED",))
        _require_no_variable(asked.get("parameters"))
    return {**asked, "tags": with_starter(_tags(asked), visitor)}


def _new_runs(body: Body, visitor: Visitor) -> Body:
    if not isinstance(body, list):
        raise _refused("a list of runs", safe_repr(body))
    return [_new_run(each, visitor) for each in body]


def _change_of_run(body: Body, visitor: Visitor) -> Body:
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"name", "tags"})
    return asked


def _new_state(body: Body, visitor: Visitor) -> Body:
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"state", "force"})
        _require_state(asked.get("state"), _STATES)
    return asked


def _switch(body: Body, visitor: Visitor) -> Body:
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"active"})
    return asked


_CHECKS = (
    ("POST", f"deployments/{_ID}/create_flow_run", _new_run),
    ("POST", f"deployments/{_ID}/create_flow_run/bulk", _new_runs),
    ("POST", "flow_runs/", _new_run),
    ("PATCH", f"flow_runs/{_ID}", _change_of_run),
    ("POST", f"flow_runs/{_ID}/set_state", _new_state),
    ("PATCH", f"deployments/{_ID}/schedules/{_ID}", _switch),
)


def _require_state(state: Body, types: tuple[str, ...]) -> None:
    asked = _object(state)
    _require_only(asked, {"type", "name", "message", "state_details"})
    if str(asked.get("type")).upper() not in types:
        raise _refused(f"a state of type {', '.join(types)}", safe_repr(asked.get("type")))
    _require_only(_object(asked.get("state_details") or {}), _DETAILS)


def _require_only(asked: Mapping[str, Body], names: set[str]) -> None:
    """What says nothing may be there: Prefect's client sends every field."""
    others = sorted(name for name, value in asked.items() if name not in names and value not in _NOTHING)
    if others:
        raise _refused(", ".join(sorted(names)), safe_repr(", ".join(others)))


def _require_no_variable(value: Body) -> None:
    """Prefect puts the value of a variable in the place of such an object."""
    if isinstance(value, dict):
        if value.get("__prefect_kind") == "workspace_variable":
            raise _refused("plain values", "a variable of Prefect")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _require_no_variable(each)


def _object(body: Body) -> dict[str, Body]:
    if not isinstance(body, dict):
        raise _refused("a JSON object", safe_repr(body))
    return body


def _tags(asked: Mapping[str, Body]) -> list[str]:
    tags = asked.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise _refused("a list of texts as tags", safe_repr(tags))
    return tags


def _refused(expected: str, found: str) -> RequestRefusedError:
    return RequestRefusedError(f"Expected {expected}; found {found}. The rest is for admins.")
