"""Runs of deployments are started once, and refused in the server's own words."""

from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed

from tasks.errors import StudioError
from tasks.orchestration import deployed_flows
from tasks.orchestration.prefect_client import PrefectUnavailableError

pytestmark = pytest.mark.usefixtures("stack")


def test_a_run_is_started_once_for_each_idempotency_key() -> None:
    key = str(uuid4())
    first = deployed_flows.start("undeploy-model", {"model_name": "none"}, idempotency_key=key, tags=["tried"])
    assert deployed_flows.start("undeploy-model", {"model_name": "other"}, idempotency_key=key) == first
    run = deployed_flows.find(first)
    assert run
    assert (run.parameters, run.tags) == ({"model_name": "none"}, ["tried", "serving"])
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(first, Completed(message="enough"), force=True)
    assert deployed_flows.wait(first, 10).message == "enough"
    with get_client(sync_client=True) as client:
        client.delete_flow_run(first)
    assert deployed_flows.find(first) is None


def test_parameters_against_the_schema_are_refused_before_a_run_exists() -> None:
    with pytest.raises(StudioError, match=r"Prefect refused the run of train-model: .*epochs"):
        deployed_flows.start("train-model", {"model_name": "a", "archives": ["a.zip"], "training": {"epochs": -1}})


def test_a_flow_that_is_not_deployed_is_named() -> None:
    with pytest.raises(StudioError, match="Expected deployment no-such-flow/gpu"):
        deployed_flows.start("no-such-flow", {})


def test_a_run_that_goes_on_is_named_with_its_state() -> None:
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("waiting")
        deployment = client.create_deployment(flow, str(uuid4()))
        run = client.create_flow_run_from_deployment(deployment).id
    with pytest.raises(StudioError, match="to end within 0 s, found it Scheduled"):
        deployed_flows.wait(run, 0)


def test_a_server_that_is_away_is_a_transient_error() -> None:
    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(away), pytest.raises(PrefectUnavailableError):
        deployed_flows.find(uuid4())
