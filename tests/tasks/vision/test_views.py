"""Views of an image, and boxes that were found in them."""

import numpy as np
import pytest

from tasks.vision.detections import Detections
from tasks.vision.geometry import enclosing_boxes
from tasks.vision.views import View, render_view, restore_boxes

WIDTH, HEIGHT = 101, 60


def found_in(image: np.ndarray) -> Detections:
    """What a perfect model of white rectangles finds; as a rotated box, too."""
    rows, columns = np.nonzero(image.max(axis=2) > 200)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    size = box[:, 2:] - box[:, :2]
    return Detections(
        width=WIDTH,
        height=HEIGHT,
        xyxy=box,
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int32),
        xywhr=np.concatenate([box[:, :2] + size / 2, size, [[0.3]]], axis=1).astype(np.float32),
    )


@pytest.mark.parametrize("view", View)
def test_what_is_found_in_a_view_lies_where_it_is_in_the_image(view: View) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[8:24, 12:40] = 255
    seen = render_view(image, view)
    assert seen.shape == image.shape
    found = restore_boxes(found_in(seen), view)
    assert found.xyxy == pytest.approx(np.array([[12, 8, 40, 24]]), abs=2)
    assert found.xywhr is not None
    assert found.xywhr[:, :4] == pytest.approx(np.array([[26, 16, 28, 16]]), abs=2)
    assert found.xywhr[0, 4] == pytest.approx(-0.3 if view is View.MIRRORED else 0.3)


def test_a_mirrored_rotated_box_encloses_the_mirrored_box() -> None:
    rotated = np.array([[30, 20, 20, 8, 0.5]], np.float32)
    whole = Detections(
        width=WIDTH,
        height=HEIGHT,
        xyxy=enclosing_boxes(rotated),
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int32),
        xywhr=rotated,
    )
    mirrored = restore_boxes(whole, View.MIRRORED)
    assert mirrored.xywhr is not None
    assert enclosing_boxes(mirrored.xywhr) == pytest.approx(mirrored.xyxy, abs=1e-3)
