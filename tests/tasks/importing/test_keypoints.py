"""Keypoints change sides in mirrored images only if it is certain how."""

import pytest

from tasks.importing.annotations import ImportLog
from tasks.importing.keypoints import keypoint_keys

UNKNOWN = "images are not mirrored in training"
NO_SIDE = "mirrored images in training: these keypoints have no side and stay themselves: nose"


@pytest.mark.parametrize(
    ("names", "flip_idx", "note"),
    [
        (["left", "right"], [1, 0], ""),
        (["Left Eye", "nose", "right eye"], [2, 1, 0], NO_SIDE),
        (["left_knee", "right_elbow", "right_knee", "left_elbow"], [2, 3, 0, 1], ""),
        (["l_eye", "r_eye"], None, UNKNOWN),
        (["left", "right", "left"], None, UNKNOWN),
        (["left", "Left", "right"], None, UNKNOWN),
        (["left eye", "nose"], None, UNKNOWN),
        (["nose"], None, UNKNOWN),
        ([], None, UNKNOWN),
    ],
)
def test_names_that_pair_left_with_right_tell_the_sides(
    names: list[str], flip_idx: list[int] | None, note: str
) -> None:
    log = ImportLog()
    log.declare_keypoints(names)
    assert keypoint_keys(len(names) or 2, log).get("flip_idx") == flip_idx
    assert [each.startswith(note) for each in log.notes] == [True] * bool(note)


def test_what_the_source_says_of_sides_stays() -> None:
    log = ImportLog(flip_idx=(0, 2, 1))
    assert keypoint_keys(3, log) == {"kpt_shape": [3, 3], "flip_idx": [0, 2, 1]}
    assert log.notes == [NO_SIDE.replace("nose", "0")]
