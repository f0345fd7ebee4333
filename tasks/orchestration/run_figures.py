"""What metrics need of flow runs and workers: plain figures, in requests that do not grow with the runs of the past."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from tasks.orchestration.prefect_client import RUNS_PER_REQUEST, prompt_client
from tasks.orchestration.run_list import flow_name

MOST_DUE = 5 * RUNS_PER_REQUEST
_UNFINISHED = frozenset(StateType) - TERMINAL_STATES


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """A flow run in figures; times in seconds since 1970, None if it has not come to them.

    `due` is when it was to begin, or is to begin again; `model` its parameter `model_name`, empty if it has none.
    """

    id: str
    flow: str
    type: StateType
    state: str
    queue: str
    model: str
    due: float | None
    started: float | None
    ended: float | None
    run_seconds: float
    attempts: int

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Self:
        """Return the figures of a run as the API gives it; making Prefect's own objects takes five times as long."""
        is_scheduled = run["state_type"] == StateType.SCHEDULED
        due = (run["next_scheduled_start_time"] if is_scheduled else None) or run["expected_start_time"]
        return cls(
            id=run["id"],
            flow=flow_name(UUID(run["flow_id"])),
            type=StateType(run["state_type"]),
            state=run["state_name"] or "",
            queue=run["work_queue_name"] or "",
            model=str(run["parameters"].get("model_name") or ""),
            due=_timestamp(due),
            started=_timestamp(run["start_time"]),
            ended=_timestamp(run["end_time"]),
            run_seconds=float(run["total_run_time"] or 0),
            attempts=run["run_count"],
        )


def list_due() -> list[RunFigures]:
    """Return the runs that have not ended and were to begin before now, the oldest first; at most `MOST_DUE`.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = {"expected_start_time": {"before_": datetime.now(UTC).isoformat()}, "state": _in_state(_UNFINISHED)}
    found: list[RunFigures] = []
    for page in _pages(chosen, FlowRunSort.EXPECTED_START_TIME_ASC):
        found += page
        if len(found) >= MOST_DUE:
            break
    return found


def list_ended(since: datetime) -> list[RunFigures]:
    """Return the runs that have ended since then, the newest first.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    chosen = {"end_time": {"after_": since.isoformat()}, "state": _in_state(TERMINAL_STATES)}
    return [run for page in _pages(chosen, FlowRunSort.END_TIME_DESC) for run in page]


def count_workers_online(pool: str) -> int:
    """Return how many workers of a pool have lately said that they are there; 0 if there is no such pool.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    body = {"workers": {"status": {"any_": ["ONLINE"]}}, "limit": RUNS_PER_REQUEST}
    with prompt_client() as client:
        try:
            answer = client.request(
                "POST",
                "/work_pools/{work_pool_name}/workers/filter",
                path_params={"work_pool_name": pool},
                json=body,
            )
        except ObjectNotFound:
            return 0
    return len(answer.json())


def _in_state(types: Iterable[StateType]) -> dict[str, Any]:
    return {"type": {"any_": sorted(types)}}


def _pages(chosen: Mapping[str, Any], sort: FlowRunSort) -> Iterator[list[RunFigures]]:
    offset = 0
    while True:
        body = {"flow_runs": chosen, "sort": sort, "limit": RUNS_PER_REQUEST, "offset": offset}
        with prompt_client() as client:
            rows = client.request("POST", "/flow_runs/filter", json=body).json()
        yield [RunFigures.of(row) for row in rows]
        if len(rows) < RUNS_PER_REQUEST:
            return
        offset += len(rows)


def _timestamp(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
