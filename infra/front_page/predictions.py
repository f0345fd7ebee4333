"""Tab Predictions: the runs of inference, and of each its gallery, its files, its failures and its lineage."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.front_page.pages import LONGEST_QUERY, render, rows_of
from infra.front_page.stored_files import GALLERY, GALLERY_SCRIPTS
from tasks.catalogue.predictions import list_predictions, read_prediction
from tasks.errors import StudioError
from tasks.inference.results.chunk_reader import FAILURES, ITEMS
from tasks.inference.results.contact_sheet import CELL_HEIGHT, CELL_WIDTH, cut_cells, fast_downscale
from tasks.inference.results.summary import Failure, GalleryItem
from tasks.media.images import decode_image, encode_jpeg
from tasks.orchestration import deployed_flows
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.tracking.registered_versions import list_models

RUNS, FILES = 30, 100  # on a page of a list
THUMBNAILS = 4
_ITEM_BYTES = 1 << 17  # the start of items.jsonl: an item has 20 kB at most
_FAILURE_BYTES = 1 << 16  # so much of failures.jsonl is shown
_POLICY_BYTES = 1 << 10  # the start of a gallery: it names its script
_STORE = ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE)


def show_tab(request: Request) -> Response:
    """Answer with the tab."""
    return render(request, "predictions.html", model=request.query_params.get("model", ""))


def show_models(request: Request) -> Response:
    """Answer with the names that the filter offers.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    chosen = request.query_params.get("model", "")
    names = {model.name for model in list_models()} | {chosen}
    return render(request, "predictions_models.html", names=sorted(filter(None, names)), chosen=chosen)


def show_list(request: Request) -> Response:
    """Answer with a page of the list.

    Raises:
        CatalogueError: The cursor or the model's name cannot be.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    model, cursor = (request.query_params.get(name, "") for name in ("model", "cursor"))
    page = list_predictions(cursor=cursor, limit=rows_of(request, RUNS), model=model)
    return render(request, "predictions_list.html", page=page, model=model, is_first=not cursor)


def show_run(request: Request) -> Response:
    """Answer with the page of a run."""
    return render(request, "predictions_run.html", run=_run(request))


def show_results(request: Request) -> Response:
    """Answer with the totals of a run.

    Raises:
        CatalogueError: There is no such run, or it is not published yet.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    return render(request, "predictions_results.html", entry=read_prediction(_run(request)))


def show_gallery(request: Request) -> Response:
    """Answer with the gallery of a run, in a frame.

    Raises:
        StorageError: The object store cannot be reached.
    """
    run = _run(request)
    start = _STORE.get_start(f"{run}/{GALLERY}", _POLICY_BYTES)
    is_ours = any(script.encode() in (start or b"") for script in GALLERY_SCRIPTS)
    return render(request, "predictions_gallery.html", run=run, is_there=start is not None, is_ours=is_ours)


def show_actions(request: Request) -> Response:
    """Answer with what can be done with a run: it is started again with the parameters that it had.

    Raises:
        PrefectUnavailableError: Prefect's server does not answer.
    """
    run = _run(request)
    found = deployed_flows.find(UUID(run))
    given = found.parameters if found else {}
    parameters = dict(_by_path(given))
    if is_long := len(urlencode(parameters, doseq=True, errors="replace")) > LONGEST_QUERY:
        del parameters["inputs"]
    return render(
        request,
        "predictions_actions.html",
        run=run,
        flow="run-inference",
        parameters=parameters,
        is_forgotten=found is None,
        left_out=len(given["inputs"]) if is_long else 0,
    )


def _by_path(parameters: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """The parameters as fields of the dialog: `inference.confidence`."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _by_path(value, f"{path}{name}.")
        elif value is not None:
            is_list_of_texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
            yield f"{path}{name}", value if isinstance(value, str) or is_list_of_texts else json.dumps(value)


def show_failures(request: Request) -> Response:
    """Answer with the first inputs that could not be used, and why.

    Raises:
        StorageError: The object store cannot be reached.
        StudioError: Their list is damaged.
    """
    run = _run(request)
    text = _STORE.get_start(f"{run}/{FAILURES}", _FAILURE_BYTES)
    if text is None:
        return render(request, "predictions_failures.html", failures=None)
    is_cut = len(text) == _FAILURE_BYTES
    with _damage_named(FAILURES):
        failures = [Failure.from_line(line) for line in text.splitlines()[: -1 if is_cut else None]]
    return render(request, "predictions_failures.html", run=run, failures=failures, is_cut=is_cut)


def show_files(request: Request) -> Response:
    """Answer with a page of the files of a run.

    Raises:
        StorageError: The object store cannot be reached.
    """
    run, after = _run(request), request.query_params.get("after", "")
    listed = list(islice(_STORE.list_behind(f"{run}/{after}" if after else "", f"{run}/"), FILES + 1))
    files = [(each.key.removeprefix(f"{run}/"), each.size) for each in listed[:FILES]]
    return render(
        request,
        "predictions_files.html",
        run=run,
        files=[(path, size, PurePosixPath(path).suffix == ".mp4") for path, size in files],
        after=files[-1][0] if len(listed) > FILES else "",
        is_first=not after,
    )


def show_thumbnails(request: Request) -> Response:
    """Answer with the first pictures of a run, side by side in a JPEG, half as large as in the gallery.

    Raises:
        HTTPException: The run has no pictures.
        StorageError: The object store cannot be reached.
        StudioError: The list of its pictures is damaged.
    """
    run = _run(request)
    lines = (_STORE.get_start(f"{run}/{ITEMS}", _ITEM_BYTES) or b"").splitlines(keepends=True)
    with _damage_named(ITEMS):
        items = [GalleryItem.from_line(line) for line in lines[:THUMBNAILS] if line.endswith(b"\n")]
    cells = [item.cell for item in items if item.sheet == items[0].sheet]
    sheet = _STORE.get(f"{run}/{items[0].sheet}") if items else None
    if sheet is None:
        raise HTTPException(404, "Expected a run with pictures, found none. It may have been deleted.")
    strip = fast_downscale(cut_cells(decode_image(sheet), cells), (len(cells) * CELL_WIDTH // 2, CELL_HEIGHT // 2))
    headers = {"Cache-Control": "private, max-age=86400"}  # results never change
    return Response(encode_jpeg(strip, quality=80), media_type="image/jpeg", headers=headers)


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError) as error:
        raise StudioError(
            f"Expected {name} as run-inference writes it, found a damaged one. Infer again, or delete the results."
        ) from error


def _run(request: Request) -> str:
    return str(request.path_params["run"])


ROUTES = [
    Route("/predictions", show_tab),
    Route("/predictions/list", show_list),
    Route("/predictions/models", show_models),
    *(
        Route(f"/predictions/{{run:uuid}}{address}", show)
        for address, show in {
            "": show_run,
            "/results": show_results,
            "/actions": show_actions,
            "/gallery": show_gallery,
            "/failures": show_failures,
            "/files": show_files,
            "/thumbnails.jpg": show_thumbnails,
        }.items()
    ),
]
