from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset.labels import MAX_FINDINGS_PER_CODE, LabelRow, LabelSpec, parse_labels

RULES = LabelSpec(class_count=2)
GOOD = "0 0.5 0.5 0.25 0.25"
TRIANGLE = "1 0.1 0.1 0.9 0.1 0.5 0.9"


def format_labels(rows: Iterable[LabelRow]) -> str:
    """Rows as a label file's text, every number to its last bit."""
    return "".join(f"{row.class_id} {' '.join(map(repr, row.coordinates.tolist()))}\n" for row in rows)


def found(text: str | bytes, rules: LabelSpec = RULES) -> list[tuple[str, int | None]]:
    data = text if isinstance(text, bytes) else text.encode()
    return [(finding.code, finding.line) for finding in parse_labels(data, "a.txt", rules)[1]]


BAD_LINES = {
    "4 columns": ("0 0.5 0.5 0.25", "label-columns"),
    "6 columns": ("0 0.5 0.5 0.25 0.25 0.9", "label-columns"),
    "a polygon among boxes": (TRIANGLE, "label-columns"),
    "only a class": ("0", "label-columns"),
    "a word": ("0 0.5 half 0.25 0.25", "label-number"),
    "nan": ("0 0.5 nan 0.25 0.25", "label-number"),
    "infinite": ("0 0.5 inf 0.25 0.25", "label-number"),
    "infinite by its exponent": ("0 0.5 1e999 0.25 0.25", "label-number"),
    "hexadecimal": ("0 0.5 0x1 0.25 0.25", "label-number"),
    "underscore": ("0 0.5 0.2_5 0.25 0.25", "label-number"),
    "decimal comma": ("0 0,5 0.5 0.25 0.25", "label-number"),
    "full-width digits": ("0 \uff10.5 0.5 0.25 0.25", "label-number"),
    "a number without end": (f"0 0.{'5' * 100} 0.5 0.25 0.25", "label-number"),
    "class without end": ("1e999 0.5 0.5 0.25 0.25", "label-number"),
    "class beyond all classes": ("1e9 0.5 0.5 0.25 0.25", "label-number"),
    "class with a fraction": ("0.5 0.5 0.5 0.25 0.25", "label-number"),
    "class is a name": ("cat 0.5 0.5 0.25 0.25", "label-number"),
    "class of many digits": (f"{'1' * 5000} 0.5 0.5 0.25 0.25", "label-number"),
    "class too high": ("2 0.5 0.5 0.25 0.25", "label-class"),
    "class below 0": ("-1 0.5 0.5 0.25 0.25", "label-class"),
    "right of the image": ("0 1.02 0.5 0.25 0.25", "label-range"),
    "left of the image": ("0 -0.02 0.5 0.25 0.25", "label-range"),
    "wider than the image": ("0 0.5 0.5 1.02 0.25", "label-range"),
    "no width": ("0 0.5 0.5 0 0.25", "label-degenerate"),
    "negative height": ("0 0.5 0.5 0.25 -0.25", "label-degenerate"),
}


