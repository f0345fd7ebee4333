"""What is kept of the validation of a version."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluation.validation_matching import (
    ValidationMatching,
    ValidationSource,
    match_validation,
    pack_matching,
    unpack_matching,
)
from tasks.evaluation.version_evaluation import compare_images
from tests.tasks.evaluation.test_version_evaluation import perfect, unpacked


def matched(folder: Path) -> ValidationMatching:
    """Of a version whose classes have another order: the second image's label is missed, the third finds two things."""
    data = unpacked(folder, "detect")
    names = (data.class_names[1], "wheel", data.class_names[0])
    found = [replace(each, class_id=2 - 2 * each.class_id) for each in perfect(data, "detect")]
    found[1] = found[1].select(np.zeros(1, np.bool_))
    found[2] = found[2].select(np.array([0, 0]))
    return match_validation("detect", names, data, compare_images("detect", names, data, found))


def all_right(names: Sequence[str]) -> ValidationMatching:
    """Of a detector that found the one label of each class in a single image."""
    source = ValidationSource(task="detect", class_names=tuple(names), archives={"v.zip": "aa"}, split="val", images=1)
    numbers = np.arange(len(names))
    return ValidationMatching(
        source=source,
        image=numbers * 0,
        class_id=numbers,
        confidence=np.full(len(names), 0.5),
        labelled=np.ones(len(names), np.bool_),
    )


def rows(matching: ValidationMatching) -> list[tuple[int, int, float, bool]]:
    columns = matching.image, matching.class_id, matching.confidence.round(3), matching.labelled
    return sorted(zip(*(each.tolist() for each in columns), strict=True))


def test_detections_and_missed_labels_come_back_under_the_classes_of_the_version(tmp_path: Path) -> None:
    kept = matched(tmp_path)
    again = unpack_matching(pack_matching(kept))
    assert rows(again) == rows(kept)
    assert rows(kept) == [(0, 2, 0.9, True), (1, 0, 0, True), (2, 2, 0.9, False), (2, 2, 0.9, True), (3, 0, 0.9, True)]
    assert again.source == kept.source
    assert (again.source.images, again.source.split, again.source.archives) == (4, "val", {"a.zip": "d1"})


def test_rows_of_other_images_or_classes_are_refused(tmp_path: Path) -> None:
    kept = matched(tmp_path)
    for change in ({"image": kept.image + 4}, {"class_id": kept.class_id - 3}, {"confidence": kept.confidence * 2}):
        with pytest.raises(ValueError, match=f"expected {next(iter(change))} from 0"):
            unpack_matching(pack_matching(replace(kept, **change)))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return pack_matching(matched(tmp_path_factory.mktemp("matched")))


@given(st.data())
def test_a_damaged_file_is_read_or_refused(packed: bytes, data: st.DataObject) -> None:
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        unpack_matching(bytes(damaged))
    with pytest.raises(ValueError, match="expected"):
        unpack_matching(packed[:-9])
