"""What the check once took and Ultralytics does not take, or takes in another way."""

import zlib

import numpy as np
import pytest

from tasks.core.images import inspect_image
from tasks.core.labels import LabelRules, parse_labels
from tasks.core.merge.images import ended
from tasks.core.merge.labels import remap_labels
from tasks.core.validation.label_text import parse_chunk
from tests.benchmarks.archives import encode

POSE = LabelRules(2, "pose", (1, 3))
PNG = encode(np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8), ".png")
TURNED = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"


def faults(line: str, rules: LabelRules) -> list[str]:
    """The codes, of which the exact parser and the fast one find the same."""
    exact = parse_labels(line.encode(), "x.txt", rules)[1]
    fast = parse_chunk([("x.txt", line.encode())], rules).findings[0]
    assert fast == exact
    return [finding.code for finding in exact]


def chunk(kind: bytes, payload: bytes, wrong: int = 0) -> bytes:
    check = zlib.crc32(kind + payload) ^ wrong
    return len(payload).to_bytes(4) + kind + payload + check.to_bytes(4)


@pytest.mark.parametrize(
    ("visibility", "fine"), [("0", True), ("2.0", True), ("-1", False), ("3", False), ("0.5", False)]
)
def test_a_visibility_is_0_1_or_2(visibility: str, fine: bool) -> None:
    found = faults(f"0 0.5 0.5 0.2 0.2 0.5 0.5 {visibility}", POSE)
    assert found == ([] if fine else ["label-range"])


@pytest.mark.parametrize("task", ["segment", "obb"])
@pytest.mark.parametrize(("right", "fine"), [("1.005", True), ("1.006", False)])
def test_an_outline_may_not_leave_the_image_on_both_sides(task: str, right: str, fine: bool) -> None:
    """Ultralytics drops the image: it takes the width of the box around it for a place."""
    line = f"0 -0.005 0.1 {right} 0.1 {right} 0.9 -0.005 0.9"
    assert faults(line, LabelRules(2, task)) == ([] if fine else ["label-range"])


@pytest.mark.parametrize(("width", "fine"), [("1e-30", True), ("1e-50", False), ("5e-324", False)])
def test_a_size_that_is_0_in_single_precision_is_none(width: str, fine: bool) -> None:
    assert faults(f"0 0.5 0.5 {width} 0.2", LabelRules(2, "detect")) == ([] if fine else ["label-degenerate"])


@pytest.mark.parametrize("again", ["0 0.50 0.5 0.2 0.2", "0 0.500000001 0.5 0.2 0.2"])
def test_rows_that_are_one_in_single_precision_are_told_and_written_once(again: str) -> None:
    text = f"0 0.5 0.5 0.2 0.2\n{again}\n0 0.6 0.5 0.2 0.2\n"
    assert faults(text, LabelRules(2, "detect")) == ["label-duplicate"]
    assert remap_labels(text, [0, 1]) == "0 0.5 0.5 0.2 0.2\n0 0.6 0.5 0.2 0.2\n"


def test_one_object_of_two_classes_that_became_one_is_written_once() -> None:
    assert remap_labels("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n", [4, 4]) == "4 0.5 0.5 0.2 0.2\n"


@pytest.mark.parametrize(
    ("before", "behind", "words"),
    [
        (b"", chunk(b"tEXt", b"k\0v", 1), "bad header checksum in b'tEXt'"),
        (chunk(b"tEXt", b"k\0v", 1), b"", "bad header checksum in b'tEXt'"),
        (b"", chunk(b"prVt", b"", 1), "bad header checksum in b'prVt'"),
        (b"", chunk(b"eXIf", TURNED), "EXIF that turns the image"),
    ],
)
def test_a_chunk_that_pillow_refuses_is_named(before: bytes, behind: bytes, words: str) -> None:
    data = PNG[:33] + before + PNG[33:-12] + behind + PNG[-12:]
    (finding,) = inspect_image(data, "x.png")[1]
    assert (finding.code, words in finding.message) == ("image-unreadable", True)


@pytest.mark.parametrize("tail", [b"", b"\0", b"tail", b"\xff\xd9x", b"\xff\xd8\xff"])
def test_a_jpeg_ends_with_its_end_mark_and_loses_nothing(tail: bytes) -> None:
    data = encode(np.zeros((20, 20, 3), np.uint8)) + tail
    assert ended(data).startswith(data)
    assert ended(data).endswith(b"\xff\xd9")
    assert ended(ended(data)) == ended(data)
    assert ended(PNG + tail) == PNG + tail
