"""Steps of the dataset check: the check itself, and the state that its verdict is."""

import json
import time
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed, Failed

from tasks.core.errors import StudioError
from tasks.core.findings import Report, Verdict
from tasks.core.parameters import ValidationPolicy
from tasks.core.validation.check import check_dataset
from tasks.core.validation.report_markdown import report_sentence

RULES_VERSION = 1  # part of the cache key: a changed rule checks every archive again
PROGRESS_SECONDS = 5
STATE_NAMES = {
    Verdict.VALID: "Valid",
    Verdict.VALID_WITH_WARNINGS: "Valid with warnings",
    Verdict.INVALID: "Invalid",
}


class InvalidDatasetError(StudioError):
    """An archive that must not be trained on."""


def check_archive(path: Path, archive: str, digest: str, policy: ValidationPolicy) -> Report:
    """Check the archive file at `path`; the same bytes are checked once, under whatever name they come."""
    return check_bytes(path, digest, policy).model_copy(update={"archive": archive})


def _cache_key(_context: TaskRunContext, arguments: dict[str, Any]) -> str:
    policy = arguments["policy"].model_dump(mode="json")
    return json.dumps([RULES_VERSION, arguments["digest"], policy], sort_keys=True)


@task(cache_key_fn=_cache_key, persist_result=True, result_serializer="json")
def check_bytes(path: Path, digest: str, policy: ValidationPolicy) -> Report:
    """Check a dataset, cached by digest, rules and policy; says how far it is every few seconds."""
    log, told = get_run_logger(), time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            log.info("%d of %d images checked", done, total)

    return check_dataset(path, path.name, digest, policy, progress)


def verdict_state(report: Report) -> State:
    """The verdict as a state: `Valid`, `Valid with warnings`, or a failed `Invalid`."""
    name, message = STATE_NAMES[report.verdict], report_sentence(report)
    if report.verdict is Verdict.INVALID:
        return Failed(name=name, message=message)
    return Completed(name=name, message=message)


def require_valid(report: Report) -> None:
    """Raise InvalidDatasetError for an archive with errors."""
    if report.verdict is Verdict.INVALID:
        raise InvalidDatasetError(
            f"{report_sentence(report)}. Fix the archive and upload it again; "
            f"validate-dataset/gpu with archive {report.archive!r} shows every finding."
        )
