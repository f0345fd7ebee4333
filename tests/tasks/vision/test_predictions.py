"""What was found, in files."""

from pathlib import Path

import numpy as np
import pytest

from tasks.vision.detections import Detections, pack_masks
from tasks.vision.predictions import PredictionStore
from tests.tasks.serving.parity.builders import found


def test_every_task_survives_its_file(tmp_path: Path) -> None:
    masks = pack_masks(np.random.default_rng(0).random((1, 32, 32)) > 0.5)
    full = found([1, 2, 3, 4, 0.5, 2], keypoints=[[[1, 2, 1]]], xywhr=[[2, 3, 2, 2, 0.5]], mask=masks)
    folder = PredictionStore(tmp_path / "new")
    for each in (full, found(), Detections.empty(7, 5, class_scores=np.array([0.5, 0.5], np.float32))):
        folder.add(each)
    first, second, third = PredictionStore(tmp_path / "new")
    assert first.mask is not None
    assert (first.mask == masks).all()
    assert first.xyxy.tolist() == [[1, 2, 3, 4]]
    assert (first.class_id.dtype.name, first.width) == ("int32", 100)
    assert (len(second), second.mask, third.width) == (0, None, 7)


def test_a_folder_has_no_more_than_was_put_in(tmp_path: Path) -> None:
    folder = PredictionStore(tmp_path / "new")
    folder.add(found())
    with pytest.raises(IndexError):
        folder[1]


def test_what_is_kept_keeps_its_own() -> None:
    both = found([0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.8, 1], keypoints=[[[1, 1, 1]], [[2, 2, 1]]])
    kept = both.select(np.array([False, True]))
    assert kept.keypoints is not None
    assert (kept.class_id.tolist(), kept.keypoints[0, 0].tolist()) == ([1], [2, 2, 1])
