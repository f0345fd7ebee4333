"""The current flow run: its id, name, start and log."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import MissingContextError


def log_step(step: str, *values: object) -> None:
    """Log one step of the flow, formatted as logging does."""
    get_run_logger().info(step, *values)


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def flow_run_name() -> str:
    """Return the name of the flow run in the Prefect UI."""
    return str(runtime.flow_run.name)


def flow_run_id() -> str:
    """Return the id of the flow run; checkpoints and results are keyed by it."""
    return str(runtime.flow_run.id)


def flow_run_tags() -> list[str]:
    """Return the tags of the flow run."""
    return list(runtime.flow_run.tags)


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Return the log of the flow run; elsewhere that of this module."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


def first_attempt_start() -> float | None:
    """Return when a flow run that is tried again began, in seconds since 1970; None in its first attempt."""
    if runtime.flow_run.run_count <= 1:
        return None
    with get_client(sync_client=True) as client:
        began = client.read_flow_run(UUID(flow_run_id())).start_time
    return began.timestamp() if began else None
