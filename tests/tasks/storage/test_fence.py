"""The fence of a backup notices what would make it worthless; tests/infra/backup/test_taking.py has it at work.

The store is made up: no real one jumps in time, or is away for most of a minute, when a test wants it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.storage import fence
from tasks.storage.object_names import CHANGES, FENCE
from tasks.storage.object_store import ListedObject
from tasks.storage.s3_client import StorageError


class Store:
    """A store with a clock that can be moved, and that may be away."""

    def __init__(self) -> None:
        self.now, self.is_away = datetime(2026, 1, 1, tzinfo=UTC), False
        self.written: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: str, body: bytes) -> None:
        if self.is_away:
            raise StorageError("away")
        self.written[key] = body, self.now

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        present = self.get_tagged(key)
        if etag != (present and present[1]):
            return False
        self.put(key, body)
        return True

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        if self.is_away:
            raise StorageError("away")
        body, _ = self.written.get(key, (None, None))
        return None if body is None else (body, body.hex())

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.written.pop(key, None)

    def delete_content(self, key: str, etag: str) -> bool:
        present = self.get_tagged(key)
        if present is None or present[1] != etag:
            return False
        self.delete(key)
        return True

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.written if key.startswith(prefix)]

    def uri(self, key: str) -> str:
        return f"s3://runs/{key}"

    def find(self, key: str) -> ListedObject | None:
        if key not in self.written:
            return None
        body, at = self.written[key]
        return ListedObject(key, len(body), body.hex(), (self.now - at).total_seconds(), at)


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
        store.is_away = False


def test_a_change_under_way_takes_the_fence_down_again(store: Store) -> None:
    store.put(f"{CHANGES}run", b"")
    with pytest.raises(StorageError, match="found flow run run"), fence.fence(lambda _: True, 0):
        pytest.fail("it was put up")
    assert [*store.written] == [f"{CHANGES}run"]


def test_a_second_backup_waits_for_the_first_whose_fence_stays(store: Store) -> None:
    with fence.fence(lambda _: False, 0) as require_unbroken:
        with pytest.raises(StorageError, match="found the fence of one"), fence.fence(lambda _: False, 0):
            pytest.fail("it was put up")
        assert fence._stands()
        require_unbroken()
    with fence.fence(lambda _: False, 0):
        assert fence._stands()
    assert store.written == {}


def test_a_backup_takes_the_place_of_one_that_was_killed_and_keeps_it(store: Store) -> None:
    with fence.fence(lambda _: False, 0) as require_unbroken:
        store.now += timedelta(seconds=fence.TTL_S)  # the first was asleep
        with fence.fence(lambda _: False, 0) as second:
            with pytest.raises(StorageError, match=r"found it gone, or that of another.*Take the backup again"):
                require_unbroken()
            second()
        assert store.written == {}


def test_the_end_of_a_backup_that_lost_its_fence_leaves_that_of_another(store: Store) -> None:
    with fence.fence(lambda _: False, 0):
        store.put(FENCE, b"another")
    assert [*store.written] == [FENCE]


def test_a_fence_that_somebody_removed_makes_the_backup_fail(store: Store) -> None:
    with fence.fence(lambda _: False, 0) as require_unbroken:
        store.delete(FENCE)
        with pytest.raises(StorageError, match="found it gone"):
            require_unbroken()
