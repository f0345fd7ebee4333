import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from tasks.dataset.findings import Finding, FindingBatch
from tasks.dataset.labels import LabelSpec, parse_labels
from tasks.parameters import ValidationPolicy
from tasks.validation.collector import MAX_KEPT, Collector
from tasks.validation.label_table import LabelTable, read_labels, schema

RULES = LabelSpec(class_count=3)
BOX = "0 0.5 0.5 0.25 0.25\n"
SQUARE = "1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n"
DIAMOND = "1 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n"
BOW_TIE = "1 0.1 0.1 0.9 0.9 0.9 0.1 0.1 0.8\n"


def read(*texts: str, rules: LabelSpec = RULES) -> tuple[LabelTable, list[Finding]]:
    """Files a.txt, b.txt, ... with these texts; batches written out."""
    files = [(f"{chr(ord('a') + at)}.txt", text.encode()) for at, text in enumerate(texts)]
    return read_files(files, rules)


def read_files(files: list[tuple[str, bytes]], rules: LabelSpec = RULES) -> tuple[LabelTable, list[Finding]]:
    findings: list[Finding | FindingBatch] = []
    table = read_labels(iter(files), rules, findings.extend)
    return table, written(findings)


def written(findings: Sequence[Finding | FindingBatch]) -> list[Finding]:
    return [
        one
        for finding in findings
        for one in (map(finding.make, range(finding.count)) if isinstance(finding, FindingBatch) else [finding])
    ]


def told(findings: list[Finding]) -> list[tuple[str, str, str | None, int | None]]:
    return [(finding.code, finding.severity, finding.path, finding.line) for finding in findings]


def test_the_table_holds_the_rows_of_all_files_in_order() -> None:
    table, findings = read(BOX + "\n2 0.1 0.2 0.1 0.2", "", "1 0.5 0.5 0.5 x\n" + BOX, "\n")

    assert [(finding.path, finding.line) for finding in findings] == [("c.txt", 1)]
    assert table.task == "detect"
    assert dict(table.written) == {"a.txt": 2, "b.txt": 0, "c.txt": 2, "d.txt": 0}
    assert table.rows["label"].tolist() == ["a.txt", "a.txt", "c.txt"]
    assert table.rows["line"].tolist() == [1, 3, 2]
    assert table.rows["class_id"].tolist() == [0, 2, 0]
    assert table.rows[["x", "y", "width", "height"]].to_numpy().tolist() == [
        [0.5, 0.5, 0.25, 0.25],
        [0.1, 0.2, 0.1, 0.2],
        [0.5, 0.5, 0.25, 0.25],
    ]
    assert table.rows["area"].tolist() == pytest.approx([0.0625, 0.02, 0.0625])
    assert table.rows["corners"].tolist() == [0, 0, 0]


def test_outlines_are_measured() -> None:
    table, findings = read(SQUARE + "0 0.1 0.2 0.5 0.2 0.1 0.4\n")

    assert findings == []
    assert table.rows[["x", "y", "width", "height", "area"]].to_numpy() == pytest.approx(
        np.array([[0.5, 0.5, 0.8, 0.8, 0.64], [0.3, 0.3, 0.4, 0.2, 0.04]])
    )
    assert table.rows["corners"].tolist() == [4, 3]


def test_an_outline_that_goes_round_twice_has_its_area_once() -> None:
    table, findings = read("0 0 0 1 0 1 1 0 1 0 0 1 0 1 1 0 1\n")

    assert findings == []
    assert table.rows["area"].tolist() == [1]


def test_keypoints_are_no_corners() -> None:
    table, findings = read(
        "0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.9 0.9 0\n", rules=LabelSpec(class_count=1, task="pose", keypoints=(2, 3))
    )

    assert findings == []
    assert table.task == "pose"
    assert table.rows[["x", "y", "width", "height", "corners"]].to_numpy().tolist() == [[0.5, 0.5, 0.2, 0.4, 0]]


