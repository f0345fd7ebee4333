import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dataset.findings import Finding, FindingBatch
from tasks.dataset.labels import LabelSpec
from tasks.validation.label_rules import label_findings
from tasks.validation.label_table import read_labels
from tests.tasks.validation.test_label_table import DIAMOND, SQUARE, written

RULES = LabelSpec(class_count=3)


def check(text: str, size: tuple[int, int] | None = None, rules: LabelSpec = RULES, imgsz: int = 640) -> list[Finding]:
    faults: list[Finding | FindingBatch] = []
    table = read_labels([("a.txt", text.encode())], rules, faults.extend)
    assert [finding for finding in faults if isinstance(finding, Finding) and finding.severity == "error"] == []
    return written(label_findings(table, {"a.txt": size} if size else {}, imgsz))


CASES = {
    "right of the image": ("0 0.95 0.5 0.13 0.1", None, [("label-outside", "warning", 1)]),
    "above the image": ("0 0.5 0.04 0.1 0.11", None, [("label-outside", "warning", 1)]),
    "one per cent over": ("0 0.95 0.5 0.12 0.1", None, []),
    "one per cent over at each end": ("0 0.5 0.5 1.01 0.1", None, []),
    "two boxes in one place": ("0 0.5 0.5 0.4 0.4\n0 0.502 0.5 0.4 0.4", None, [("label-overlap", "warning", 2)]),
    "three boxes in one place": (
        "0 0.5 0.5 0.4 0.4\n0 0.502 0.5 0.4 0.4\n0 0.504 0.5 0.4 0.4",
        None,
        [("label-overlap", "warning", 2), ("label-overlap", "warning", 3)],
    ),
    "in another order": ("0 0.502 0.5 0.4 0.4\n\n0 0.5 0.5 0.4 0.4", None, [("label-overlap", "warning", 3)]),
    "94 % in common": ("0 0.5 0.5 0.4 0.4\n0 0.5 0.5 0.4 0.376", None, []),
    "96 % in common": ("0 0.5 0.5 0.4 0.4\n0 0.5 0.5 0.4 0.384", None, [("label-overlap", "warning", 2)]),
    "two classes in one place": ("0 0.5 0.5 0.4 0.4\n1 0.502 0.5 0.4 0.4", None, []),
    "the same row twice is a duplicate": ("0 0.5 0.5 0.4 0.4\n0 0.5 0.5 0.4 0.4", None, []),
    "a duplicate of a box with another beside": (
        "0 0.5 0.5 0.4 0.4\n0 0.502 0.5 0.4 0.4\n0 0.5 0.5 0.4 0.4",
        None,
        [("label-overlap", "warning", 2)],
    ),
    "an outline up to one per cent over": ("0 0.9 0.1 1.01 0.1 1.01 0.9", None, []),
    "an outline inside of another": (f"{SQUARE}1 0.11 0.11 0.89 0.11 0.89 0.89 0.11 0.89", None, []),
    "under two pixels": ("0 0.5 0.5 0.003 0.1", None, [("label-tiny", "info", 1)]),
    "over two pixels": ("0 0.5 0.5 0.0032 0.1", None, []),
    "under two pixels of a wide image": ("0 0.5 0.5 0.1 0.004", (1920, 1080), [("label-tiny", "info", 1)]),
    "as wide as it is high": ("0 0.5 0.5 0.1 0.004", (1080, 1080), []),
    "a tall image": ("0 0.5 0.5 0.1 0.004", (1080, 1920), []),
    "all of the image": ("0 0.5 0.5 1 0.99", None, [("label-huge", "info", 1)]),
    "nearly all of the image": ("0 0.5 0.5 1 0.97", None, []),
    "half of a huge box is outside": ("0 1 0.5 1 1", None, [("label-outside", "warning", 1)]),
    "its other half": ("0 0 0.5 1 1", None, [("label-outside", "warning", 1)]),
    "an outline round all": ("0 0 0 1 0 1 1 0 1", None, [("label-huge", "info", 1)]),
    "an outline across all": (DIAMOND.replace("0.1", "0").replace("0.9", "1"), None, []),
}


@pytest.mark.parametrize(("text", "size", "expected"), CASES.values(), ids=CASES)
def test_each_rule_and_its_nearest_good_neighbour(
    text: str, size: tuple[int, int] | None, expected: list[tuple[str, str, int]]
) -> None:
    findings = check(text, size)

    assert [(finding.code, finding.severity, finding.line) for finding in findings] == expected
    assert all(finding.path == "a.txt" and finding.message.startswith("Expected") for finding in findings)


def test_boxes_with_keypoints_are_boxes() -> None:
    text = "0 0.95 0.5 0.2 0.4 0.5 0.5\n0 0.951 0.5 0.2 0.4 0.6 0.6\n"

    codes = [finding.code for finding in check(text, rules=LabelSpec(class_count=1, task="pose", keypoints=(1, 2)))]
    assert codes == ["label-outside", "label-outside", "label-overlap"]


