"""What the check once took and Ultralytics does not take, or takes in another way."""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.dataset.image_stats import check_image
from tasks.dataset.labels import LabelSpec, parse_labels
from tasks.merge.remap import remap_labels
from tasks.merge.yolo_writer import with_end_mark
from tasks.validation.fast_label_parser import parse_chunk
from tests.benchmarks.archives import encode

os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # before Ultralytics is imported, which would install pi-heif
from ultralytics.data.utils import check_image as check_with_ultralytics
from ultralytics.utils.patches import imread

POSE = LabelSpec(class_count=2, task="pose", keypoints=(1, 3))
PNG = encode(np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8), ".png")
TURNED = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"


def faults(line: str, rules: LabelSpec) -> list[str]:
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
    assert faults(line, LabelSpec(class_count=2, task=task)) == ([] if fine else ["label-range"])


@pytest.mark.parametrize(("width", "fine"), [("1e-30", True), ("1e-50", False), ("5e-324", False)])
def test_a_size_that_is_0_in_single_precision_is_none(width: str, fine: bool) -> None:
    assert faults(f"0 0.5 0.5 {width} 0.2", LabelSpec(class_count=2, task="detect")) == (
        [] if fine else ["label-degenerate"]
    )


@pytest.mark.parametrize("again", ["0 0.50 0.5 0.2 0.2", "0 0.500000001 0.5 0.2 0.2"])
def test_rows_that_are_one_in_single_precision_are_reported_and_written_once(again: str) -> None:
    text = f"0 0.5 0.5 0.2 0.2\n{again}\n0 0.6 0.5 0.2 0.2\n"
    assert faults(text, LabelSpec(class_count=2, task="detect")) == ["label-duplicate"]
    assert remap_labels(text, [0, 1]) == "0 0.5 0.5 0.2 0.2\n0 0.6 0.5 0.2 0.2\n"


def test_one_object_of_two_classes_that_became_one_is_written_once() -> None:
    assert remap_labels("0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n", [4, 4]) == "4 0.5 0.5 0.2 0.2\n"


@pytest.mark.parametrize(
    ("before", "behind", "words"),
    [
        (b"", chunk(b"tEXt", b"k\0v", 1), "bad header checksum in b'tEXt'"),
        (chunk(b"tEXt", b"k\0v", 1), b"", "bad header checksum in b'tEXt'"),
        (b"", chunk(b"prVt", b"", 1), "bad header checksum in b'prVt'"),
        (b"", chunk(b"eXIf", TURNED), "turns the image for OpenCV or for Pillow"),
    ],
)
def test_a_chunk_that_pillow_refuses_is_named(before: bytes, behind: bytes, words: str) -> None:
    data = PNG[:33] + before + PNG[33:-12] + behind + PNG[-12:]
    (finding,) = check_image(data, "x.png")[1]
    assert (finding.code, words in finding.message) == ("image-unreadable", True)


def scanned_as_read(path: Path) -> bool:
    """Whether Ultralytics' scan sees the sides that its loader reads."""
    pixels = imread(str(path))
    return pixels is not None and check_with_ultralytics(str(path))[1] == pixels.shape[:2]


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
# Its orientation is no whole number: OpenCV takes it all the same.
ODDLY_TURNED = TURNED.replace(b"\x12\1\3\0", b"\x12\1\x0c\0")
UPRIGHT = TURNED.replace(b"\6\0\0\0\0", b"\1\0\0\0\0")
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    ("kind", "options", "fine"),
    [
        ("JPEG", {"exif": b"Exif\0\0" + TURNED}, True),
        ("PNG", {"exif": TURNED}, True),
        ("WEBP", {"exif": TURNED}, True),
        ("TIFF", {"tiffinfo": {274: 6}}, True),
        ("JPEG", {"exif": b"Exif\0\0" + ODDLY_TURNED}, False),
        ("PNG", {"exif": ODDLY_TURNED}, False),
        ("WEBP", {"exif": ODDLY_TURNED}, False),
        ("JPEG", {"xmp": XMP}, False),
        ("WEBP", {"xmp": XMP}, True),  # of which Ultralytics asks OpenCV
    ],
)
def test_an_image_is_turned_by_all_or_refused(kind: str, options: dict[str, Any], fine: bool, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    NOISE.save(path, kind, **options)
    _, findings = check_image(path.read_bytes(), path.name)
    assert any("for OpenCV or for Pillow" in finding.message for finding in findings) != fine
    assert scanned_as_read(path) == fine


@pytest.mark.parametrize(("first", "last"), [(TURNED, UPRIGHT), (UPRIGHT, TURNED), (TURNED, TURNED)])
def test_of_two_chunks_of_exif_each_reader_takes_another(first: bytes, last: bytes, tmp_path: Path) -> None:
    path, fine = tmp_path / "x.png", first == last
    NOISE.save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk(b"eXIf", first) + chunk(b"eXIf", last) + data[33:])
    findings = check_image(path.read_bytes(), path.name)[1]
    assert any("for OpenCV or for Pillow" in finding.message for finding in findings) != fine
    assert scanned_as_read(path) == fine


@pytest.mark.parametrize("tail", [b"", b"\0", b"tail", b"\xff\xd9x", b"\xff\xd8\xff"])
def test_a_jpeg_ends_with_its_end_mark_and_loses_nothing(tail: bytes) -> None:
    data = encode(np.zeros((20, 20, 3), np.uint8)) + tail
    assert with_end_mark(data).startswith(data)
    assert with_end_mark(data).endswith(b"\xff\xd9")
    assert with_end_mark(with_end_mark(data)) == with_end_mark(data)
    assert with_end_mark(PNG + tail) == PNG + tail
