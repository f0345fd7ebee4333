"""A question to a person: a flow run is suspended with a form, and goes on with the answer.

The form, what the question is about and the answer are inputs of the flow run, which Prefect keeps as long as the run.
Each is written once, before the run is suspended: a run that is killed in between asks again with the same form, which
Prefect's own `suspend_flow_run` writes after it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Never
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import PrefectHTTPStatusError

from tasks.errors import StudioError, safe_repr
from tasks.orchestration import deployed_flows
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.prefect_client import in_state, list_flow_runs, patient_client, prompt_client
from tasks.orchestration.step import SERVICE_RESTART
from tasks.orchestration.suspension import reason_of, suspend

KEYSET = {part: f"question-{part}" for part in ("schema", "description", "response")}  # as Prefect names the parts
SUBJECT = "question-subject"
GRACE = timedelta(days=1)  # in which the server gives the answer of nobody; after it, it would fail the run


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The fields of the form as a person filled them, and when."""

    fields: Mapping[str, Any]
    given_at: datetime


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """What a suspended flow run asks, in Markdown, and since when."""

    run: UUID
    description: str
    since: datetime

    @property
    def summary(self) -> str:
        """The first paragraph, as plain text."""
        return self.description.partition("\n\n")[0].replace("**", "")


def list_open_questions() -> list[OpenQuestion]:
    """Return the questions that wait for an answer, the oldest first.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    paused = FlowRunFilter(state=in_state(StateType.PAUSED))
    runs = filter(_waits, list_flow_runs(paused, connect=prompt_client))
    with prompt_client() as client:
        found = [(run, client.read_flow_run_input(run.id, KEYSET["description"])) for run in runs]
    questions = [
        OpenQuestion(run=run.id, description=str(json.loads(text)), since=run.state.timestamp)
        for run, text in found
        if run.state
    ]
    return sorted(questions, key=lambda question: question.since)


def keep_subject(subject: Mapping[str, Any]) -> None:
    """Keep what is asked about, as JSON; in a later attempt, what was kept first stays.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    _keep(SUBJECT, dict(subject))


def find_subject() -> dict[str, Any] | None:
    """Return what this flow run has asked about; None if it has not asked.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    found = _find(SUBJECT)
    return dict(found.fields) if found else None


def find_answer() -> Answer | None:
    """Return the answer to this flow run, if there is one.

    Raises:
        PrefectUnavailableError: The server does not answer for minutes.
    """
    return _find(KEYSET["response"])


def ask(schema: Mapping[str, Any], description: str, deadline: datetime) -> Never:
    """Suspend this flow run until somebody fills the form of a JSON schema, described in Markdown.

    Raises:
        Pause: The run is suspended: this process ends, and an answer starts the flow again.
        Superseded: Another process has been given this flow run.
        Cancelled: The flow run was cancelled.
        StudioError: Prefect refuses it.
        PrefectUnavailableError: The server does not answer for minutes.
    """
    _keep(KEYSET["schema"], dict(schema))
    _keep(KEYSET["description"], description)
    suspend("Waits for the answer of a person.", until=deadline + GRACE, form=KEYSET)


def _waits(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_paused() and run.state.state_details.run_input_keyset == KEYSET


def deadline_of(state: State[Any]) -> datetime | None:
    """Return until when a person may answer a run in this state; None if it asks nothing."""
    details = state.state_details
    if details.run_input_keyset != KEYSET or not details.pause_timeout:
        return None
    return details.pause_timeout - GRACE


def answer(flow_run: UUID, fields: Mapping[str, Any]) -> None:
    """Answer the question of a suspended flow run, which goes on then.

    Raises:
        StudioError: Somebody has answered already, the run asks nothing, or the fields do not fit the form.
        PrefectUnavailableError: The server does not answer.
    """
    run = deployed_flows.require(flow_run)
    try:
        _resume(run, fields)
    except StudioError as error:
        given = _read(flow_run, KEYSET["response"])
        if given is None:
            raise
        who, when = safe_repr(given.fields.get("name")), given.given_at.isoformat(timespec="seconds")
        raise StudioError(
            f"Expected flow run {run.name} to wait for an answer, found that it was already answered by {who} at "
            f"{when}. That answer counts, and nothing has changed."
        ) from error


def _resume(run: FlowRun, fields: Mapping[str, Any]) -> None:
    if not _waits(run):
        found = run.state.name if run.state else "without a state"
        raise StudioError(
            f"Expected flow run {run.name} to wait for an answer, found it {found}: it asks nothing. Nothing has "
            f"changed."
        )
    with patient_client() as client:
        result = client.resume_flow_run(run.id, dict(fields))
    if result.status is not SetStateStatus.ACCEPT:
        raise StudioError(f"Prefect did not take the answer to flow run {run.name}: {reason_of(result)}")


def _keep(key: str, value: object) -> None:
    def keep(client: SyncPrefectClient) -> None:
        try:
            client.create_flow_run_input(UUID(flow_run_id()), key, json.dumps(value))
        except PrefectHTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise

    def keep_once() -> None:
        with patient_client() as client:
            keep(client)

    SERVICE_RESTART.call(keep_once)


def _find(key: str) -> Answer | None:
    return SERVICE_RESTART.call(lambda: _read(UUID(flow_run_id()), key))


def _read(flow_run: UUID, key: str) -> Answer | None:
    with patient_client() as client:
        found = client.filter_flow_run_input(flow_run, key, limit=1, exclude_keys=set())
    return Answer(fields=found[0].decoded_value, given_at=found[0].created or datetime.now(UTC)) if found else None
