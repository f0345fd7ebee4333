"""Flow runs as a user starts them: through their deployment, on whatever worker takes them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import LogSort

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class StartedRun:
    """A flow run that was asked for."""

    deployment: str
    id: UUID
    began: float = field(default_factory=time.monotonic)


def start(deployment: str, parameters: dict[str, object]) -> StartedRun:
    """Ask for a run of `flow-name/gpu`, as the Run button of the UI does."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        run = client.create_flow_run_from_deployment(found.id, parameters=parameters)
    return StartedRun(deployment, run.id)


def wait(run: StartedRun, progress: Callable[[float, str], None] | None = None) -> State:
    """Wait until the run has ended; `progress` gets a share (0 to 1) and the newest log line while it goes on."""
    with get_client(sync_client=True) as client:
        while True:
            state = read(client, run).state
            if state is not None and state.is_final():
                return state
            if progress is not None:
                progress(_share(client, run), _last_line(client, run) or str(state and state.name))
            time.sleep(POLL_SECONDS)


def read(client: SyncPrefectClient, run: StartedRun) -> FlowRun:
    """The run as the server knows it now."""
    return client.read_flow_run(run.id)


def _share(client: SyncPrefectClient, run: StartedRun) -> float:
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    bars = [artifact for artifact in client.read_artifacts(artifact_filter=chosen) if artifact.type == "progress"]
    return float(bars[-1].data or 0) / 100 if bars else 0.0  # type: ignore[arg-type]


def _last_line(client: SyncPrefectClient, run: StartedRun) -> str:
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    logs = client.read_logs(chosen, limit=1, sort=LogSort.TIMESTAMP_DESC)
    return logs[0].message.splitlines()[0] if logs and logs[0].message else ""
