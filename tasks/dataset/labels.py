"""The text of one label file -> rows, and what is wrong with each line.

Python's `float` takes underscores, full-width digits, `nan` and `inf`, so every token passes a strict pattern first.
"""

import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.dataset.findings import Finding, error, info, warning
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.vision.polygons import degeneracy_area

MAX_LABEL_BYTES = 8 * 2**20
# Further faults of one code in one file are one finding with their count.
MAX_FINDINGS_PER_CODE = 100
RANGE_TOLERANCE = 0.01
TASKS = ("detect", "segment", "classify", "pose", "obb")

MAX_TOKEN = 64
MIN_AREA = 1e-9
# Ultralytics checks the sides of the box around an outline as if they were positions.
MAX_SPAN = np.float32(1 + RANGE_TOLERANCE)
# Absent, hidden, visible.
VISIBILITIES = (0.0, 1.0, 2.0)

# Nobody misses the edge of a picture by a whole picture: such numbers are pixels.
_PIXELS_FROM = 2.0
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CLIP = "Clip the label to the image, or draw it again."
_CLASS = re.compile(r"[+-]?[0-9]{1,9}")
MAX_CLASS = 10**9
# All other codes are errors.
_MILDER = {Code.LABEL_DUPLICATE: warning, Code.LABEL_OUTLINE: info}


