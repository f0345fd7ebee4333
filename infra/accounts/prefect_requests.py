"""What the bodies of visitors' requests to Prefect may say: plain functions over JSON.

An operator starts, stops and answers runs of deployments as they are. What would say with which code, as whom or with
what outcome a run goes, is for admins. A worker elsewhere says how runs go, and starts others for them. Most bodies are
judged by what they are about, which the caller reads first.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from infra.accounts.refused import RequestRefusedError
from infra.accounts.roles import UserRole
from infra.accounts.starters import reason_not_to_retry, starter_of, starter_of_child, with_starter
from infra.accounts.visitors import Visitor
from tasks.dataset_watch.rules import QUEUE
from tasks.errors import safe_repr
from tasks.orchestration import events
from tasks.orchestration.child_runs import started_by
from tasks.orchestration.questions import KEYSET
from tasks.orchestration.starters import is_starter_tag

Body = Any  # JSON
Check = Callable[[Body, Visitor, Body], Body]  # a body, who sends it, what it is about
_ID = "[^/]+"
_RUN = f"(?P<subject>flow_runs/{_ID})"
_DEPLOYMENT = f"(?P<subject>deployments/{_ID})"
_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_STATES = ("SCHEDULED", "PAUSED", "CANCELLING", "CANCELLED")
_RETRIED = frozenset({"FAILED", "CRASHED", "CANCELLED"})  # what is scheduled again: its work is not done
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
_OF_A_CHILD = _OF_A_NEW_RUN | {"parent_task_run_id", "labels"}
_OF_PROGRESS = {"name", "tags", "flow_version", "empirical_policy", "infrastructure_pid"}
_STAYS = frozenset({*_FINAL, "CRASHED", "PAUSED"})  # until the server, or a person, has it go on
_CANCELLED = frozenset({"CANCELLING", "CANCELLED"})
_CHECK_KEY = re.compile("[0-9a-f]{64}")  # of a check of an archive, which whoever asks for it shares
# What runs on a worker elsewhere emit, and that worker: nothing by which the server tells what became of a run.
_EVENTS_OF_RUNS = frozenset(
    {
        events.DATASET_UPLOADED,
        events.DATASET_VALIDATED,
        events.MODEL_TRAINED,
        events.MODEL_PROMOTED,
        events.MODEL_REFUSED,
        events.INFERENCE_COMPLETED,
        events.REVIEW_WANTED,
        events.REVIEW_FINISHED,
        events.IMAGES_SELECTED,
        events.MODEL_DRIFTED,
        events.RUN_LEFT,
        "prefect.flow-run.heartbeat",
        "prefect.flow-run.pull-step.executed",
        "prefect.flow-run.pull-step.failed",
        "prefect.runner.cancelled-flow-run",
        "prefect.worker.started",
        "prefect.worker.stopped",
        "prefect.worker.submitted-flow-run",
        "prefect.worker.executed-flow-run",
        "prefect.artifact.created",
        "prefect.artifact.updated",
    }
)
_OF_TASK_RUNS = "prefect.task-run."  # by these events Prefect knows task runs
_NOTHING: tuple[Body, ...] = (None, False, "", [], {})
_LONGEST_TEMPLATE = 10_000  # characters
_KIND = "__prefect_kind"  # of an object in whose place Prefect puts a value
_PLAIN_KINDS = ("none", "json")  # the value that stands in it


class Lookup(NamedTuple):
    """The request by which Prefect tells what a body is about: a run, a deployment, or all deployments."""

    method: str
    path: str
    body: Body = None


def checks_body(method: str, path: str, visitor: Visitor) -> bool:
    """Return whether the body of a request is looked at."""
    return _find(method, path, visitor) is not None


def lookup_of(method: str, path: str, body: Body, visitor: Visitor) -> Lookup | None:
    """Return the request whose answer `permitted` needs; None: it needs none."""
    found = _find(method, path, visitor)
    if found is None:
        return None
    check, subject = found
    if check is _child_run:
        parent = started_by(_tags(_object(body)))
        return Lookup("GET", f"/api/flow_runs/{parent}") if parent else None
    if check is _validation:
        return Lookup("POST", "/api/deployments/filter", {})
    return Lookup("GET", f"/api/{quote(subject)}") if subject else None


def permitted(method: str, path: str, body: Body, visitor: Visitor, about: Body) -> Body:
    """Return the body as Prefect may have it: with the starter of a run in its tags.

    `body` is None if none was sent, `about` what Prefect has answered to the request of `lookup_of`.

    Raises:
        RequestRefusedError: It says more than the visitor's role may, or is of another form.
    """
    found = _find(method, path, visitor)
    return found[0](body, visitor, about) if found else body


def _find(method: str, path: str, visitor: Visitor) -> tuple[Check, str] | None:
    """The check of a request, and the address of what it is about, without `/api/`; empty: it needs none."""
    for known, pattern, check in _CHECKS_OF_WORKERS if visitor.role is UserRole.WORKER else _CHECKS:
        if known == method and (found := re.fullmatch(f"/api/{pattern}", path)):
            return check, found.groupdict().get("subject", "")
    return None


def _new_run(body: Body, visitor: Visitor, deployment: Body) -> Body:
    """A run of a deployment, with the deployment's own code, queue, variables and rules for parameters."""
    asked, own = _object(body), deployment or {}
    if visitor.role < UserRole.ADMIN:
        # Prefect's form sends the variables that the deployment has.
        is_own = "job_variables" in asked and asked["job_variables"] == own.get("job_variables")
        _require_only(asked, _OF_A_NEW_RUN | ({"job_variables"} if is_own else set()))
        if asked.get("work_queue_name") not in (None, own.get("work_queue_name")):
            raise _refused("the work queue of the deployment", safe_repr(asked["work_queue_name"]))
        _require_ordinary(asked)
    return _of_visitor(asked, visitor)


