"""The patrol beside Prefect's server; what each of its actions does is tested where it is about a run."""

import logging
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Running

from infra.patrol import cancel_left_runs, patrol
from tasks.orchestration import deployed_flows
from tasks.orchestration.child_runs import PIPELINE, child_tag


def test_a_server_that_is_away_is_visited_again_later(caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), caplog.at_level(logging.WARNING):
        patrol("http://127.0.0.1:9/api", None)
    assert [line.partition(":")[0] for line in caplog.messages] == [
        *("announce_active_runs", "answer_unanswered", "cancel_left_runs")
    ]


@pytest.mark.usefixtures("stack")
def test_a_pipeline_that_is_cancelled_while_it_waits_for_a_worker_leaves_no_run_behind() -> None:
    """No process of it is there that could cancel them."""
    with get_client(sync_client=True) as client:
        idle = str(uuid4())  # a deployment that no worker looks at
        pipelines = client.create_deployment(client.create_flow_from_name("run-pipeline"), idle)
        pipeline = client.create_flow_run_from_deployment(pipelines).id
        trainings = client.create_deployment(client.create_flow_from_name("child"), idle)
        tags = [child_tag(PIPELINE, pipeline)]
        child = client.create_flow_run_from_deployment(trainings, tags=tags).id
        other = client.create_flow_run_from_deployment(trainings).id
        for run in (child, other):
            client.set_flow_run_state(run, Running(), force=True)
        client.set_flow_run_state(pipeline, AwaitingRetry(), force=True)
        cancel_left_runs()
        assert client.read_flow_run(child).state_name == "Running"
        assert deployed_flows.cancel(pipeline) == "Cancelled"
        cancel_left_runs()
        assert client.read_flow_run(child).state_name == "Cancelling"
        assert client.read_flow_run(other).state_name == "Running"
        for deployment in (pipelines, trainings):
            client.delete_deployment(deployment)
