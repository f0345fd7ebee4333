"""How often something may fail."""

import pytest

from infra.accounts.attempts import Attempts, network_of, take_all


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_may_fail_in_a_window_and_then_the_wait_is_told() -> None:
    clock = Clock()
    attempts = Attempts(2, 60, clock=clock)
    assert [attempts.take("a") for _ in range(3)] == [0, 0, 60]
    clock.now = 45
    assert attempts.take("a") == 15
    assert attempts.take("b") == 0
    clock.now = 60
    assert [attempts.take("a") for _ in range(3)] == [0, 0, 60]


def test_an_attempt_that_did_not_fail_is_not_counted() -> None:
    attempts = Attempts(1, 60)
    for _ in range(3):
        assert attempts.take("a") == 0
        attempts.give_back("a")


def test_a_wait_for_one_reason_counts_for_no_other() -> None:
    by_name, by_address = Attempts(1, 60), Attempts(2, 60)
    assert take_all([(by_address, "x"), (by_name, "ada")]) == 0
    assert take_all([(by_address, "x"), (by_name, "ada")]) > 0
    assert take_all([(by_address, "x"), (by_name, "bob")]) == 0


def test_memory_has_a_bound_and_forgets_what_has_rested_longest() -> None:
    attempts = Attempts(1, 60, keys=2)
    for key in ("a", "b", "c"):
        attempts.take(key)
    assert attempts.take("c") > 0
    assert attempts.take("a") == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("somebody", "unknown"),
        ("", "unknown"),
    ],
)
def test_who_has_many_addresses_is_counted_as_one(address: str, network: str) -> None:
    assert network_of(address) == network
