"""Which unfinished runs read an archive; the deletion itself: tests/flows/test_deletions.py."""

from typing import Any

import pytest

from tasks.deletion import archives
from tasks.orchestration.unfinished_runs import UnfinishedRun
from tasks.tracking.registered_versions import RegisteredModel


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"model_name": "shapes", "archives": ["champion+"]}, ["Unfinished runs read it: lazy-cat."]),
        ({"model_name": "other", "archives": ["champion+"]}, []),
        ({"model_name": "shapes", "archives": ["b.zip"]}, []),
        ({"archives": ["b.zip"], "promotion": {"gold": "a.zip"}}, ["Unfinished runs read it: lazy-cat."]),
    ],
)
def test_the_archives_of_the_champion_are_read_by_a_pipeline_that_goes_on(
    parameters: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = RegisteredModel(name="shapes", aliases={"champion": 2}, tags={})
    run = UnfinishedRun("id", "lazy-cat", parameters)
    monkeypatch.setattr(archives, "list_unfinished_runs", lambda *flows: [run] if "run-pipeline" in flows else [])
    monkeypatch.setattr(archives, "find_model", lambda name: shapes if name == "shapes" else None)
    monkeypatch.setattr(archives, "_trained", lambda: {"shapes/2": {"a.zip": "digest"}})
    found = [each.reason for each in archives.find_obstacles("a.zip", "of others")]
    assert found == ["Version shapes/2 was trained on an earlier archive of this name.", *expected]


@pytest.mark.parametrize(
    ("archive", "model_name", "is_read"),
    [
        ("loops/shapes/01234567-labelled.zip", "shapes", True),
        ("loops/shapes/01234567-reviewed.zip", "shapes", True),
        ("loops/shapes/89abcdef-reviewed.zip", "shapes", True),  # each loop learns from all that people have corrected
        ("loops/shapes/89abcdef-labelled.zip", "shapes", False),
        ("loops/shapes/01234567-reviewed.zip", "other", False),
    ],
)
def test_what_a_loop_has_made_is_read_by_it_while_it_waits_for_people(
    archive: str, model_name: str, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"model_name": model_name, "archives": ["a.zip"]}
    loop = UnfinishedRun("01234567-89ab-cdef-0123-456789abcdef", "lazy-cat", parameters)
    monkeypatch.setattr(archives, "list_unfinished_runs", lambda *flows: [loop] if "close-loop" in flows else [])
    monkeypatch.setattr(archives, "_trained", dict)
    found = [each.reason for each in archives.find_obstacles(archive, "")]
    assert found == (["Unfinished runs read it: lazy-cat."] if is_read else [])
