"""What an import has lost, in the words of its log and of its errors."""

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from tasks.importing import steps
from tasks.importing.changes import list_changes, sum_changes
from tasks.importing.importer import UnusableArchiveError
from tasks.parameters import ImportParams
from tests.tasks.importing import sources
from tests.tasks.importing.sources import Box
from tests.tasks.importing.test_round_trip import imported

CHANGES = {"not kept: flag a": 1200, "left out: a point": 2, "left out: a polyline": 30}


def test_changes_are_summed_by_kind_and_listed_by_their_number() -> None:
    assert sum_changes(CHANGES) == "1,200 not kept, 32 left out"
    assert sum_changes({}) == "nothing lost"
    assert list_changes(CHANGES, 2) == [
        "1,200 times not kept: flag a",
        "30 times left out: a polyline",
        "1 other kinds",
    ]


def test_the_log_of_a_run_tells_each_kind_of_change_and_each_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    summary = {"format": "cvat", "task": "detect", "class_names": [], "images": {}, "objects": {}, "places": {}}

    def answer(_: str, arguments: list[str], __: object) -> nullcontext[Mock]:
        Path(arguments[3]).write_text(json.dumps({"summary": summary | {"changes": CHANGES, "notes": ["as shown"]}}))
        return nullcontext(Mock(wait=lambda: 0))

    monkeypatch.setattr(steps, "isolated_process", answer)
    with caplog.at_level(logging.INFO):
        steps.convert_archive.fn(tmp_path / "source.zip", tmp_path / "target.zip", ImportParams(), "", "")
    assert caplog.messages == [*list_changes(CHANGES, 3), "as shown"]


def test_an_import_that_loses_everything_names_what_was_lost_and_not_what_was_not_kept() -> None:
    lines = {"iscrowd": 1, "attributes": {"occluded": True, "hidden": True}}
    with pytest.raises(UnusableArchiveError) as error:
        imported(sources.coco({"a.jpg": [Box("cat", 1, 1, 9, 9)] * 3}, lambda _: lines))
    assert "3 times left out: a crowd region" in str(error.value)
    assert "attribute" not in str(error.value)
