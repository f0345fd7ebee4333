"""What was deleted in MLflow, and is there still."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tasks.settings import Settings
from tasks.tracking.mlflow_client import TrackingError

_TIMEOUT_S = 120.0  # the files of a run may be many
_NOT_FOUND = 404
_SERVER_ERROR = 500


@dataclass(frozen=True, kw_only=True)
class DeletedEntry:
    """A deleted run or model (`kind`), and the prefix of its files in bucket `mlflow`."""

    kind: str
    id: str
    deleted: datetime
    prefix: str


def list_deleted() -> list[DeletedEntry] | None:
    """Return what was deleted; None if this MLflow is not that of the local stack, and cannot be asked.

    Raises:
        TrackingError: MLflow does not answer, or refuses.
    """
    answer = _ask("GET", "")
    if answer is None:
        return None
    return [
        DeletedEntry(
            kind=str(entry["kind"]),
            id=str(entry["id"]),
            deleted=datetime.fromtimestamp(entry["deleted_ms"] / 1000, UTC),
            prefix=f"{str(entry['files']).strip('/')}/",
        )
        for entry in answer
    ]


def remove_deleted(entry: DeletedEntry) -> None:
    """Remove a deleted entry for good; one that is gone already is none.

    Raises:
        TrackingError: MLflow does not answer, or the entry is not deleted any more.
    """
    _ask("DELETE", f"/{entry.kind}/{quote(entry.id, safe='')}")


def _ask(method: str, path: str) -> Any:  # noqa: ANN401 - JSON
    """What the server answers; None if it has no such address."""
    import requests

    server = Settings().mlflow_tracking_uri.rstrip("/")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    try:
        answer = requests.request(method, f"{server}/studio/deleted{path}", auth=user, timeout=_TIMEOUT_S)
        if answer.status_code == _NOT_FOUND:
            return None
        answer.raise_for_status()
        return answer.json()
    except requests.RequestException as error:
        failed = TrackingError(f"MLflow at {server} failed to answer for its bin: {error} `studio status` shows it.")
        failed.transient = error.response is None or error.response.status_code >= _SERVER_ERROR
        raise failed from error