def test_boxes_of_two_files_do_not_overlap() -> None:
    files = [("a.txt", b"0 0.5 0.5 0.4 0.4"), ("b.txt", b"0 0.502 0.5 0.4 0.4")]

    assert label_findings(read_labels(files, RULES, list), {}, 640) == []


def test_an_empty_table_has_no_findings() -> None:
    assert check("") == []


def test_the_training_size_decides_what_is_tiny() -> None:
    assert [finding.code for finding in check("0 0.5 0.5 0.005 0.1", imgsz=320)] == ["label-tiny"]
    assert check("0 0.5 0.5 0.005 0.1", imgsz=640) == []


def crowd(boxes: int, kind: int = 0) -> str:
    """Boxes of about a tenth of the image, each a little different."""
    return "".join(f"{kind} 0.5 0.{at + 10} 0.1{at % 10} 0.1{at % 7}\n" for at in range(boxes))


def alike(boxes: int) -> str:
    """Boxes of one size."""
    return "".join(f"0 0.5 0.{at} 0.1 0.1\n" for at in range(10, 10 + boxes))


OUTLIERS = {
    "far larger": (crowd(40) + "0 0.5 0.5 0.9 0.9\n", [41]),
    "far smaller": (crowd(40) + "0 0.5 0.5 0.02 0.02\n", [41]),
    "far wider": (crowd(40) + "0 0.5 0.5 0.9 0.03\n", [41]),
    "somewhat larger": (crowd(40) + "0 0.5 0.5 0.15 0.16\n", []),
    "of another class": (crowd(40) + crowd(40, 1) + "1 0.5 0.5 0.9 0.9\n", [81]),
    "too few to say": (alike(28) + "0 0.5 0.5 0.9 0.9\n", []),
    "just enough": (alike(29) + "0 0.5 0.5 0.9 0.9\n", [30]),
    "two kinds of boxes": (crowd(40) + crowd(40).replace(" 0.1", " 0.9"), []),
    "all but alike": (alike(40) + "0 0.5 0.5 0.11 0.1\n", []),
}


@pytest.mark.parametrize(("text", "expected"), OUTLIERS.values(), ids=OUTLIERS)
def test_a_box_unlike_all_of_its_class_is_reported(text: str, expected: list[int]) -> None:
    found = [finding for finding in check(text) if finding.code == "outlier-box"]

    assert [(finding.line, finding.severity) for finding in found] == [(line, "info") for line in expected]


def test_an_outlier_is_reported_with_its_figures() -> None:
    message = check(crowd(40) + "0 0.5 0.5 0.9 0.9\n", (640, 320))[0].message

    assert "the 41 of class 0" in message
    assert "576 x 288 pixels" in message
    assert "standard deviations off in area and" in message


def test_shape_is_that_of_the_pixels() -> None:
    """Shares of a wide and of a tall image that look alike are different boxes."""
    files = [(f"{at}.txt", f"0 0.5 0.5 0.1{at % 10} 0.1\n".encode()) for at in range(60)]
    table = read_labels(files, RULES, list)
    sizes = {f"{at}.txt": (1000, 1000) for at in range(60)} | {"7.txt": (4000, 100)}

    assert label_findings(table, {}, 640) == []
    assert [
        finding.path for finding in written(label_findings(table, sizes, 640)) if finding.code == "outlier-box"
    ] == ["7.txt"]


places = st.sampled_from([0.4, 0.401, 0.402, 0.405, 0.5])
lengths = st.sampled_from([0.3, 0.301, 0.306, 0.31, 0.32])
boxes = st.lists(st.tuples(st.integers(0, 1), places, places, lengths, lengths), max_size=25)


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    sides = [
        max(
            0.0,
            min(one[at] + one[at + 2] / 2, other[at] + other[at + 2] / 2)
            - max(one[at] - one[at + 2] / 2, other[at] - other[at + 2] / 2),
        )
        for at in (1, 2)
    ]
    common = sides[0] * sides[1]
    return common / (one[3] * one[4] + other[3] * other[4] - common)


@settings(deadline=None)
@given(boxes)
def test_overlaps_are_those_that_comparing_all_boxes_finds(drawn: list[tuple[float, ...]]) -> None:
    expected = [
        at + 1
        for at, box in enumerate(drawn)
        if box not in drawn[:at] and any(box[0] == other[0] and overlap(box, other) > 0.95 for other in drawn[:at])
    ]
    found = check("".join(" ".join(map(str, box)) + "\n" for box in drawn))

    assert [finding.line for finding in found if finding.code == "label-overlap"] == expected


@pytest.mark.parametrize("spread", [0.5, 1e-4], ids=["side by side", "in one place"])
@pytest.mark.slow
def test_boxes_without_end_in_one_column_do_not_stop_the_check(spread: float) -> None:
    tops = 0.3 + spread * np.random.default_rng(0).random(60_000)
    text = "".join(f"0 0.5 {top:.9f} 0.1 0.01\n" for top in tops)
    table = read_labels([("a.txt", text.encode())], RULES, list)
    began = time.monotonic()
    label_findings(table, {}, 640)

    assert time.monotonic() - began < 5
