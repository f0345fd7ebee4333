"""What COCO says that YOLO cannot say, or that contradicts itself."""

import json
from collections.abc import Mapping
from typing import Any

from tests.tasks.importing import sources
from tests.tasks.importing.sources import Box
from tests.tasks.importing.test_round_trip import imported

IMAGES = {"a.jpg": [Box("cat", 4, 4, 30, 40)], "b.jpg": [Box("dog", 4, 4, 30, 40)]}


def changed(files: Mapping[str, bytes | str], **more: Any) -> dict[str, bytes | str]:
    """The files with these records added to each list of the annotations."""
    ((name, text),) = [(name, text) for name, text in files.items() if isinstance(text, str)]
    document = json.loads(text)
    for key, records in more.items():
        document[key] = [*records, *document[key]]
    return {**files, name: json.dumps(document)}


def test_classes_that_name_their_keypoints_differently_are_told_and_not_mirrored() -> None:
    eyes = [{"id": 8, "name": "owl", "keypoints": ["left", "right"]}]
    twice = [*eyes, {"id": 9, "name": "fish", "keypoints": ["right", "left"]}]
    for categories, count in ((eyes, 0), (twice, 2)):
        summary, _, _ = imported(changed(sources.coco_keypoints(IMAGES), categories=categories))
        assert len([note for note in summary.notes if "keypoints" in note]) == count