TASKS = {
    "boxes": ([BOX], None, "detect"),
    "outlines": ([SQUARE, "0 0.1 0.1 0.9 0.1 0.5 0.9"], None, "segment"),
    "nothing": (["", "\n"], None, None),
    "only faults": (["0 1"], None, None),
    "upright rectangles": ([SQUARE, SQUARE], None, "segment"),
    "rotated rectangles": ([SQUARE, DIAMOND], None, "obb"),
    "rotated rectangles and a triangle": ([DIAMOND, "0 0.1 0.1 0.9 0.1 0.5 0.9"], None, "segment"),
    "a triangle among many": ([*[DIAMOND] * 29, "0 0.1 0.1 0.9 0.1 0.5 0.9"], None, "segment"),
    "four corners of any shape": ([DIAMOND, "0 0.1 0.1 0.9 0.1 0.6 0.9 0.4 0.7"], None, "segment"),
    "one clipped box in thirty": (
        [*[DIAMOND] * 29, "0 0.1 0.1 0.9 0.1 0.6 0.9 0.4 0.7"],
        None,
        "obb",
    ),
    "said by the dataset": ([DIAMOND], "segment", "segment"),
    "said to be rotated": ([SQUARE], "obb", "obb"),
}


@pytest.mark.parametrize(("texts", "rule", "task"), TASKS.values(), ids=TASKS)
def test_the_task_shows_in_the_labels(texts: list[str], rule: str | None, task: str | None) -> None:
    assert read(*texts, rules=LabelSpec(class_count=3, task=rule))[0].task == task


def test_files_of_another_kind_than_most_are_named() -> None:
    table, findings = read(SQUARE, BOX, BOX, SQUARE, "", BOX)

    assert table.task == "detect"
    assert told(findings) == [
        ("label-columns", "error", "a.txt", None),
        ("label-columns", "error", "d.txt", None),
    ]
    assert "labels for detect, as in 3 other files, found labels for segment" in findings[0].message
    assert len(table.rows) == 5


OUTLINES = {
    "a bow-tie": (BOW_TIE, [1]),
    "in the second line": (SQUARE + BOW_TIE, [2]),
    "a square": (SQUARE, []),
    "a star, round twice": ("0 .5 .1 .74 .82 .12 .38 .88 .38 .26 .82", [1]),
    "touching itself in a corner": ("0 .1 .1 .5 .5 .9 .1 .9 .9 .5 .5 .1 .9", []),
    "a corner on an edge": ("0 .1 .1 .9 .1 .9 .9 .5 .1 .1 .9", []),
    "a hole with a bridge": ("0 0 0 1 0 1 1 0 1 0 0 .3 .3 .3 .6 .6 .6 .6 .3 .3 .3", []),
    "a spike there and back": ("0 .1 .1 .5 .1 .9 .1 .5 .1 .5 .5", []),
    "crossing by a rounded digit": ("0 .1 .1 .9 .1 .9 .9 .50001 .09999 .5 .09999 .1 .9", []),
    "a repeated corner": ("0 .1 .1 .1 .1 .9 .1 .9 .9", []),
    "no area": ("0 .1 .1 .5 .5 .9 .9", None),
}


@pytest.mark.parametrize(("text", "lines"), OUTLINES.values(), ids=OUTLINES)
def test_an_outline_that_crosses_itself_is_a_warning(text: str, lines: list[int] | None) -> None:
    table, findings = read(text)

    severity, at, rows = ("error", [1], 0) if lines is None else ("warning", lines, len(text.strip().split("\n")))
    assert told(findings) == [("label-degenerate", severity, "a.txt", line) for line in at]
    assert len(table.rows) == rows


def test_a_rotated_box_with_swapped_corners_crosses_itself() -> None:
    assert [finding.line for finding in read(DIAMOND + BOW_TIE, rules=LabelSpec(class_count=3, task="obb"))[1]] == [2]