def _require_ordinary(asked: Mapping[str, Body]) -> None:
    """Check that a new run begins as any other, with plain parameters that fit their schema."""
    if asked.get("enforce_parameter_schema") not in (None, True):
        raise _refused("parameters that fit their schema", "enforce_parameter_schema: false")
    if asked.get("state") is not None:
        _require_state(asked["state"], ("SCHEDULED",))
    _require_plain(asked.get("parameters"))


def _child_run(body: Body, _: Visitor, parent: Body) -> Body:
    """A run that a run on a worker elsewhere starts: a worker says which run that is, and Prefect for whom it goes."""
    asked = _object(body)
    _require_only(asked, _OF_A_CHILD)
    _require_ordinary(asked)
    _require_own_key(asked)
    if parent is not None and parent["state_type"] != "RUNNING":
        raise _refused("the tag of a run that is RUNNING", parent["state_type"])
    if asked.get("work_queue_name") not in (None, QUEUE):
        raise _refused(f"the work queue of the deployment, or {QUEUE!r}", safe_repr(asked["work_queue_name"]))
    starter = starter_of_child(parent["tags"] if parent else ())
    # It begins at once, by the clock of the server: one that never began would keep others with its key from beginning.
    begun = {name: value for name, value in asked.items() if name != "state"}
    return {**begun, "tags": with_starter(_tags(asked), starter)}


def _require_own_key(asked: Mapping[str, Body]) -> None:
    """Check that a new run takes no key by which somebody else would find it in the place of their own."""
    key, parent = asked.get("idempotency_key") or "", started_by(_tags(asked))
    is_own = isinstance(key, str) and (_CHECK_KEY.fullmatch(key) or (parent and key.startswith(f"{parent}-")))
    if key and not is_own:
        raise _refused("an idempotency key that begins with the id of the run that the tag names", safe_repr(key))


def _new_runs(body: Body, visitor: Visitor, _: Body) -> Body:
    if not isinstance(body, list):
        raise _refused("a list of runs", safe_repr(body))
    return [_new_run(each, visitor, None) for each in body]


def _of_visitor(asked: Mapping[str, Body], visitor: Visitor) -> Body:
    """The run with its starter, and with a key that finds no run which somebody else has made, or the stack."""
    key = asked.get("idempotency_key")
    own = {"idempotency_key": f"visitor:{visitor.name}:{key}"} if key else {}
    return {**asked, **own, "tags": with_starter(_tags(asked), starter_of(visitor))}


def _change_of_run(body: Body, visitor: Visitor, run: Body) -> Body:
    """The change of a run with the starter that the run has, whatever it says of one."""
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, _OF_PROGRESS if visitor.role is UserRole.WORKER else {"name", "tags"})
    if "tags" not in asked:
        return asked
    own = [tag for tag in _tags(asked) if not is_starter_tag(tag)]
    return {**asked, "tags": [*own, *filter(is_starter_tag, run["tags"])]}


def _new_state(body: Body, visitor: Visitor, run: Body) -> Body:
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"state", "force"})
        _require_state(asked.get("state"), _STATES)
        is_retry = str(asked["state"]["type"]).upper() == "SCHEDULED"
        present = run["state_type"]
        if is_retry and present not in _RETRIED:
            raise _refused("a run that is FAILED, CRASHED or CANCELLED", present)
        if not is_retry and present in _FINAL:
            raise _refused("a run that has not ended", present)
        if is_retry and (reason := reason_not_to_retry(run["tags"], visitor)):
            raise RequestRefusedError(reason)
    return asked


def _state_of_progress(body: Body, _: Visitor, run: Body) -> Body:
    """A state that a worker elsewhere gives a run, which has neither ended nor waits for people."""
    asked = _object(body)
    wanted, present = str(_object(asked.get("state")).get("type")).upper(), run["state_type"]
    is_forced = bool(asked.get("force"))
    if present in _STAYS:  # the same again is said of a crash, by the process and by its worker
        passes = wanted == present and (present == "CANCELLED" or not is_forced)
    else:  # without force, Prefect's own rules let a run that is being cancelled become nothing else
        passes = present != "CANCELLING" or wanted in _CANCELLED or not (is_forced or wanted == "SCHEDULED")
    if not passes:
        raise _refused(f"no other state of a run that is {present}, and none by force", safe_repr(wanted))
    return asked


