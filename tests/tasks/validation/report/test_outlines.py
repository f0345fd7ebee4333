"""Labels as outlines: what of a file can be drawn, and how much of it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.validation.report.outlines import draw_outlines, read_outlines


@pytest.mark.parametrize(
    ("text", "task", "corners"),
    [
        (b"0 0.5 0.5 0.2 0.2", "detect", [4]),
        (b"0 0.5 0.5 0.2 0.2 1 1 2", "pose", [4]),
        (b"0 0.5 0.5 0.2 0.2 1 1 2", "detect", []),
        (b"0 0.1 0.1 0.9 0.1 0.5 0.9", "segment", [3]),
        (b"0 0.1 0.1 0.9 0.1 0.5 0.9", "detect", [3]),
        (b"0 0.5 0.5 0.2", "detect", []),
        (b"99999 0.5 0.5 0.2 0.2\n-1 0.5 0.5 0.2 0.2", "detect", [4, 4]),
        (b"9e9 0.5 0.5 0.2 0.2\n1e999 0 0 1 1\nnan 0 0 1 1\nx 0 0 1 1", "detect", []),
        (b"0 320 240 64 64", "detect", []),
        (b"0 1.2 0.5 0.2 0.2", "detect", [4]),
        (b"0 nan 0.5 0.2 0.2\n0 inf 0.5 0.2 0.2\n0 0,5 0.5 0.2 0.2", "detect", []),
        (b"0 inf 0.5 inf 0.2\n0 1e308 0.5 -1e309 0.2\n0 1.7e308 0.5 1.7e308 0.2", "detect", []),
        (b"\n\r\n0 0.5 0.5 -0.2 0\r0 0 0 0 0", "detect", [4, 4]),
        (b"\xff\xfe\x00\n0 0.5 0.5 0.2 0.2", "detect", [4]),
        (b"0 0.5 0.5 0.2 0.2\n" * 40_000, "detect", []),
    ],
)
def test_outlines_are_read_as_far_as_they_go(text: bytes, task: str, corners: list[int]) -> None:
    assert [len(outline.corners) for outline in read_outlines(text, task)] == corners


def test_outlines_know_their_line() -> None:
    text = b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\r\nbad\r0 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.2 0.2"
    assert [outline.line for outline in read_outlines(text, "detect")] == [1, 3, 5]


TOKENS = st.sampled_from([*["0.1", "0.5", "0.9", "1.2"] * 3, "-1.9", "2.1", "320", "nan", "inf", "1.7e308", "x"])
ROWS = st.builds("{} {}".format, st.sampled_from(["0", "1", "1e999"]), st.lists(TOKENS, min_size=3).map(" ".join))


@given(
    st.one_of(st.binary(max_size=200), st.text("0123456789.e- \n", max_size=200).map(str.encode))
    | st.lists(ROWS, max_size=9).map("\n".join).map(str.encode),
    st.sampled_from(["pose", None]),
)
def test_any_bytes_make_paths_of_whole_numbers(data: bytes, task: str | None) -> None:
    for drawing in draw_outlines(read_outlines(data, task), (), (320, 200)):
        assert re.fullmatch(r"(M-?\d+ -?\d+(L-?\d+ -?\d+)*z)+", drawing.path)
        assert max(map(int, re.findall(r"\d+", drawing.path))) <= 2 * 320


def test_a_polygon_of_any_size_makes_a_short_path() -> None:
    line = "0 " + " ".join(
        f"{np.cos(at) / 2 + 0.5:.1f} {np.sin(at) / 2 + 0.5:.1f}" for at in np.linspace(0, 6.3, 60_000)
    )
    (drawing,) = draw_outlines(read_outlines(line.encode(), "segment"), ("cat",), (320, 200))
    assert 1000 < len(drawing.path) < 20_000