@pytest.mark.parametrize(("line", "code"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_faulty_line_gives_its_code_and_number_and_no_row(line: str, code: str) -> None:
    labels, findings = parse_labels(f"{GOOD}\n\n{line}\n".encode(), "a.txt", RULES)

    assert [(finding.code, finding.line, finding.path) for finding in findings] == [(code, 3, "a.txt")]
    assert findings[0].severity == "error"
    assert "Expected" in findings[0].message
    assert [row.line for row in labels.rows] == [1]
    assert labels.written == 2


GOOD_FILES = {
    "empty": "",
    "blank lines": "\n  \n\t\n",
    "byte order mark": f"\ufeff{GOOD}\n",
    "Windows line ends": f"{GOOD}\r\n1 0.1 0.1 0.1 0.1\r\n",
    "old Mac line ends": f"{GOOD}\r1 0.1 0.1 0.1 0.1\r",
    "tabs": GOOD.replace(" ", "\t"),
    "no line end": GOOD,
    "exponents": "0 5e-1 5.E-1 +.25 0.25e0",
    "an exponent of many digits": "0 5e-000001 0.5 0.25 0.25",
    "within one per cent": "0 1.009 -0.009 1.009 0.25",
    "the highest class": "1 0.5 0.5 0.25 0.25",
    "a triangle": TRIANGLE,
    "polygons of several lengths": f"{TRIANGLE}\n0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9",
    "a small box": "0 0.5 0.5 0.0001 0.0001",
    "two boxes of two classes at one place": "0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1",
}


@pytest.mark.parametrize("text", GOOD_FILES.values(), ids=GOOD_FILES)
def test_the_nearest_good_file_gives_nothing(text: str) -> None:
    labels, findings = parse_labels(text.encode(), "a.txt", RULES)

    assert findings == []
    assert len(labels.rows) == labels.written == len([line for line in text.split() if line in {"0", "1", "\ufeff0"}])


@pytest.mark.parametrize("data", [b"\xff\xfe0\x00", b"0 0.5 0.5 \xe9 0.5"])
def test_a_label_file_that_is_not_utf_8_is_reported(data: bytes) -> None:
    assert found(data) == [("label-encoding", None)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_editors_do(end: str) -> None:
    assert found(end.join([GOOD, "", "0 x 0.5 0.5 0.5", GOOD.replace("0.5", "0.4")])) == [("label-number", 3)]


def test_a_box_keeps_its_numbers_and_the_columns_say_the_task() -> None:
    labels, _ = parse_labels(f"{GOOD}\n".encode(), "a.txt", RULES)

    assert labels.task == "detect"
    assert labels.rows[0].class_id == 0
    assert labels.rows[0].coordinates.dtype == np.float64
    assert labels.rows[0].coordinates.tolist() == [0.5, 0.5, 0.25, 0.25]
    assert parse_labels(TRIANGLE.encode(), "a.txt", RULES)[0].task == "segment"
    assert parse_labels(b"", "a.txt", RULES)[0].task is None


@pytest.mark.parametrize(
    ("rules", "line", "expected"),
    [
        (LabelSpec(task="obb"), "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9", []),
        (LabelSpec(task="obb"), TRIANGLE, ["label-columns"]),
        (LabelSpec(task="pose", keypoints=(2, 3)), f"{GOOD} 0.1 0.2 2 0.3 0.4 0", []),
        (LabelSpec(task="pose", keypoints=(2, 3)), f"{GOOD} 0.1 0.2 2 0.3 1.4 0", ["label-range"]),
        (LabelSpec(task="pose", keypoints=(2, 2)), f"{GOOD} 0.1 0.2 0.3 0.4", []),
        (LabelSpec(task="pose", keypoints=(2, 2)), f"{GOOD} 0.1 0.2 2 0.4", ["label-range"]),
        (LabelSpec(task="pose", keypoints=(2, 2)), GOOD, ["label-columns"]),
        (LabelSpec(task="segment"), GOOD, ["label-columns"]),
        (LabelSpec(), "7 0.5 0.5 0.1 0.1", []),
        (LabelSpec(), "0 0.1 0.1 0.5 0.5 0.9 0.9", ["label-degenerate"]),
        (LabelSpec(), "0 1e308 -1e308 1e308 1e308 -1e308 1e308", ["label-range"]),
    ],
)
def test_what_the_dataset_says_is_held_against_each_line(rules: LabelSpec, line: str, expected: list[str]) -> None:
    assert [code for code, _ in found(line, rules)] == expected


def test_all_faults_of_a_line_are_reported() -> None:
    assert found("9 1.5 0.5 0 0.25") == [("label-class", 1), ("label-degenerate", 1), ("label-range", 1)]


def test_a_file_in_pixels_is_one_finding_with_the_count() -> None:
    text = f"{GOOD}\n" + "0 320 240 64 48\n" * 5
    _, findings = parse_labels(text.encode(), "a.txt", RULES)

    assert [(finding.code, finding.line) for finding in findings] == [("label-range", 2)]
    assert "5 lines" in findings[0].message
    assert "pixels" in findings[0].message


def test_a_repeated_line_is_a_warning_each_time() -> None:
    labels, findings = parse_labels(f"{GOOD}\n{TRIANGLE[0]} 0.5 0.5 0.1 0.1\n{GOOD}\n{GOOD}\n".encode(), "a.txt", RULES)

    assert [(finding.code, finding.line, finding.severity.value) for finding in findings] == [
        ("label-duplicate", 3, "warning"),
        ("label-duplicate", 4, "warning"),
    ]
    assert len(labels.rows) == 4


def test_many_faults_of_one_kind_are_counted() -> None:
    _, findings = parse_labels(b"9 0.5 0.5 0.1 0.1\n" * 5000, "a.txt", RULES)

    assert len(findings) == MAX_FINDINGS_PER_CODE + 1
    assert f"{5000 - MAX_FINDINGS_PER_CODE} more with the same fault" in findings[-1].message


lines = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from([b"0 .5 .5 .1 .1", b"1 .2 .5 .1 .2", b"2"]),
    st.sampled_from([line.encode() for line, _ in BAD_LINES.values()]),
)


@given(st.lists(lines, max_size=30).map(b"\n".join))
def test_rows_that_are_missing_from_any_bytes_are_reported(data: bytes) -> None:
    labels, findings = parse_labels(data, "a.txt", RULES)

    assert {finding.path for finding in findings} <= {"a.txt"}
    errors = [finding for finding in findings if finding.severity == "error"]
    assert len(labels.rows) <= labels.written
    if not any("pixels" in finding.message for finding in errors):  # one finding for all such lines
        assert labels.written - len(labels.rows) == len({finding.line for finding in errors})


CLASSES = st.sampled_from(["0", "1", "1", "2", "-1", "0.5", "1e9", "nan", "x"])
NUMBERS = st.sampled_from(
    [*[".5", ".25", ".125", "0"] * 3, "1.009", "1.02", "-.02", "1.5", "nan", "inf", "1e999", "0x1"]
)
ANYTHING = st.text(alphabet="0123456789.-+eE \n\t_,xnaif\u0661", max_size=80)


@pytest.mark.parametrize(("task", "count"), [(None, 4), (None, 6), ("obb", 8), ("pose", 6)])
@given(data=st.data())
def test_what_looks_like_numbers_never_gives_a_row_outside_the_rules(
    task: str | None, count: int, data: st.DataObject
) -> None:
    numbers = st.tuples(*[NUMBERS] * count).map(" ".join)
    rows = st.lists(st.builds("{} {}".format, CLASSES, numbers), min_size=1, max_size=9).map("\n".join)
    text = data.draw(st.one_of(rows, rows, ANYTHING))
    labels, _ = parse_labels(
        text.encode(), "a.txt", LabelSpec(class_count=2, task=task, keypoints=(1, 2) if task == "pose" else None)
    )

    for row in labels.rows:
        assert row.class_id in {0, 1}
        assert np.isfinite(row.coordinates).all()
        assert ((row.coordinates >= -0.01) & (row.coordinates <= 1.01)).all()


shares = st.floats(0, 1)
sizes = st.floats(1e-6, 1)
boxes = st.tuples(st.integers(0, 1), st.tuples(shares, shares, sizes, sizes))


@given(st.lists(boxes, unique=True))
def test_writing_and_parsing_give_the_same_rows(drawn: list[tuple[int, tuple[float, ...]]]) -> None:
    rows = [LabelRow(line, class_id, np.array(box)) for line, (class_id, box) in enumerate(drawn, 1)]
    labels, findings = parse_labels(format_labels(rows).encode(), "a.txt", RULES)

    assert [finding.code for finding in findings] == []
    assert len(labels.rows) == len(rows)
    for row, again in zip(rows, labels.rows, strict=True):
        assert (row.line, row.class_id) == (again.line, again.class_id)
        assert np.array_equal(row.coordinates, again.coordinates)


BOW_TIE = "0 .1 .1 .5 .5 .5 .1 .1 .5"


@pytest.mark.parametrize("line", [BOW_TIE, "0 .1 .1 .6 .5 .5 .1 .1 .5"])
def test_an_outline_whose_parts_cancel_out_is_not_flat(line: str) -> None:
    """Its signed area is nearly 0; that it crosses itself is told elsewhere, as a warning."""
    assert found(line, LabelSpec(class_count=2, task="segment")) == []
    assert found("0 .1 .1 .3 .3 .5 .5 .2 .2", LabelSpec(class_count=2, task="segment")) == [("label-degenerate", 1)]


def test_zero_bytes_are_another_encoding() -> None:
    assert found("0 0.5 0.5 0.1 0.1".encode("utf-16-le")) == [("label-encoding", None)]


@pytest.mark.parametrize(
    ("token", "class_id"),
    [
        ("1.0", 1),
        ("1.000000000000000000e+00", 1),
        ("0.000000000000000000e+00", 0),
        ("-0.0", 0),
        ("10e-1", 1),
        ("+1.", 1),
    ],
)
def test_a_class_may_be_a_whole_number_in_any_form(token: str, class_id: int) -> None:
    """numpy.savetxt writes all columns as floats; Ultralytics takes them, and nothing is lost."""
    labels, findings = parse_labels(f"{token} .5 .5 .25 .25\n".encode(), "a.txt", RULES)
    assert findings == []
    assert [row.class_id for row in labels.rows] == [class_id]


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        (RULES, f"{GOOD} 0.87"),
        (LabelSpec(class_count=2, task="detect"), f"{GOOD} 0.87"),
        (LabelSpec(class_count=2, task="segment"), f"{TRIANGLE} 0.87"),
        (LabelSpec(class_count=2, task="obb"), "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9 0.87"),
        (LabelSpec(class_count=2, task="pose", keypoints=(1, 3)), f"{GOOD} 0.1 0.2 2 0.87"),
    ],
)
def test_a_confidence_is_called_one(rules: LabelSpec, line: str) -> None:
    """Ultralytics refuses it; in an archive of nothing else no line says that the task is detect."""
    (finding,) = parse_labels(line.encode(), "a.txt", rules)[1]
    assert finding.code == "label-columns"
    assert "The last looks like a confidence, as in predictions: take that column out." in finding.message


