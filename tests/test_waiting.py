"""The helper that waits."""

import time

import pytest

from tests.waiting import eventually


def test_the_first_true_result_is_returned() -> None:
    results = iter([None, 0, "ready", "later"])
    assert eventually(lambda: next(results), "ready", every_s=0) == "ready"


def test_what_never_comes_fails_the_test_with_the_last_result() -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"expected within 0\.05 s: a file; found \[\]"):
        eventually(list, "a file", seconds=0.05, every_s=0.01)
    assert time.monotonic() - began < 5
