"""Steps of the dataset check: the check itself, and the state that its verdict is."""

import base64
import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import escape
from prefect import get_run_logger, runtime, task
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed, Failed
from pydantic import Base64Bytes, BaseModel, ConfigDict

from tasks.dataset.findings import Report, Verdict
from tasks.errors import StudioError
from tasks.orchestration import events
from tasks.parameters import ValidationPolicy
from tasks.validation.check_records import OF_PIPELINE, WATCHED
from tasks.validation.dataset_check import inspect_dataset, render_inspection
from tasks.validation.image_stats_io import pack_image_stats
from tasks.validation.report.groups import sanitize_text
from tasks.validation.report.markdown import report_sentence

RULES_VERSION = 5  # part of the cache key: a changed rule checks every archive again
PROGRESS_SECONDS = 5
LONGEST_NAME = 120
STATE_NAMES = {
    Verdict.VALID: "Valid",
    Verdict.VALID_WITH_WARNINGS: "Valid with warnings",
    Verdict.INVALID: "Invalid",
}


class InvalidDatasetError(StudioError):
    """An archive that must not be trained on."""


class CheckedArchive(BaseModel):
    """The outcome of a check: the report, its page as HTML, and the flow run that made them, by id and by name.

    `traits` are the packed statistics of the images: a merge finds duplicates across archives with them.
    """

    model_config = ConfigDict(frozen=True)

    report: Report
    page: str
    traits: Base64Bytes
    checked_at: datetime
    flow_run_id: str
    flow_run_name: str

    @property
    def earlier(self) -> str | None:
        """A sentence that names the run of this outcome, if it is another run."""
        if self.flow_run_id == str(runtime.flow_run.id):
            return None
        return (
            f"Not checked again: the same bytes were checked under the same rules and policy on "
            f"{self.checked_at:%Y-%m-%d %H:%M} UTC by run '{self.flow_run_name}'."
        )


def check_archive(path: Path, archive: str, digest: str, policy: ValidationPolicy) -> CheckedArchive:
    """Check the archive file at `path`; the same bytes are checked once, under whatever name they come."""
    checked = check_archive_cached(path, digest, policy)
    if checked.earlier:
        get_run_logger().info("%s: %s", archive, checked.earlier)
    return checked.model_copy(
        update={
            "report": checked.report.model_copy(update={"archive": archive}),
            "page": checked.page.replace(_nameless(digest), str(escape(sanitize_text(archive, LONGEST_NAME)))),
        }
    )


def _nameless(digest: str) -> str:
    """The archive's name in a cached outcome: the same bytes may come under another name."""
    return f"{digest}.zip"


def _cache_key(_context: TaskRunContext, arguments: dict[str, Any]) -> str:
    policy: ValidationPolicy = arguments["policy"]
    chosen = policy.model_dump(mode="json") | {
        "raise_to_error": sorted(set(policy.raise_to_error)),
        "ignore": sorted(set(policy.ignore)),
    }
    key = json.dumps([RULES_VERSION, arguments["digest"], chosen], sort_keys=True)
    # It becomes the name of a file, and a policy in words is longer than a file name may be.
    return hashlib.sha256(key.encode()).hexdigest()


@task(cache_key_fn=_cache_key, persist_result=True, result_serializer="json")
def check_archive_cached(path: Path, digest: str, policy: ValidationPolicy) -> CheckedArchive:
    """Check a dataset, cached by digest, rules and policy; the log shows the progress every few seconds."""
    log = get_run_logger()
    last_logged = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last_logged
        if time.monotonic() - last_logged > PROGRESS_SECONDS:
            last_logged = time.monotonic()
            log.info("%d of %d images checked", done, total)

    inspection = inspect_dataset(path, _nameless(digest), digest, policy, progress)
    return CheckedArchive(
        report=inspection.report,
        page=render_inspection(inspection, path, policy),
        traits=base64.encodebytes(pack_image_stats(inspection.images)),
        checked_at=datetime.now(UTC),
        flow_run_id=str(runtime.flow_run.id),
        flow_run_name=str(runtime.flow_run.name),
    )


def verdict_state(report: Report, earlier: str | None = None) -> State:
    """Return the state `Valid`, `Valid with warnings`, or a failed `Invalid`; `earlier` ends its message."""
    message = report_sentence(report)
    if earlier:
        message = f"{message.removesuffix('.')}. {earlier}"
    state = Failed if report.verdict is Verdict.INVALID else Completed
    return state(name=STATE_NAMES[report.verdict], message=message)


def require_valid(report: Report, page: str) -> None:
    """Refuse an archive with errors; `page` is the address of its report.

    Raises:
        InvalidDatasetError: The archive has errors.
    """
    if report.verdict is Verdict.INVALID:
        raise InvalidDatasetError(
            f"{report_sentence(report).removesuffix('.')}. Fix the archive and upload it again; "
            f"every finding is at {page}"
        )


def announce_verdict(report: Report, page: str, flow_run_id: str) -> None:
    """Emit event `dataset.validated`, once for each flow run; `page` is the address of the report.

    Its label `landed` is `true` if the check began by itself: a pipeline that waits for new archives is not started
    by whoever checks an old one again, nor by an archive that another pipeline has made for itself.
    """
    verdict, tags = report.verdict.value, runtime.flow_run.tags
    landed = str(WATCHED in tags and OF_PIPELINE not in tags).lower()
    events.emit(
        events.DATASET_VALIDATED,
        events.dataset(report.digest, report.archive, verdict=verdict, landed=landed),
        payload={
            "archive": report.archive,
            "digest": report.digest,
            "verdict": verdict,
            "counts": dict(report.counts),
            "report": page,
        },
        key=flow_run_id,
    )