def _events(body: Body, _: Visitor, __: Body) -> Body:
    """Events of a worker elsewhere: those that it, or a run that it carries out, emits."""
    if not isinstance(body, list):
        raise _refused("a list of events", safe_repr(body))
    for each in body:
        name = _object(each).get("event")
        if not isinstance(name, str) or not (name in _EVENTS_OF_RUNS or name.startswith(_OF_TASK_RUNS)):
            raise _refused("an event that a run emits", safe_repr(name))
    return body


def _answer(body: Body, visitor: Visitor, run: Body) -> Body:
    """The answer to a run that waits, in the visitor's own name; Prefect says of any other run that it does not."""
    asked = _object(body or {})
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"run_input"})
        _require_plain(asked.get("run_input"))
    if run["state_type"] != "PAUSED":
        return {}
    fields = asked.get("run_input")
    if run["state"]["state_details"].get("run_input_keyset") != KEYSET or not fields:
        return asked
    if _KIND in _object(fields):
        raise _refused("the fields of the form", "one value in the place of all")
    return {**asked, "run_input": {**fields, "name": visitor.name}}


def _validation(body: Body, visitor: Visitor, deployments: Body) -> Body:
    """The values of a form, by the schema of a deployment, of which Prefect's older page leaves rules out.

    By any other schema, which may take hours, they are not looked at: the newer page sends an answer as its own schema.
    What a run is made or resumed with is looked at in any case.
    """
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"schema", "values"})
        _require_plain(asked.get("values"))
        schema = asked.get("schema")
        is_known = any(_is_part(schema, each["parameter_openapi_schema"]) for each in deployments)
        asked = {**asked, "schema": schema if is_known else {}}
    return asked


def _template(body: Body, _: Visitor, __: Body) -> Body:
    if isinstance(body, str) and len(body) > _LONGEST_TEMPLATE:
        message = f"Expected a template of at most {_LONGEST_TEMPLATE} characters; found {len(body)}. Shorten it."
        raise RequestRefusedError(message, 422)
    return body


def _switch(body: Body, visitor: Visitor, _: Body) -> Body:
    asked = _object(body)
    if visitor.role < UserRole.ADMIN:
        _require_only(asked, {"active"})
    return asked


_CHECKS: tuple[tuple[str, str, Check], ...] = (
    ("POST", f"{_DEPLOYMENT}/create_flow_run", _new_run),
    ("POST", f"deployments/{_ID}/create_flow_run/bulk", _new_runs),
    ("POST", "flow_runs/", _new_run),
    ("PATCH", _RUN, _change_of_run),
    ("POST", f"{_RUN}/set_state", _new_state),
    ("POST", f"{_RUN}/resume", _answer),
    ("POST", "ui/schemas/validate", _validation),
    ("POST", "(?:automations/)?templates/validate", _template),
    ("PATCH", f"deployments/{_ID}/schedules/{_ID}", _switch),
)
# All else that they may send is as it is.
_CHECKS_OF_WORKERS: tuple[tuple[str, str, Check], ...] = (
    ("POST", f"deployments/{_ID}/create_flow_run", _child_run),
    ("PATCH", _RUN, _change_of_run),
    ("POST", f"{_RUN}/set_state", _state_of_progress),
    ("POST", "events", _events),
)


def _require_state(state: Body, types: tuple[str, ...]) -> None:
    asked = _object(state)
    _require_only(asked, {"type", "name", "message", "state_details"})
    if str(asked.get("type")).upper() not in types:
        raise _refused(f"a state of type {', '.join(types)}", safe_repr(asked.get("type")))
    _require_only(_object(asked.get("state_details") or {}), _DETAILS)


def _require_only(asked: Mapping[str, Body], names: set[str]) -> None:
    """What says nothing may be there: Prefect's client and its pages send every field."""
    others = sorted(name for name, value in asked.items() if name not in names and not _says_nothing(value))
    if others:
        raise _refused(", ".join(sorted(names)), safe_repr(", ".join(others)))


def _is_part(schema: Body, whole: Body) -> bool:
    """Whether a schema has no rule that another has not at the same place."""
    if isinstance(schema, dict) and isinstance(whole, dict):
        return all(name in whole and _is_part(each, whole[name]) for name, each in schema.items())
    if isinstance(schema, list) and isinstance(whole, list):
        return len(schema) == len(whole) and all(map(_is_part, schema, whole))
    return bool(schema == whole)


def _says_nothing(value: Body) -> bool:
    if isinstance(value, dict):
        return all(map(_says_nothing, value.values()))
    return value in _NOTHING


def _require_plain(value: Body) -> None:
    """Prefect puts the value of a variable, or the text of a template, in the place of an object of another kind."""
    if isinstance(value, dict):
        if value.get(_KIND, "none") not in _PLAIN_KINDS:
            raise _refused("plain values", f"{safe_repr(value[_KIND])} of Prefect")
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _require_plain(each)


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
