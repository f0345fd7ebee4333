"""The log of a flow run, as the Prefect UI shows it."""

import time

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import LogSort


def run_log(ended: State, last: str) -> list[str]:
    """Its lines, oldest first, from the moment on that one of them has `last` in it: they arrive a little later."""
    run, deadline = ended.state_details.flow_run_id, time.monotonic() + 20
    assert run is not None
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        while True:
            lines = [log.message for log in client.read_logs(chosen, limit=200, sort=LogSort.TIMESTAMP_ASC)]
            if any(last in line for line in lines):
                return lines
            assert time.monotonic() < deadline, lines
            time.sleep(0.2)
