"""The runs of inference, the newest first: which and when MLflow knows, what is left of them bucket `predictions`."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from tasks.catalogue.cursors import CatalogueError, ListRequest
from tasks.catalogue.entries import Page, PredictionEntry
from tasks.errors import expected_found_fix, safe_repr
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS
from tasks.tracking.inference_runs import InferenceRun, find_inference_run, list_inference_runs

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_LONGEST_TIME = 15  # digits of milliseconds since 1970
_PREDICTIONS = ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE)


def list_predictions(*, cursor: str = "", limit: int = 50, model: str = "") -> Page[PredictionEntry]:
    """Return a page of the runs of inference that have ended, with one model or with any, the newest first.

    A run is in one page at most, and those that end meanwhile come before the first page.

    Raises:
        CatalogueError: The cursor is of another list, or the limit or the model's name cannot be.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    if model and not _MODEL_NAME.fullmatch(model):
        fix = "Look for it with `studio models`."
        raise CatalogueError(expected_found_fix("the name of a model", safe_repr(model), fix))
    request = ListRequest(listing="predictions", filters={"model": model}, cursor=cursor, limit=limit)
    runs = list(islice(list_inference_runs(model, _behind(request)), limit + 1))
    shown = runs[:limit]
    with ThreadPoolExecutor(TRANSFERS) as pool:
        entries = tuple(filter(None, pool.map(describe, shown)))
    return Page(entries=entries, next_cursor=request.cursor_behind(*shown[-1].position) if len(runs) > limit else None)


def read_prediction(run: str) -> PredictionEntry:
    """Return a run of inference by the id of its flow run.

    Raises:
        CatalogueError: There is no such run, or its results are not published yet.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    recorded = find_inference_run(run)
    entry = describe(recorded) if recorded else None
    if entry is None:
        fix = "Look for it with `studio predictions`, or wait until it has ended."
        raise CatalogueError(expected_found_fix("the id of a run of inference", safe_repr(run), fix))
    return entry


def _behind(request: ListRequest) -> tuple[str, str] | None:
    match request.position:
        case ():
            return None
        case (time, run) if time.isdecimal() and len(time) <= _LONGEST_TIME:
            return time, run
        case _:
            found = safe_repr(request.cursor)
            raise CatalogueError(expected_found_fix("a cursor of predictions", found, "Begin again without a cursor."))


def describe(run: InferenceRun) -> PredictionEntry | None:
    """Return what is known of a run; None while its results are being written.

    Raises:
        StorageError: The object store cannot be reached.
    """
    summary = _summary(run.flow_run_id)
    if summary is None and any(_PREDICTIONS.keys(f"{run.flow_run_id}/")):
        return None
    figures = run.figures if summary is None else {**run.figures, **summary}
    return PredictionEntry(
        run=run.flow_run_id,
        model=run.model,
        version=max(run.versions, default=None),
        created=run.created,
        inputs=figures.get("inputs"),
        images=figures.get("images", 0) + figures.get("frames", 0),
        detections=figures.get("detections", 0),
        failures=figures.get("failed_inputs", 0),
        gallery=None if summary is None else f"{run.flow_run_id}/index.html",
        deleted=summary is None,
    )


def _summary(run: str) -> Mapping[str, Any] | None:
    """The figures of the summary; none if it is damaged, for MLflow has most of them, too."""
    body = _PREDICTIONS.get(f"{run}/summary.json")
    if body is None:
        return None
    try:
        return {name: value for name, value in json.loads(body).items() if isinstance(value, int)}
    except (ValueError, AttributeError, RecursionError):
        return {}
