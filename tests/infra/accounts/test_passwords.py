"""Passwords and what is kept of them."""

import statistics
import threading
import time

import pytest

from infra.accounts import passwords
from infra.accounts.errors import AccountError, TooManyAttemptsError
from infra.accounts.passwords import hash_password, is_password, require_password


def test_a_hash_is_of_its_password_alone_and_differs_each_time() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert is_password("correct horse", first)
    assert not is_password("correct horsf", first)
    assert "correct" not in first


def test_an_accent_that_is_typed_in_two_ways_is_one() -> None:
    assert is_password("cafe\u0301 de paris", hash_password("caf\u00e9 de paris"))


@pytest.mark.parametrize("password", ["", "short", "a" * 11, "a" * 257, "Ada is my name, so what"])
def test_what_is_easily_guessed_is_no_password(password: str) -> None:
    with pytest.raises(AccountError, match="Expected a password of 12"):
        require_password(password, "ada")


def test_without_an_account_it_takes_as_long() -> None:
    """So that the time tells nobody whether a name exists."""

    def seconds(kept: str | None) -> float:
        began = time.process_time()
        assert not is_password("another", kept)
        return time.process_time() - began

    known, times = hash_password("correct horse"), list[tuple[float, float]]()
    for _ in range(3):
        times.append((seconds(known), seconds(None)))
    with_account, without = (statistics.median(each) for each in zip(*times, strict=True))
    assert 0.5 < with_account / without < 2


def test_a_flood_of_passwords_waits_and_is_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_AT_ONCE", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "PATIENCE_S", 0.05)
    with passwords._AT_ONCE, pytest.raises(TooManyAttemptsError):
        is_password("another", None)
    assert not is_password("another", None)
