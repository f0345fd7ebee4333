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
    monkeypatch.setattr(archives, "list_unfinished_runs", lambda *_: [run])
    monkeypatch.setattr(archives, "find_model", lambda name: shapes if name == "shapes" else None)
    monkeypatch.setattr(archives, "_trained", lambda: {"shapes/2": {"a.zip": "digest"}})
    found = [each.reason for each in archives.find_obstacles("a.zip", "of others")]
    assert found == ["Version shapes/2 was trained on an earlier archive of this name.", *expected]
