"""Work side by side: in order, in bounded memory, and ended by the first error."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.inference.concurrency import MemoryBudget, ordered_map


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 4), st.integers(1, 6), st.none() | st.integers(0, 12))
@settings(deadline=None, max_examples=50)
def test_what_comes_out_is_in_order_and_what_waits_is_bounded(
    weights: list[int], threads: int, window: int, most: int | None
) -> None:
    """Of what weighs something, no more than `most` is taken ahead, or one."""
    taken, given_out = 0, 0
    heaviest = 0

    def items() -> Iterator[tuple[int, int]]:
        nonlocal taken, heaviest
        for pair in enumerate(weights):
            taken += 1
            heaviest = max(heaviest, sum(weights[given_out:taken]))
            assert taken - given_out <= window
            yield pair

    results = ordered_map(
        lambda pair: pair[0],
        items(),
        threads=threads,
        window=window,
        weight=(lambda pair: pair[1]) if most is not None else lambda _: 0,
        most=most or 0,
    )
    for expected, found in enumerate(results):
        assert found == expected
        given_out += 1
    assert given_out == len(weights)
    if most is not None:
        assert heaviest <= max(most, max(weights, default=0)) + max(weights, default=0)


def test_the_first_error_stops_what_has_not_begun() -> None:
    begun = list[int]()

    def work(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    found = list[int]()
    with pytest.raises(ValueError, match="three"):
        found.extend(iter(ordered_map(work, range(1000), threads=2, window=4)))
    assert len(begun) < 20


def test_who_closes_early_waits_for_what_has_begun() -> None:
    at_work, most = 0, 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work, most = at_work + 1, max(most, at_work + 1)
        time.sleep(0.01)
        with lock:
            at_work -= 1
        return number

    results = ordered_map(work, range(1000), threads=3, window=6)
    assert next(results) == 0
    results.close()
    assert at_work == 0
    assert 1 <= most <= 3


def test_with_one_thread_the_next_one_is_made_while_this_one_is_used() -> None:
    made = list[int]()

    def make(number: int) -> int:
        made.append(number)
        return number * 2

    for item, result in enumerate(ordered_map(make, range(4), threads=1, window=2)):
        assert result == item * 2
        time.sleep(0.02)
        assert made == list(range(min(item + 2, 4)))


def test_a_budget_is_never_exceeded_and_one_that_is_larger_goes_alone() -> None:
    budget, held, most = MemoryBudget(10), 0, 0
    lock = threading.Lock()

    def take(amount: int) -> None:
        nonlocal held, most
        with budget.reserve(amount):
            with lock:
                held += min(amount, 10)
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= min(amount, 10)

    threads = [threading.Thread(target=take, args=(amount,)) for amount in (4, 7, 25, 3, 1, 9, 10, 2) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert 9 <= most <= 10