GOOD = [
    [
        "0 .5 .5 .25 .25\n",
        "0 .2 .2 .1 .1\n",
        "0 .20 .2 .1 1e-1\n",
        "2 1e-1 +.5 5.E-1 .25\r\n",
        "2 1 1 1 1\r",
        "\n",
        " \t\x0b\n",
    ],
    [SQUARE, DIAMOND, "1 .5 .1 .9 .5 .5 .9 .1 .5\n", "0 .1 .1 .9 .1 .5 .9\r", "\n"],
    ["0 .5 .5 .1 .1 .2 .2 2\n", "0 .5 .5 .1 .1 .20 .2 2\n", "0 .5 .5 .1 .1 .2 .2 9\n", "0 .5 .5 .1 .1 .3 .2 1\r\n"],
]
ODD = [
    "0 5 5 1 1\n",
    "0 1.02 .5 .1 .1\n",
    "0 .5 .5 0 .1\n",
    "3 .5 .5 .1 .1\n",
    "-1 .5 .5 .1 .1\n",
    "0\n",
    "1.0 1 1 1 1\n",
    "1e0 .5 .5 .1 .1\n",
    "1.000000000000000000e+00 5.0e-01 5.0e-01 1e-1 1e-1\n",
    "-0.0 .5 .5 .1 .1\n",
    "1.5 .5 .5 .1 .1\n",
    "1e9 .5 .5 .1 .1\n",
    "1e999 .5 .5 .1 .1\n",
    "+1 .5 .5 .1 .1\n",
    "0000000001 .5 .5 .1 .1\n",
    "0 1e999 .5 .1 .1\n",
    "0 1e00001 .5 .1 .1\n",
    "0 - .5 .1 .1\n",
    f"0 0.{'5' * 80} .5 .1 .1\n",
    "0 0 .5 .1 .1\n0 -0 .5 .1 .1\n",
    "0 .1 .1 .5 .5 .9 .9\n",
    "0 -.009 .1 1.009 .1 .5 .9\n",
    "0 .1 .1 .9 .10000000001 .5 .1\n",
    "0 .5 .5 1e-320 1e-320\n",
    "0 .5 .5 .1 .1 .2 1.2 1\n",
    "\xa00 .5 .5 .1 .1\n",
    "\x1c",
    SQUARE,
    BOX,
]
odd = st.one_of(st.sampled_from(ODD), st.text(alphabet="0123456789.-+eE \n\r\t_,xn\u0661", max_size=30))
# Most files are in order, or all but: that is where the two ways of reading part.
texts = st.one_of(
    st.sampled_from(GOOD).flatmap(lambda kind: st.lists(st.sampled_from(kind), max_size=4)),
    st.sampled_from(GOOD).flatmap(lambda kind: st.tuples(st.sampled_from(kind), odd, st.sampled_from(kind))),
    st.lists(odd, max_size=4),
).map("".join)
files = st.lists(
    st.one_of(texts.map(str.encode), texts.map(lambda text: b"\xef\xbb\xbf" + text.encode()), st.binary(max_size=20)),
    max_size=8,
)
RULES_OF_ALL_KINDS = [
    LabelSpec(),
    *(LabelSpec(class_count=3, task=task) for task in (None, "detect", "segment", "obb", "pose", "classify")),
    LabelSpec(class_count=3, task="pose", keypoints=(1, 3)),
    LabelSpec(class_count=3, task="pose", keypoints=(2, 2)),
    LabelSpec(class_count=3, task="detect", outlines_as_boxes=True),
]
# Rows of the right length, of numbers alone: one word would send all files the slow way.
NEAR = [*[".1", ".3", ".5", ".9"] * 6, *["-.009", "1.009", "0"] * 2, "2", "-.02", "1.02", "1.1", "1e-320"]
COUNTS = {"detect": (4,), "segment": (6, 8), "obb": (8,), "pose": (7, 8)}


def cases_of(rules: LabelSpec) -> st.SearchStrategy[tuple[list[bytes], LabelSpec]]:
    """Files that fit the rules, nearly so or not at all."""
    counts = st.sampled_from(COUNTS.get(rules.task or "", (4, 6)))
    numbers = counts.flatmap(lambda count: st.tuples(*[st.sampled_from(NEAR)] * count)).map(" ".join)
    classes = st.sampled_from([*"012" * 4, "3", "-1", "1.0", "1.5", "\ufeff0"])
    rows = st.builds("{} {}{}".format, classes, numbers, st.sampled_from(["\n", "\r", "\r\n"]))
    near = st.lists(rows, max_size=3).map("".join).map(str.encode)
    return st.tuples(st.one_of(files, st.lists(near, min_size=1, max_size=8)), st.just(rules))


MILD = {"label-duplicate", "label-encoding", "label-outline"}


