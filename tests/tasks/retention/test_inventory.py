"""What of bucket `runs` is left behind; the bucket is a list of keys."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tasks.orchestration.unfinished_runs import UnfinishedRun
from tasks.retention import inventory
from tasks.retention.rules import Kind, Leaving
from tasks.storage.object_store import ListedObject

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ONE, TWO, THREE = (str(uuid4()) for _ in range(3))


def leavings(monkeypatch: pytest.MonkeyPatch, keys: list[str], answered: set[str]) -> list[Leaving]:
    class Store:
        def __init__(self, *_: object) -> None: ...

        def list(self) -> list[ListedObject]:
            return [ListedObject(key=key, size=1, etag="", age_s=0, modified=NOW) for key in keys]

    monkeypatch.setattr(inventory, "ObjectStore", Store)
    return list(inventory._run_leavings(set(), answered))


def test_what_a_monitoring_predicted_is_left_behind_and_its_report_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{ONE}/{key}" for key in ("reference/0.zip", "reference/0.npy", "embeddings/1/0.npy", "monitoring.json")]
    found = leavings(monkeypatch, keys, set())
    assert [(each.kind, each.name, each.files, each.owners) for each in found] == [
        (Kind.PARTS, f"s3://runs/{ONE}/reference/", 2, frozenset({ONE})),
        (Kind.PARTS, f"s3://runs/{ONE}/embeddings/", 1, frozenset({ONE})),
    ]


def test_a_list_of_images_is_left_behind_unless_predictions_would_take_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [f"image-lists/{run}.jsonl" for run in (ONE, TWO, "other")]
    found = leavings(monkeypatch, keys, {TWO})
    assert [(each.kind, each.name) for each in found] == [(Kind.PARTS, f"s3://runs/image-lists/{ONE}.jsonl")]


def test_answers_that_no_round_has_taken_stay_with_the_images_that_they_are_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the images, a retry of the run could make nothing of them."""
    keys = [f"{run}/review-images/0.jpg" for run in (ONE, TWO, THREE)]
    keys += [f"review-answers/{run}/0.json" for run in (ONE, TWO)]
    found = leavings(monkeypatch, [*keys, f"{TWO}/review/answers.json"], set())
    assert {each.name for each in found} == {
        f"s3://runs/{key}/" for key in (f"{TWO}/review-images", f"{THREE}/review-images", f"review-answers/{TWO}")
    }


@pytest.mark.parametrize(
    ("loops", "inputs", "kept"),
    [
        ([], [["a.jpg", f"run:{ONE}"], None, "run:", [3]], {ONE}),
        ([], [], set()),
        ([UnfinishedRun("", "", {})], [], {ONE, TWO}),
    ],
)
def test_a_list_stays_while_a_run_may_read_it(
    loops: list[UnfinishedRun], inputs: list[Any], kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [UnfinishedRun("", "", {"inputs": each}) for each in inputs]
    monkeypatch.setattr(inventory, "list_unfinished_runs", lambda *flows: loops if flows else runs)
    listed = leavings(monkeypatch, [f"image-lists/{ONE}.jsonl", f"image-lists/{TWO}.jsonl"], set())
    other = leavings(monkeypatch, [f"{THREE}/inference/0"], set())
    assert inventory._runs_to_be_read([*listed, *other]) == kept
