"""Arrays of a served graph, of every task, in pixels of the image."""

import tracemalloc

import numpy as np
import pytest

from tasks.serving.pre_postprocess import Outputs, postprocess, preprocess
from tasks.vision.geometry import Letterbox

# Half as large and with 16 grey rows above and below.
LETTERBOX = Letterbox.fit(128, 64, 64)


def outputs(*rows: list[float], **more: object) -> Outputs:
    table = np.zeros((300, 6), np.float32)
    table[: len(rows)] = np.reshape(rows, (-1, 6))
    return {"detections": table} | {name: np.asarray(values, np.float32) for name, values in more.items()}


def spread(*values: object) -> np.ndarray:
    """Values of the first rows of 300."""
    first = np.asarray(values, np.float32)
    return np.concatenate([first, np.zeros((300 - len(first), *first.shape[1:]), np.float32)])


WEAK, STRONG = [10, 20, 20, 30, 0.2, 0], [30, 20, 40, 40, 0.9, 1]


def test_more_than_boxes_stays_with_its_detection() -> None:
    """The best comes first, wherever it was."""
    points = spread([[10, 20, 0.1]], [[30, 20, 0.9]])
    found = postprocess(outputs(WEAK, STRONG, keypoints=points), "pose", LETTERBOX)
    assert found.confidence.tolist() == pytest.approx([0.9, 0.2])
    assert found.keypoints is not None
    assert found.keypoints[:, 0].tolist() == [[60, 8, pytest.approx(0.9)], [20, 8, pytest.approx(0.1)]]


def test_keypoints_are_cut_at_the_edges_of_the_image() -> None:
    found = postprocess(outputs(STRONG, keypoints=spread([[-5, 90, 1]])), "pose", LETTERBOX)
    assert found.keypoints is not None
    assert found.keypoints[0, 0].tolist() == [0, 64, 1]


def test_rotated_boxes_are_mapped_back_and_their_hulls_cut() -> None:
    wide = [-8, 27, 72, 37, 0.9, 1]
    found = postprocess(outputs(wide, rotated=spread([32, 32, 80, 10, 0])), "obb", LETTERBOX)
    assert found.xywhr is not None
    assert found.xywhr[0].tolist() == [64, 32, 160, 20, 0]
    assert found.xyxy.tolist() == [[0, 22, 128, 42]]


def test_masks_are_cut_at_zero_and_at_their_boxes() -> None:
    prototypes = np.stack([np.ones((16, 16)), np.tile(np.linspace(-1, 1, 16), (16, 1))])
    both = outputs(STRONG, WEAK, coefficients=spread([1, 0], [0, 1]), prototypes=prototypes)
    found = postprocess(both, "segment", LETTERBOX)
    whole = found.unpack_mask(0)
    assert whole is not None
    assert whole.shape == (64, 64)
    assert np.argwhere(whole).min(axis=0).tolist() == [20, 30]
    assert np.argwhere(whole).max(axis=0).tolist() == [39, 39]
    assert len(found) == 1, "the mask of the other lies outside its box: it is negative there"


def test_masks_take_little_more_memory_than_their_bits() -> None:
    """A byte a pixel of all of them would be eight times as much: 1.7 GB at 4096 pixels."""
    side, count = 1024, 40
    table = np.tile(np.array([0, 0, side, side, 0.9, 1], np.float32), (300, 1))
    weights = np.ones((300, 1), np.float32)
    many = {"detections": table, "coefficients": weights, "prototypes": np.ones((1, 256, 256), np.float32)}
    tracemalloc.start()
    found = postprocess(many, "segment", Letterbox.fit(side, side, side), masks=count)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.mask is not None
    assert found.mask.shape == (count, side, side // 8)
    assert most < count * side**2


def test_only_the_requested_masks_are_made() -> None:
    both = outputs(STRONG, WEAK, coefficients=spread([1], [1]), prototypes=np.ones((1, 16, 16)))
    found = postprocess(both, "segment", LETTERBOX, masks=1)
    assert len(found) == 2
    assert found.unpack_mask(1) is None


def test_a_classifier_gives_probabilities() -> None:
    found = postprocess({"scores": np.array([0.25, 0.75], np.float32)}, "classify", LETTERBOX)
    assert (len(found), found.width, found.height) == (0, 128, 64)
    assert found.class_scores is not None
    assert found.class_scores.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("task", "missing"), [("segment", "prototypes"), ("pose", "keypoints"), ("obb", "rotated"), ("classify", "scores")]
)
def test_a_missing_output_is_named(task: str, missing: str) -> None:
    with pytest.raises(ValueError, match=f"expected output {missing} of . dimensions for an image, found none"):
        postprocess(outputs(STRONG), task, LETTERBOX)


def test_a_classifier_sees_the_centre_and_other_tasks_the_whole_image() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 255
    centre, letterbox = preprocess(image, "classify", 64)
    assert (centre == 255).all()
    assert (letterbox.width, letterbox.height) == (128, 64)
    assert preprocess(image, "detect", 64)[0][0, 0].tolist() == [114, 114, 114]
