"""Runs of deployments are started once, and refused in the server's own words."""

import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Running

from tasks.errors import REFUSED, StudioError
from tasks.orchestration import deployed_flows
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.parameters import ValidationPolicy
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("stack")


def test_a_run_is_started_once_for_each_idempotency_key() -> None:
    key = str(uuid4())
    first = deployed_flows.start("undeploy-model", {"model_name": "none"}, idempotency_key=key, tags=["tried"])
    assert deployed_flows.start("undeploy-model", {"model_name": "other"}, idempotency_key=key) == first
    run = deployed_flows.find(first)
    assert run
    assert (run.parameters, set(run.tags)) == ({"model_name": "none"}, {"tried", "serving"})
    assert deployed_flows.wait(first, 120).is_final()
    with get_client(sync_client=True) as client:
        client.delete_flow_run(first)
    assert deployed_flows.find(first) is None


def test_a_run_that_has_a_shared_key_has_to_have_the_same_parameters() -> None:
    """Whoever knows the key of a check may take it first, with another archive or a policy that finds no fault."""
    archive, key = f"{uuid4()}.zip", str(uuid4())
    lenient = {"max_unlabelled_share": 1.0}
    taken = deployed_flows.start("validate-dataset", {"archive": archive, "policy": lenient}, idempotency_key=key)
    wanted = {"archive": archive}
    assert deployed_flows.start("validate-dataset", wanted, idempotency_key=key) == taken
    for asked, other in ((wanted, "policy"), ({"archive": "b.zip", "policy": lenient}, "archive")):
        with pytest.raises(StudioError, match=f"another value of '{other}'"):
            deployed_flows.require_parameters("validate-dataset", taken, asked)
    for same in (lenient, ValidationPolicy(**lenient).model_dump(mode="json")):
        deployed_flows.require_parameters("validate-dataset", taken, {**wanted, "policy": same})


def test_parameters_against_the_schema_are_refused_before_a_run_exists() -> None:
    with pytest.raises(StudioError, match=r"Prefect refused the call: .*epochs"):
        deployed_flows.start("train-model", {"model_name": "a", "archives": ["a.zip"], "training": {"epochs": -1}})


def test_a_flow_that_is_not_deployed_is_named() -> None:
    with pytest.raises(StudioError, match="Expected deployment no-such-flow/gpu"):
        deployed_flows.start("no-such-flow", {})


def scheduled_run(client: SyncPrefectClient) -> UUID:
    """A run that no worker looks at."""
    deployment = client.create_deployment(client.create_flow_from_name("waiting"), str(uuid4()))
    return client.create_flow_run_from_deployment(deployment).id


def test_a_run_that_goes_on_is_named_with_its_state(client: SyncPrefectClient) -> None:
    run = scheduled_run(client)
    with pytest.raises(StudioError, match="to end within 0 s, found it Scheduled"):
        deployed_flows.wait(run, 0)


def test_a_server_that_is_away_is_a_transient_error() -> None:
    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(away), pytest.raises(PrefectUnavailableError):
        deployed_flows.find(uuid4())


def test_a_run_that_waits_is_cancelled_and_given_back(client: SyncPrefectClient) -> None:
    run = scheduled_run(client)
    assert deployed_flows.cancel(run) == "Cancelled"
    with pytest.raises(StudioError, match="to go on, found it Cancelled"):
        deployed_flows.cancel(run)
    assert deployed_flows.retry(run, "needed") == "AwaitingRetry"
    given_back = deployed_flows.require(run).state
    assert given_back
    assert given_back.message == "needed"
    with pytest.raises(StudioError, match="to be Failed, Crashed or Cancelled, found it AwaitingRetry"):
        deployed_flows.retry(run)
    client.set_flow_run_state(run, Running(), force=True)
    assert deployed_flows.cancel(run) == "Cancelling"
    client.set_flow_run_state(run, Crashed(), force=True)
    assert deployed_flows.cancel(run, "no longer needed") == "Cancelled"
    client.set_flow_run_state(run, Cancelled(name=REFUSED), force=True)
    with pytest.raises(StudioError, match=r"found it Refused: .* Start a new one, which asks again"):
        deployed_flows.retry(run)


def send_lines(client: SyncPrefectClient, run: UUID, *texts: str) -> None:
    began = datetime.now(UTC)
    lines = [
        {
            "name": "prefect.flow_runs",
            "level": 20,
            "message": text,
            "timestamp": (began + timedelta(seconds=number)).isoformat(),
            "flow_run_id": str(run),
        }
        for number, text in enumerate(texts)
    ]
    client.request("POST", "/logs/", json=lines)


def test_the_log_of_a_run_is_read_on_from_where_it_was(client: SyncPrefectClient) -> None:
    run, lines = scheduled_run(client), [f"line {number}" for number in range(450)]
    send_lines(client, run, *lines)
    assert [line.text for line in deployed_flows.read_log(run)] == lines
    assert [line.text for line in deployed_flows.read_log(run, 448)] == ["line 448", "line 449"]


def test_lines_that_come_after_the_end_of_a_run_are_in_its_log(client: SyncPrefectClient) -> None:
    """A process sends what it has logged every two seconds, whatever its run is by then."""
    run = scheduled_run(client)
    send_lines(client, run, "first")
    client.set_flow_run_state(run, Completed(), force=True)
    late = [threading.Timer(after, send_lines, (client, run, text)) for after, text in ((1, "second"), (3, "third"))]
    for each in late:
        each.start()
    assert [line.text for line in deployed_flows.read_log(run)] == ["first", "second", "third"]
    ended = deployed_flows.require(run).end_time
    assert ended
    eventually(lambda: datetime.now(UTC) > ended + timedelta(seconds=10), "the last lines are there for sure")
    began = time.monotonic()
    assert [line.text for line in deployed_flows.read_log(run, 2)] == ["third"]
    assert time.monotonic() - began < 2
