"""The fence of a backup notices what would make it worthless; tests/infra/backup/test_taking.py has it at work.

The store is made up: no real one jumps in time, or is away for most of a minute, when a test wants it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.storage import fence
from tasks.storage.object_names import CHANGES
from tasks.storage.object_store import ListedObject
from tasks.storage.s3_client import StorageError


class Store:
    """A store with a clock that can be moved, and that may be away."""

    def __init__(self) -> None:
        self.now, self.is_away = datetime(2026, 1, 1, tzinfo=UTC), False
        self.written: dict[str, datetime] = {}

    def put(self, key: str, _: bytes) -> None:
        if self.is_away:
            raise StorageError("away")
        self.written[key] = self.now

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.written.pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.written if key.startswith(prefix)]

    def uri(self, key: str) -> str:
        return f"s3://runs/{key}"

    def find(self, key: str) -> ListedObject | None:
        at = self.written.get(key)
        return ListedObject(key, 0, "", (self.now - at).total_seconds(), at) if at else None


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made: Any = Store()
    monkeypatch.setattr(fence, "_RUNS", made)
    monkeypatch.setattr(fence, "_RUNS_ONCE", made)
    return made  # type: ignore[no-any-return]


def test_a_fence_that_stood_is_unbroken_and_leaves_nothing(store: Store) -> None:
    with fence.fence(lambda _: True, 0) as require_unbroken:
        require_unbroken()
        assert fence._stands()
    assert store.written == {}


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_by_an_hour_makes_the_backup_fail_not_wrong(store: Store, hours: int) -> None:
    with fence.fence(lambda _: False, 0) as require_unbroken:
        store.now += timedelta(hours=hours)
        with pytest.raises(StorageError, match=r"found that it jumped.*Take the backup again"):
            require_unbroken()


def test_a_store_that_was_away_for_most_of_a_minute_makes_the_backup_fail(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "TTL_S", fence.RENEW_INTERVAL_S)
    with fence.fence(lambda _: False, 0) as require_unbroken:
        store.is_away = True
        with pytest.raises(StorageError, match="found it away for most of a minute"):
            require_unbroken()


def test_a_change_under_way_takes_the_fence_down_again(store: Store) -> None:
    store.put(f"{CHANGES}run", b"")
    with pytest.raises(StorageError, match="found flow run run"), fence.fence(lambda _: True, 0):
        pytest.fail("it was put up")
    assert [*store.written] == [f"{CHANGES}run"]