def assert_same_as_line_by_line(contents: list[bytes], rules: LabelSpec) -> None:
    """Reading the files together gives the rows, counts and findings, in the same words, of parsing each."""
    named = [(f"{at}.txt", data) for at, data in enumerate(contents)]
    table, findings = read_files(named, rules)
    parsed = [(name, *parse_labels(data, name, rules)) for name, data in named]

    about_lines = [finding for finding in findings if finding.severity == "error" and finding.line]
    about_lines += [finding for finding in findings if finding.code in MILD]
    assert sorted(map(repr, about_lines)) == sorted(repr(finding) for *_, faults in parsed for finding in faults)
    assert dict(table.written) == {name: labels.written for name, labels, _ in parsed}
    rows = [(name, row) for name, labels, _ in parsed for row in labels.rows]
    places = table.rows[["label", "line", "class_id"]].itertuples(index=False, name=None)
    assert list(places) == [(name, row.line, row.class_id) for name, row in rows]
    for measured, (_, row) in zip(table.rows[["x", "y", "width", "height"]].to_numpy(), rows, strict=True):
        if rules.task == "pose" or len(row.coordinates) == 4:
            assert measured.tolist() == row.coordinates[:4].tolist()
        else:
            assert measured[2:].tolist() == np.ptp(row.coordinates.reshape(-1, 2), axis=0).tolist()


@pytest.mark.parametrize("rules", RULES_OF_ALL_KINDS, ids=str)
def test_each_odd_line_among_good_ones_is_judged_as_by_itself(
    rules: LabelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In one chunk a single word would send all files the slow way.
    monkeypatch.setattr("tasks.validation.label_table._CHUNK_FILES", 1)
    contents = [f"{good}{line}" for kind in GOOD for good in kind for line in [*kind, *ODD]]

    assert_same_as_line_by_line([content.encode() for content in contents], rules)
    assert_same_as_line_by_line([f"\ufeff{line}".encode() for kind in GOOD for line in kind], rules)


@settings(deadline=None)
@given(st.sampled_from(RULES_OF_ALL_KINDS).flatmap(cases_of))
def test_many_files_give_what_each_gives_by_itself(case: tuple[list[bytes], LabelSpec]) -> None:
    assert_same_as_line_by_line(*case)


def test_files_of_several_chunks_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    named = [(f"{at}.txt", (BOX * (at % 3)).encode()) for at in range(100)]
    whole, findings = read_files(named)
    monkeypatch.setattr("tasks.validation.label_table._CHUNK_BYTES", 50)
    parts, again = read_files(named)

    assert len(whole.rows) == 99
    pd.testing.assert_frame_equal(whole.rows, parts.rows)
    assert findings == again


def test_of_many_faulty_files_the_first_findings_are_kept_and_all_counted() -> None:
    collector = Collector(ValidationPolicy())
    faulty = [(f"{at}.txt", b"0 x 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n") for at in range(2 * MAX_KEPT)]
    read_labels(iter(faulty), RULES, collector.add)

    assert [finding.path for finding in collector.findings()] == sorted(f"{at}.txt" for at in range(MAX_KEPT)) * 2
    assert collector.omitted() == {"label-number": {"error": MAX_KEPT}, "label-class": {"error": MAX_KEPT}}


@pytest.mark.parametrize(
    "change",
    [{"x": 1.02}, {"width": 0.0}, {"line": 0}, {"class_id": -1}, {"area": np.nan}, {"more": 1}, {"corners": 0.5}],
    ids=str,
)
def test_the_schema_refuses_what_no_label_can_be(change: dict[str, float]) -> None:
    rows = read(BOX)[0].rows
    schema().validate(rows)
    for name, value in change.items():
        rows[name] = np.array([value], dtype=np.int32 if name in {"line", "class_id"} else None)

    with pytest.raises(SchemaErrors):
        schema().validate(rows, lazy=True)


def test_a_row_that_no_label_can_be_is_a_fault_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.validation.label_table.polygon_areas", lambda _, counts: np.full(len(counts), np.nan))

    with pytest.raises(SchemaErrors):
        read(SQUARE)


def test_the_schema_is_silent_and_needs_no_environment() -> None:
    code = "from tasks.validation.label_table import *; read_labels([('a', b'0 .5 .5 .1 .1')], LabelSpec(), list)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env={}, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
