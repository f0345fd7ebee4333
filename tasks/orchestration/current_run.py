"""The flow run that is under way: its id and name, when it began, and its log."""

from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client


def log_step(step: str, *values: object) -> None:
    """Tell a step of the story in the log of the run, a line in words, as logging does."""
    get_run_logger().info(step, *values)


def flow_run_name() -> str:
    """The name that the Prefect UI shows for the flow run, for other UIs to show too."""
    return str(runtime.flow_run.name)


def flow_run_id() -> str:
    """The id of the flow run that is under way; checkpoints and results are keyed by it."""
    return str(runtime.flow_run.id)


def first_attempt_start() -> float | None:
    """When this flow run began, in seconds since 1970, where it is tried again; None in its first attempt."""
    if runtime.flow_run.run_count <= 1:
        return None
    with get_client(sync_client=True) as client:
        began = client.read_flow_run(UUID(flow_run_id())).start_time
    return began.timestamp() if began else None
