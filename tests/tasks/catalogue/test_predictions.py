"""Pages of runs of inference, against the real store and MLflow."""

from uuid import uuid4

import pytest

from tasks.catalogue import predictions
from tasks.catalogue.cursors import CatalogueError, ListRequest
from tasks.storage.object_store import ObjectStore
from tasks.tracking.inference_runs import list_inference_runs
from tests.tasks.catalogue.registry import infer

pytestmark = pytest.mark.usefixtures("stack")
PREDICTIONS = ObjectStore("predictions")


def runs(limit: int, model: str) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = predictions.list_predictions(cursor=cursor, limit=limit, model=model)
        found += [entry.run for entry in page.entries]
        cursor = page.next_cursor
    return found


def test_pages_of_any_size_give_each_run_once_the_newest_first() -> None:
    model = uuid4().hex
    expected = [infer(model, 1) for _ in range(5)][::-1]
    infer(f"{model}-other", 1)
    for limit in (1, 2, 4, 5, 50):
        assert runs(limit, model) == expected
    assert predictions.list_predictions(limit=1).entries[0].model == f"{model}-other"


def test_runs_that_end_meanwhile_move_no_other() -> None:
    model = uuid4().hex
    expected = [infer(model, 1) for _ in range(4)][::-1]
    first = predictions.list_predictions(limit=2, model=model)
    for _ in range(3):
        infer(model, 1)
    second = predictions.list_predictions(limit=9, model=model, cursor=str(first.next_cursor))
    assert [entry.run for page in (first, second) for entry in page.entries] == expected


def test_an_entry_says_what_was_found() -> None:
    model = uuid4().hex
    run = infer(model, 4, detections=9)
    entry = predictions.read_prediction(run)
    assert (entry.model, entry.version, entry.gallery, entry.deleted) == (model, 4, f"{run}/index.html", False)
    assert (entry.inputs, entry.images, entry.detections, entry.failures) == (3, 12, 9, 1)
    assert predictions.list_predictions(model=model).entries == (entry,)


def test_a_run_whose_results_were_deleted_is_still_known() -> None:
    model = uuid4().hex
    run = infer(model, 4, detections=9)
    PREDICTIONS.delete(f"{run}/summary.json")
    entry = predictions.read_prediction(run)
    assert (entry.deleted, entry.gallery, entry.detections, entry.inputs) == (True, None, 9, 3)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[1]", b"[" * 100_000])
def test_a_run_whose_summary_is_damaged_is_still_listed(damaged: bytes) -> None:
    model = uuid4().hex
    run = infer(model, 4, detections=9)
    PREDICTIONS.put(f"{run}/summary.json", damaged)
    (entry,) = predictions.list_predictions(model=model).entries
    assert (entry.run, entry.deleted, entry.detections) == (run, False, 9)


def test_a_run_whose_results_are_still_written_is_not_shown() -> None:
    model = uuid4().hex
    run = infer(model, 1, published=False)
    PREDICTIONS.put(f"{run}/index.html", b"half")
    assert runs(1, model) == []
    with pytest.raises(CatalogueError, match="the id of a run of inference"):
        predictions.read_prediction(run)


@pytest.mark.parametrize("run", ["7d444840-9dc0-41d1-b245-5ffdce74fad2", "../x", "' or '1'='1", ""])
def test_a_run_that_is_not_there_is_a_clear_error(run: str) -> None:
    with pytest.raises(CatalogueError, match="Expected the id of a run of inference"):
        predictions.read_prediction(run)


def test_a_name_that_no_model_has_is_refused() -> None:
    with pytest.raises(CatalogueError, match="the name of a model"):
        predictions.list_predictions(model="' or '1'='1")


@pytest.mark.parametrize("position", [("x", "run"), ("1",), ("-1", "run"), ("²", "run"), ("9" * 5000, "run")])
def test_a_cursor_that_was_changed_is_refused(position: tuple[str, ...]) -> None:
    forged = ListRequest(listing="predictions", filters={"model": ""}, cursor="", limit=1).cursor_behind(*position)
    with pytest.raises(CatalogueError, match="a cursor of predictions"):
        predictions.list_predictions(cursor=forged)


def test_a_run_says_whether_its_images_were_chosen() -> None:
    model = uuid4().hex
    runs = [infer(model, 1), infer(model, 1, chosen=True)]
    assert {run.flow_run_id: run.chosen for run in list_inference_runs(model)} == dict(
        zip(runs, (False, True), strict=True)
    )
