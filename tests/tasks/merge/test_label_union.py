"""Rows that several archives have for one picture, as one label."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.merge.label_union import join_labels

BOTH = frozenset({0, 1})


@pytest.mark.parametrize(
    ("task", "own", "their", "joined", "disputed"),
    [
        ("detect", "0 .5 .5 .2 .2\n", "1 .5 .5 .2 .2\n", "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n", 2),
        ("detect", "0 .5 .5 .2 .2\n", "0 .500001 .5 .2 .2\n", "0 .5 .5 .2 .2\n", 0),
        ("detect", "0 .5 .5 .2 .2\n", "0 .53 .5 .2 .2\n", "0 .5 .5 .2 .2\n", 1),
        ("detect", "0 .5 .5 .2 .2\n", "0 .62 .5 .2 .2\n", "0 .5 .5 .2 .2\n0 .62 .5 .2 .2\n", 2),
        ("segment", "0 .1 .1 .3 .1 .3 .3\n", "0 .1 .1 .3 .1 .3 .3\n", "0 .1 .1 .3 .1 .3 .3\n", 0),
        ("obb", "0 .1 .1 .3 .1 .3 .3 .1 .3\n", "0 .3 .1 .3 .3 .1 .3 .1 .1\n", "0 .1 .1 .3 .1 .3 .3 .1 .3\n", 0),
        ("pose", "0 .5 .5 .2 .2 .9 .9 2\n", "0 .5 .5 .2 .2 0 0 0\n", "0 .5 .5 .2 .2 .9 .9 2\n", 0),
        ("detect", "", "", "", 0),
    ],
)
def test_an_object_is_kept_once_and_what_differs_is_counted(
    task: str, own: str, their: str, joined: str, disputed: int
) -> None:
    assert join_labels([(own, BOTH), (their, BOTH)], task) == (joined, disputed)


def test_each_box_has_one_partner_at_most() -> None:
    """Two objects side by side, of which the other archive has labelled one: the closest is that one."""
    own = "0 .50 .5 .2 .2\n0 .54 .5 .2 .2\n"
    assert join_labels([(own, BOTH), ("0 .54 .5 .2 .2\n", BOTH)], "detect") == (own, 1)
    twice = "0 .51 .5 .2 .2\n0 .52 .5 .2 .2\n"
    assert join_labels([("0 .5 .5 .2 .2\n", BOTH), (twice, BOTH)], "detect").text == ("0 .5 .5 .2 .2\n0 .52 .5 .2 .2\n")


def test_nobody_disagrees_about_a_class_that_one_archive_knows() -> None:
    cars, people = ("0 .5 .5 .2 .2\n", frozenset({0})), ("1 .5 .5 .2 .2\n", frozenset({1}))
    assert join_labels([cars, people], "detect") == ("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n", 0)
    assert join_labels([cars, ("", frozenset({1}))], "detect") == (cars[0], 0)


def test_a_hostile_number_of_boxes_takes_no_time() -> None:
    """A label file may have 8 MiB."""
    many = "".join(f"0 0.{at:06} .5 .2 .2\n" for at in range(100_000, 105_000))
    began = time.perf_counter()
    assert join_labels([(many, BOTH), (many, BOTH)], "detect") == (many, 0)
    assert time.perf_counter() - began < 5


SIDES = st.integers(1, 40).map(lambda part: part / 100)
ROWS = st.lists(st.tuples(st.integers(0, 1), SIDES, SIDES, SIDES, SIDES), max_size=8, unique=True)


def is_of_one_object(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes of one class share half of their area or more."""
    sides = [
        min(one[at] + one[at + 2] / 2, other[at] + other[at + 2] / 2)
        - max(one[at] - one[at + 2] / 2, other[at] - other[at + 2] / 2)
        for at in (1, 2)
    ]
    common = max(sides[0], 0) * max(sides[1], 0)
    return one[0] == other[0] and common >= 0.499 * (one[3] * one[4] + other[3] * other[4] - common)


@settings(deadline=None)
@given(own=ROWS, their=ROWS)
def test_no_row_is_lost_but_one_of_an_object_of_the_first_and_a_copy_adds_nothing(
    own: list[tuple[float, ...]], their: list[tuple[float, ...]]
) -> None:
    one, other = ("".join(" ".join(map(str, row)) + "\n" for row in rows) for rows in (own, their))
    text, disputed = join_labels([(one, BOTH), (other, BOTH)], "detect")
    assert text.startswith(one)
    assert set(text.splitlines()) <= {*one.splitlines(), *other.splitlines()}
    lost = [row for row, line in zip(their, other.splitlines(), strict=True) if line not in text.splitlines()]
    assert all(any(is_of_one_object(row, kept) for kept in own) for row in lost)
    assert join_labels([(one, BOTH), (one, BOTH)], "detect") == (one, 0)
    assert disputed >= abs(len(own) - len(their))