def round_like_loader(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return numbers in the single precision that Ultralytics reads, in which two that differ may be one; no -0."""
    with np.errstate(over="ignore"):  # what is too large is infinite there, too, and refused as out of range
        return np.asarray(numbers.astype(np.float32) + np.float32(0), np.float32)


def spans(corners: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the larger side of the box around each of n outlines of k corners, (n, k, 2) -> (n,), as loaded."""
    single = round_like_loader(corners)
    return np.asarray((single.max(axis=1) - single.min(axis=1)).max(axis=1), np.float32)


class LabelRow(NamedTuple):
    """One object: `coordinates` are float64 shares of the image's width and height, as the file gives them.

    detect: (4,) x centre, y centre, width, height; segment and obb: (2k,) x, y of each corner; pose: (4 + n*d,) box,
    then n keypoints of d numbers.
    """

    line: int
    class_id: int
    coordinates: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The rows without an error in the file's order; `written` counts all lines with text, faulty ones included."""

    task: str | None
    rows: tuple[LabelRow, ...]
    written: int


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """What the dataset says about its labels; what is None is not checked.

    `keypoints` is data.yaml's `kpt_shape`: number of keypoints, and numbers of each (2 or 3). With `outlines_as_boxes`,
    because it says `task: detect`, an outline counts as the box around it.
    """

    class_count: int | None = None
    task: str | None = None
    keypoints: tuple[int, int] | None = None
    outlines_as_boxes: bool = False


def parse_labels(data: bytes, path: str, rules: LabelSpec) -> tuple[Labels, list[Finding]]:
    """Parse a label file; `path` goes into the findings. Never raises for what the file holds.

    Without a task in the rules the first line that has a possible number of columns decides between detect and segment.
    """
    faults = _FaultCounter(path)
    found = "zero bytes, as in UTF-16"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        text = "\0"
        found = f"byte {data[exc.start]:#04x} at offset {exc.start}"
    if "\0" in text:
        finding = error(Code.LABEL_ENCODING, "UTF-8 text", found, "Save the file as UTF-8.", path=path)
        return Labels(task=None, rows=(), written=1), [finding]
    rules = replace(rules, task=rules.task or _recognize_task(text))
    rows = []
    written = 0
    for number, tokens in _lines(text):
        written += 1
        row = _parse_row(number, tokens, rules, faults)
        if row is not None:
            rows.append(row)
    _check_duplicates(rows, faults)
    return Labels(task=rules.task, rows=tuple(rows), written=written), faults.findings()


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the tokens of each line with text, one at a time: a hostile file has millions."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if tokens := line.split():
            yield number, tokens


class _FaultCounter:
    """Collects the faults of one file, so that a million bad lines do not make a million findings."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kept: list[Finding] = []
        self.total = 0
        self.counts: defaultdict[Code, int] = defaultdict(int)
        self.outside: list[tuple[int, float]] = []

    def add(self, code: Code, line: int, expected: str, found: str, fix: str) -> None:
        self.total += code not in _MILDER
        self.counts[code] += 1
        if self.counts[code] <= MAX_FINDINGS_PER_CODE:
            self.kept.append(_MILDER.get(code, error)(code, expected, found, fix, path=self.path, line=line))

    def add_outside(self, line: int, value: float) -> None:
        """Keep a number out of range; what to say of it depends on all that the file has."""
        self.total += 1
        self.outside.append((line, value))

    def findings(self) -> list[Finding]:
        self._add_outside()
        for code, count in list(self.counts.items()):
            if (more := count - MAX_FINDINGS_PER_CODE) > 0:
                found = f"{more} more with the same fault"
                fix = "Mend the lines named above, then these in the same way."
                self.kept.append(_MILDER.get(code, error)(code, "no more of these faults", found, fix, path=self.path))
        return sorted(self.kept, key=lambda finding: finding.line or math.inf)

    def _add_outside(self) -> None:
        worst = max(self.outside, key=lambda item: abs(item[1]), default=(0, 0.0))
        if abs(worst[1]) >= _PIXELS_FROM:
            lines = f"{len(self.outside)} line{'s' if len(self.outside) > 1 else ''}"
            found = f"{lines} in what look like pixels, up to {worst[1]:g} in line {worst[0]}"
            fix = "Divide x and width by the image's width, y and height by its height."
            self.add(Code.LABEL_RANGE, self.outside[0][0], "numbers from 0 to 1", found, fix)
            return
        for line, value in self.outside:
            self.add(Code.LABEL_RANGE, line, "numbers from 0 to 1", f"{value:g}", _CLIP)


def _recognize_task(text: str) -> str | None:
    possible = {task: column_counts(LabelSpec(task=task)) for task in ("detect", "segment")}
    for _, tokens in _lines(text):
        for task, columns in possible.items():
            if len(tokens) in columns:
                return task
    return None


@cache
def column_counts(rules: LabelSpec) -> range:
    """Return the numbers of columns that a line of the task may have; none without a task."""
    if rules.task == "segment":
        return range(7, MAX_LABEL_BYTES, 2)
    keypoints, numbers = rules.keypoints or (0, 0)
    columns = {"detect": 5, "obb": 9, "pose": 5 + keypoints * numbers}.get(rules.task or "")
    return range(columns, columns + 1) if columns else range(0)


@cache
def _columns(rules: LabelSpec) -> str:
    keypoints, numbers = rules.keypoints or (0, 0)
    return {
        "detect": "5 columns (class, x, y, width, height)",
        "segment": "an odd number of at least 7 columns (class, then x and y of each corner)",
        "obb": "9 columns (class, then x and y of 4 corners)",
        "pose": f"{5 + keypoints * numbers} columns (class, box, {keypoints} keypoints of {numbers} numbers)",
    }.get(rules.task or "", "5 columns (a box) or an odd number of at least 7 (a polygon)")


def _parse_row(line: int, tokens: list[str], rules: LabelSpec, faults: _FaultCounter) -> LabelRow | None:
    """Return the row, or None if it has an error; all its faults are collected."""
    before = faults.total
    outline = rules.outlines_as_boxes and len(tokens) in column_counts(_OUTLINES)
    if outline:
        rules = replace(rules, task=_OUTLINES.task)
    if len(tokens) not in column_counts(rules):
        fix = _columns_fix(tokens, rules)
        faults.add(Code.LABEL_COLUMNS, line, _columns(rules), f"{len(tokens)}", fix)
    values = _parse_numbers(line, tokens, faults)
    if values is None or faults.total > before:
        return None
    class_id = class_of(tokens[0])
    _check_class(line, class_id, rules, faults)
    if not rules.keypoints and max(values) == max(VISIBILITIES) and _has_visibilities(tokens[1:]):
        found = f"{max(values):g}, as the visibility of a keypoint"
        faults.add(Code.LABEL_RANGE, line, "numbers from 0 to 1", found, _keypoints_fix(len(values)))
        return None
    _check_geometry(line, values, rules, faults)
    if faults.total > before:
        return None
    coordinates = np.array(values, dtype=np.float64)
    if outline:
        found = f"an outline of {len(values) // 2} corners"
        fix = "The box around it is trained; to keep the outlines give all labels one, and take the line task out."
        faults.add(Code.LABEL_OUTLINE, line, "a box, as task: detect in data.yaml says", found, fix)
        coordinates = box_around(coordinates)
    return LabelRow(line, class_id, coordinates)


def class_of(token: str) -> int:
    """Return the class that a label row begins with; numpy.savetxt writes `1.0e+00`."""
    return int(token) if _CLASS.fullmatch(token) else int(float(token))


def box_around(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x centre, y centre, width and height (4,) of the upright box around x, y of each corner, (2k,)."""
    points = corners.reshape(-1, 2)
    low = points.min(axis=0)
    high = points.max(axis=0)
    return np.concatenate([(low + high) / 2, high - low])


_OUTLINES = LabelSpec(task="segment")
ONE_KIND = (
    "Export the dataset with boxes or with polygons only, and correct task in data.yaml if it says another. Or write "
    "'task: detect' there: then each polygon counts as the box around it."
)


def _columns_fix(tokens: list[str], rules: LabelSpec) -> str:
    count = len(tokens)
    if not rules.keypoints and _has_visibilities(tokens[1:]):
        return _keypoints_fix(count - 1)
    if count - 1 in column_counts(rules) or (rules.task is None and count >= 6 and count % 2 == 0):
        return "The last looks like a confidence, as in predictions: take that column out."
    if rules.task in {"detect", "segment"} and (count == 5 or (count >= 7 and count % 2)):
        return ONE_KIND
    return "Export the labels in YOLO format again; keypoints need kpt_shape in data.yaml."


def _has_visibilities(numbers: Sequence[str]) -> bool:
    """Return whether the numbers after a class look like a box and keypoints of three, each with a visibility.

    An outline that touches the borders has zeros and ones there, too, but no two.
    """
    flags = numbers[6::3]
    if len(numbers) < 7 or len(numbers) % 3 != 1 or not all(map(_NUMBER.fullmatch, flags)):
        return False
    seen = {*map(float, flags)}
    return seen <= {*VISIBILITIES} and (len(numbers) % 2 == 1 or max(VISIBILITIES) in seen)


def _keypoints_fix(numbers: int) -> str:
    return f"This looks like keypoints: write 'kpt_shape: [{(numbers - 4) // 3}, 3]' into data.yaml."


def _parse_numbers(line: int, tokens: list[str], faults: _FaultCounter) -> list[float] | None:
    if not _is_class(tokens[0]):
        fix = "Write the class as its place in names, such as 0."
        faults.add(Code.LABEL_NUMBER, line, "a whole number for the class", safe_repr(tokens[0]), fix)
        return None
    values = []
    for token in tokens[1:]:
        value = float(token) if len(token) <= MAX_TOKEN and _NUMBER.fullmatch(token) else math.nan
        if not math.isfinite(value):
            fix = "Write it with a decimal point, such as 0.5."
            faults.add(Code.LABEL_NUMBER, line, "a finite decimal number", safe_repr(token), fix)
            return None
        values.append(value)
    return values


def _is_class(token: str) -> bool:
    if _CLASS.fullmatch(token):
        return True
    plain = len(token) <= MAX_TOKEN and _NUMBER.fullmatch(token) is not None
    return plain and float(token).is_integer() and abs(float(token)) < MAX_CLASS


def _check_class(line: int, class_id: int, rules: LabelSpec, faults: _FaultCounter) -> None:
    if class_id < 0 or (rules.class_count is not None and class_id >= rules.class_count):
        known = "0 or more" if rules.class_count is None else f"0 to {rules.class_count - 1}, a place in names"
        known = "0, the only place in names" if rules.class_count == 1 else known
        fix = "Correct the class, or add its name to data.yaml."
        faults.add(Code.LABEL_CLASS, line, f"a class from {known}", f"{class_id}", fix)


def _check_geometry(line: int, values: list[float], rules: LabelSpec, faults: _FaultCounter) -> None:
    positions = values
    if rules.task in {"detect", "pose"}:
        if np.float32(min(values[2:4])) <= 0:
            found = f"{values[2]:g} x {values[3]:g}"
            fix = "Take the line out, or draw the box again."
            faults.add(Code.LABEL_DEGENERATE, line, "a width and a height above 0", found, fix)
        # A negative size is degenerate, and one finding for it is enough.
        numbers = rules.keypoints[1] if rules.keypoints else 2
        keypoints = [value for at, value in enumerate(values[4:]) if at % numbers < 2]
        positions = [*values[:2], max(values[2], 0.0), max(values[3], 0.0), *keypoints]
        _check_visibility(line, values[4:], rules, faults)
    elif degeneracy_area(np.array(values).reshape(-1, 2), np.array([len(values) // 2]))[0] <= MIN_AREA:
        fix = "Take the line out, or draw the outline again."
        faults.add(Code.LABEL_DEGENERATE, line, "a polygon with an area", "corners all on one line", fix)
    worst = max(positions, key=lambda value: abs(value - 0.5))
    if abs(worst - 0.5) > 0.5 + RANGE_TOLERANCE:
        faults.add_outside(line, worst)
    elif rules.task not in {"detect", "pose"} and (span := spans(np.array(values).reshape(1, -1, 2))[0]) > MAX_SPAN:
        found = f"one of {span:g}, as it leaves the image on both sides"
        faults.add(Code.LABEL_RANGE, line, f"an outline at most {MAX_SPAN:g} wide and high", found, _CLIP)


def _check_visibility(line: int, values: list[float], rules: LabelSpec, faults: _FaultCounter) -> None:
    flags = values[2::3] if rules.keypoints and rules.keypoints[1] == 3 else []
    odd = next((value for value in flags if value not in VISIBILITIES), None)
    if odd is not None:
        expected = "0 (absent), 1 (hidden) or 2 (visible) as the third number of a keypoint, its visibility"
        fix = "Write one of these; a confidence, as in predictions, is none."
        faults.add(Code.LABEL_RANGE, line, expected, f"{odd:g}", fix)


def _check_duplicates(rows: Sequence[LabelRow], faults: _FaultCounter) -> None:
    first: dict[tuple[int, bytes], int] = {}
    for row in rows:
        earlier = first.setdefault((row.class_id, round_like_loader(row.coordinates).tobytes()), row.line)
        if earlier != row.line:
            fix = "Take this line out; a merge writes the object once."
            faults.add(Code.LABEL_DUPLICATE, row.line, "each object once", f"line {earlier} again", fix)
