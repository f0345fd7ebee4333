"""How long a step waits for a service that does not answer, where hours of work hang on it."""

from typing import Any

from tasks.errors import StudioError


def is_transient_failure(_task: object, _run: object, state: Any) -> bool:  # noqa: ANN401 - a Prefect state, which rules do not know
    """Whether what failed may succeed a little later."""
    return isinstance(state.data, StudioError) and state.data.transient


# Options of a Prefect task: 4 minutes are enough for a server to be started again.
RETRY_TRANSIENT: dict[str, Any] = {
    "retries": 6,
    "retry_delay_seconds": [5, 15, 30, 60, 60, 60],
    "retry_condition_fn": is_transient_failure,
}
