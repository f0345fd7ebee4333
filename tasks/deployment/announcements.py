"""The events of versions that become champion, or do not; once for each flow run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tasks.deployment.refusals import VersionRefusedError
from tasks.deployment.rollout import Rollout
from tasks.orchestration import events
from tasks.tracking.deployment_runs import RolloutRecord, rollout_link
from tasks.tracking.links import page_links

# Tags of a version, and of a record, of which a person was asked.
APPROVAL, ANSWERED_BY, ANSWERED_AT, COMMENT = "approval", "approval.by", "approval.at", "approval.comment"


@contextmanager
def announced_refusal(record: RolloutRecord) -> Iterator[None]:
    """Emit `model.refused` if a gate refuses the version in the block.

    Raises:
        VersionRefusedError: The one of the block.
    """
    try:
        yield
    except VersionRefusedError as refusal:
        told = {"refused_by": refusal.refused_by, "reason": str(refusal)}
        payload = told | {"report": _report(record), "falls_page": ""}
        _emit(events.MODEL_REFUSED, record, payload)
        raise


def announce_deployed(record: RolloutRecord, change: Rollout) -> None:
    """Emit `model.deployed`: the version is served and is the champion."""
    payload = {
        "replaced": change.former,
        "approved_by": record.tags.get(ANSWERED_BY, ""),
        "comment": record.tags.get(COMMENT, ""),
        "report": _report(record),
    }
    _emit(events.MODEL_DEPLOYED, record, payload)


def announce_rolled_back(record: RolloutRecord, change: Rollout) -> None:
    """Emit `model.rolled-back`: the version is the champion again."""
    _emit(events.MODEL_ROLLED_BACK, record, {"replaced": change.former})


def announce_approval_wanted(record: RolloutRecord, champion: int | None) -> None:
    """Emit `approval.wanted`: the flow run is about to wait for a person; `champion` is what the version replaces."""
    page = page_links(record.flow_run_id)["Flow run in Prefect"]
    payload = {"replaces": champion, "run": record.flow_run_id, "page": page, "report": _report(record)}
    _emit(events.APPROVAL_WANTED, record, payload)


def _emit(kind: str, record: RolloutRecord, payload: Mapping[str, object]) -> None:
    if record.version is None:
        raise ValueError(f"{kind}: expected the record of a version, found none")
    events.emit(
        kind,
        events.version(record.model_name, record.version),
        payload={"model": record.model_name, "version": record.version, **payload},
        key=record.flow_run_id,
        related=[events.model(record.model_name)],
    )


def _report(record: RolloutRecord) -> str:
    return next(iter(rollout_link(record.flow_run_id).values()), "")
