"""What becomes of each shape for each task, and what is told about it."""

import numpy as np
import pytest

from tasks.dataset.labels import LabelSpec, parse_labels
from tasks.importing.annotations import AnnotatedImage, Box, ImportLog, Outline, Pose, Shape, Tag, rotated_box
from tasks.importing.conversion import RowWriter, choose_task
from tasks.importing.frames import Frame

BOX = Box(class_name="cat", corners=(10, 20, 50, 40))
TURNED = rotated_box("cat", (30, 30), 40, 20, 90)
OUTLINE = Outline(class_name="cat", rings=(np.array([[10, 20], [50, 20], [30, 40]]),))
POSE = Pose(class_name="cat", corners=(10, 20, 50, 40), keypoints=np.array([[20, 30, 2], [200, 30, 1], [0, 0, 0]]))
TAG = Tag(class_name="cat")
FRAME = Frame(100, 50)


def written(shape: Shape, task: str) -> tuple[list[float] | None, dict[str, int]]:
    """The numbers of a row that the dataset check takes, behind the class, and what was told."""
    log = ImportLog()
    row = RowWriter(task=task, class_ids={"cat": 3}, keypoints=3).write(shape, FRAME, log.at("a.jpg"))
    if row is None:
        return None, dict(log.counts)
    rules = LabelSpec(task=task, keypoints=(3, 3) if task == "pose" else None)
    assert parse_labels(row.encode(), "a.txt", rules)[1] == []
    number, *shares = row.split()
    assert number == "3"
    return [float(share) for share in shares], dict(log.counts)


UPRIGHT = [0.3, 0.6, 0.4, 0.4]
CORNERS = [0.1, 0.4, 0.5, 0.4, 0.5, 0.8, 0.1, 0.8]
ABSENT = [0.0] * 9


@pytest.mark.parametrize(
    ("shape", "task", "shares", "told"),
    [
        (BOX, "detect", UPRIGHT, []),
        (BOX, "segment", CORNERS, ["changed: an upright box into an outline of its four corners"]),
        (BOX, "obb", CORNERS, ["changed: an upright box into a rotated box"]),
        (BOX, "pose", UPRIGHT + ABSENT, ["changed: an upright box into a pose without keypoints"]),
        (TURNED, "obb", [0.4, 0.2, 0.4, 1.0, 0.2, 1.0, 0.2, 0.2], []),
        (TURNED, "detect", [0.3, 0.6, 0.2, 0.8], ["changed: a rotated box into the upright box around it"]),
        (OUTLINE, "segment", [0.1, 0.4, 0.5, 0.4, 0.3, 0.8], []),
        (OUTLINE, "detect", UPRIGHT, ["changed: an outline into the upright box around it"]),
        (
            POSE,
            "pose",
            [*UPRIGHT, 0.2, 0.6, 2, 0, 0, 0, 0, 0, 0],
            ["changed: a keypoint beyond its image is absent"],
        ),
        (
            POSE,
            "detect",
            UPRIGHT,
            ["changed: a pose into the upright box around it", "not kept: the keypoints of a pose"],
        ),
        (TAG, "detect", None, ["left out: a class of a whole image beside labels of objects"]),
    ],
)
def test_each_shape_becomes_a_row_of_the_task_and_every_change_is_told(
    shape: Shape, task: str, shares: list[float] | None, told: list[str]
) -> None:
    found, changes = written(shape, task)
    assert found == (shares and pytest.approx(shares))
    assert changes == dict.fromkeys(told, 1)


def test_what_reaches_beyond_its_image_ends_at_the_edge() -> None:
    found, changes = written(Box(class_name="cat", corners=(-20, 10, 20, 90)), "detect")
    assert found == pytest.approx([0.1, 0.6, 0.2, 0.8])
    assert changes == {"changed: a shape that reaches beyond its image has its corners at the edge": 1}


def test_swapped_corners_are_mended_and_told() -> None:
    found, changes = written(Box(class_name="cat", corners=(50, 20, 10, 40)), "detect")
    assert found == pytest.approx(UPRIGHT)
    assert changes == {"changed: a box whose corners were swapped, or whose width or height was negative": 1}


def test_what_a_tool_has_rounded_beyond_the_edge_is_no_change() -> None:
    found, changes = written(Box(class_name="cat", corners=(-0.0001, 10, 20, 50.0001)), "detect")
    assert found == pytest.approx([0.1, 0.6, 0.2, 0.8])
    assert changes == {}


@pytest.mark.parametrize("corners", [(120, 0, 140, 10), (10, 10, 10, 20), (5, 5, 5, 5), (0, 0, 1e-60, 9)])
def test_what_shows_nothing_in_its_image_is_left_out(corners: tuple[float, float, float, float]) -> None:
    found, changes = written(Box(class_name="cat", corners=corners), "detect")
    assert found is None
    assert changes["left out: a shape without an area inside its image"] == 1


@pytest.mark.parametrize("task", ["segment", "obb"])
@pytest.mark.parametrize(
    "ring",
    [
        [[1, 5], [5, 9], [9, 13]],
        [[30, 30], [30, 30], [31, 31]],
        [[10, 10], [40, 20], [10, 10]],
        [[10, 10], [10.000001, 10], [10.000001, 20], [10, 20]],
    ],
    ids=["on a line", "a corner twice", "there and back", "thin"],
)
def test_an_outline_that_the_check_calls_degenerate_is_left_out(task: str, ring: list[list[float]]) -> None:
    found, changes = written(Outline(class_name="cat", rings=(np.array(ring),)), task)
    assert found is None
    assert changes["left out: a shape without an area inside its image"] == 1


def test_a_pose_with_another_number_of_keypoints_is_left_out() -> None:
    found, changes = written(Pose(class_name="cat", corners=BOX.corners, keypoints=np.ones((2, 3))), "pose")
    assert found is None
    assert changes == {"left out: a pose that has not 3 keypoints, as most have": 1}


@pytest.mark.parametrize(
    ("shapes", "task"),
    [
        ([BOX, BOX, OUTLINE], "detect"),
        ([BOX, OUTLINE], "segment"),
        ([TURNED, BOX], "obb"),
        ([POSE, OUTLINE], "pose"),
        ([TAG], "classify"),
        ([TAG, BOX], "detect"),
        ([], "detect"),
    ],
)
def test_most_shapes_tell_the_task_and_of_as_many_the_richer_ones(shapes: list[Shape], task: str) -> None:
    assert choose_task([AnnotatedImage(name="a.jpg", shapes=shapes)]) == task
