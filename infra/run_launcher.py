"""Flow runs as a user starts them: through their deployment, on whatever worker takes them."""

import time
from collections.abc import Callable

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import LogSort
from prefect.deployments import run_deployment

POLL_SECONDS = 0.5


def start(deployment: str, parameters: dict[str, object]) -> FlowRun:
    """Start a run of `flow-name/gpu`, as the Run button of the UI does."""
    return run_deployment(deployment, parameters=parameters, timeout=0)  # type: ignore[return-value]  # it is no coroutine here


def wait(run: FlowRun, progress: Callable[[float, str], None] | None = None) -> State:
    """Wait until the run has ended; `progress` gets a share (0 to 1) and the newest log line while it goes on."""
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(run.id).state
            if state is not None and state.is_final():
                return state
            if progress is not None:
                progress(_share(client, run), _last_line(client, run) or str(state and state.name))
            time.sleep(POLL_SECONDS)


def _share(client: SyncPrefectClient, run: FlowRun) -> float:
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    bars = [artifact for artifact in client.read_artifacts(artifact_filter=chosen) if artifact.type == "progress"]
    return float(bars[-1].data or 0) / 100 if bars else 0.0  # type: ignore[arg-type]


def _last_line(client: SyncPrefectClient, run: FlowRun) -> str:
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    logs = client.read_logs(chosen, limit=1, sort=LogSort.TIMESTAMP_DESC)
    return logs[0].message.splitlines()[0] if logs and logs[0].message else ""