@pytest.mark.parametrize("count", [1, 2, 3, 17])
@pytest.mark.parametrize("rules", [RULES, LabelSpec(class_count=2, task="detect", outlines_as_boxes=True)])
def test_keypoints_that_data_yaml_does_not_tell_of_are_called_so(rules: LabelSpec, count: int) -> None:
    """An odd number of them looks like a confidence, which must stay, and an even one like an outline in pixels."""
    line = f"{GOOD}{' 0.1 0.2 2' * count}"
    (finding,) = parse_labels(line.encode(), "a.txt", rules)[1]
    assert finding.code in {"label-columns", "label-range"}
    assert finding.message.endswith(f"write 'kpt_shape: [{count}, 3]' into data.yaml.")
    assert parse_labels(line.encode(), "a.txt", LabelSpec(class_count=2, task="pose", keypoints=(count, 3)))[1] == []


def test_an_outline_becomes_the_box_around_it_if_the_task_is_detect() -> None:
    """The way out of an archive that mixes them."""
    mixed = f"{GOOD}\n{TRIANGLE}\n".encode()
    (refused,) = parse_labels(mixed, "a.txt", RULES)[1]
    assert "write 'task: detect' there" in refused.message

    labels, (finding,) = parse_labels(mixed, "a.txt", LabelSpec(class_count=2, task="detect", outlines_as_boxes=True))
    assert (finding.code, finding.severity, finding.line) == ("label-outline", "info", 2)
    numbers = np.array(TRIANGLE.split()[1:], float).reshape(-1, 2)
    low, high = numbers.min(axis=0), numbers.max(axis=0)
    assert labels.rows[1].coordinates.tolist() == pytest.approx([*((low + high) / 2), *(high - low)])
