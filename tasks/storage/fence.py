"""The fence around a backup: while it stands, nothing is removed and no served version changes.

Who removes or changes something announces it first, `runs/locks/changes/<flow run id>`, and then looks for the fence,
`runs/locks/backup/fence`. A backup puts up the fence first, and then looks for changes: of two that come at one moment
at least one sees the other. If there is a change, the backup takes the fence down and tries again later, so that a
rollback never waits for a deployment of another model. The fence of a backup that was killed falls `TTL_S` after it was
last renewed, by the store's clock.

A fence names its backup, which alone renews it and takes it down: of two backups at one time the second waits.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from prefect import get_run_logger

from tasks.orchestration.repetition import run_periodically
from tasks.orchestration.retries import ONCE
from tasks.storage.object_names import CHANGES, FENCE, Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

RENEW_INTERVAL_S = 10.0
TTL_S = 60.0
JUMP_S = 5.0  # a renewal that the store takes its time for is no jump of its clock
POLL_INTERVAL_S = 1.0
_RUNS = ObjectStore(Bucket.RUNS)
_RUNS_ONCE = ObjectStore(Bucket.RUNS, ONCE)


@contextmanager
def announced_change(holder: str) -> Iterator[None]:
    """Remove or change something in the block, as flow run `holder`; first waits for a backup that is being taken."""
    key = f"{CHANGES}{holder}"
    waits = False
    _RUNS.put(key, b"")
    while _stands():
        _RUNS.delete(key)
        if not waits:
            get_run_logger().info("waiting for a backup, while which nothing is removed and no served version changes")
            waits = True
        time.sleep(POLL_INTERVAL_S * random.random())  # noqa: S311 - a backup may try in the same rhythm
        _RUNS.put(key, b"")
    try:
        yield
    finally:
        try:
            _RUNS.delete(key)
        except StorageError as error:  # a backup does not wait for a run that has ended
            get_run_logger().warning("the announcement of this change could not be removed: %s", error)


@contextmanager
def fence(is_at_work: Callable[[str], bool], wait_s: float) -> Iterator[Callable[[], None]]:
    """Keep every change out of the block, once those that are under way have ended.

    Yields a check that raises StorageError if the fence may have fallen meanwhile, because the store was away.

    Args:
        is_at_work: Whether a flow run, given by its id, is at work.
        wait_s: For how many seconds a change, or another backup, may go on.

    Raises:
        StorageError: One goes on, or the store does not answer.
    """
    backup = uuid4().hex.encode()
    try:
        _put_up(backup, is_at_work, time.monotonic() + wait_s)
        renewals = _Renewals(backup)
        renewals.renew()
        with run_periodically(renewals.try_to_renew, RENEW_INTERVAL_S, name="fence", last_s=RENEW_INTERVAL_S):
            yield renewals.require_unbroken
    finally:
        _take_down(backup)


class _Renewals:
    """When the fence was last renewed, by our clock that never jumps and by the store's, and what went wrong since."""

    def __init__(self, backup: bytes) -> None:
        self._backup = backup
        self._last = time.monotonic()
        self._longest = 0.0
        self._stored: float | None = None
        self._has_jumped = False
        self._has_fallen = False
        self._lock = threading.Lock()

    def renew(self) -> None:
        with self._lock:
            self._renew()

    def _renew(self) -> None:
        present = _RUNS_ONCE.get_tagged(FENCE)
        if present is None or present[0] != self._backup or not _RUNS_ONCE.replace(FENCE, self._backup, present[1]):
            self._has_fallen = True
            return
        now = time.monotonic()
        if found := _RUNS_ONCE.find(FENCE):
            stored = found.modified.timestamp()
            if self._stored is not None and abs(stored - self._stored - (now - self._last)) > JUMP_S:
                self._has_jumped = True
            self._stored = stored
        self._longest = max(self._longest, now - self._last)
        self._last = now

    def try_to_renew(self) -> None:
        with suppress(StorageError):  # the next renewal is the next attempt
            self.renew()

    def require_unbroken(self) -> None:
        self.try_to_renew()
        if self._has_jumped:
            raise StorageError(
                "Expected the clock of the object store to run evenly while a backup is taken, found that it jumped: "
                "what is new cannot be told from what is not. Take the backup again."
            )
        if max(self._longest, time.monotonic() - self._last) > TTL_S - RENEW_INTERVAL_S:
            raise StorageError(
                "Expected the object store to answer while a backup is taken, found it away for most of a minute: "
                "something may have changed meanwhile. Take the backup again."
            )
        if self._has_fallen:
            raise StorageError(
                f"Expected {_RUNS.uri(FENCE)} to be that of this backup until it ends, found it gone, or that of "
                "another: something may have changed meanwhile. Take the backup again."
            )


def _stands() -> bool:
    found = _RUNS.find(FENCE)
    return found is not None and found.age_s < TTL_S


def _put_up(backup: bytes, is_at_work: Callable[[str], bool], deadline: float) -> None:
    """Put up the fence at a moment at which nothing is under way."""
    while obstacle := _try_to_put_up(backup, is_at_work):
        if time.monotonic() >= deadline:
            raise StorageError(obstacle)
        time.sleep(POLL_INTERVAL_S)


def _try_to_put_up(backup: bytes, is_at_work: Callable[[str], bool]) -> str | None:
    """Return what is in the way, with what to do; None if the fence stands now."""
    found = _RUNS.find(FENCE)
    if (found and found.age_s < TTL_S) or not _RUNS.replace(FENCE, backup, found.etag if found else None):
        return (
            f"Expected no other backup of this stack to be under way, found the fence of one. Wait until it has ended, "
            f"or, if it was killed, for {TTL_S:.0f} s; then take the backup again."
        )
    holders = [key.removeprefix(CHANGES) for key in _RUNS.keys(CHANGES)]
    at_work = next(filter(is_at_work, holders), None)
    if at_work is None:
        return None
    _take_down(backup)
    return (
        f"Expected no rollout and no deletion at work, found flow run {at_work}. Wait for it, or cancel it in the "
        f"Prefect UI; then take the backup again. If Prefect does not know that run any more, remove "
        f"{_RUNS.uri(f'{CHANGES}{at_work}')}."
    )


def _take_down(backup: bytes) -> None:
    present = _RUNS.get_tagged(FENCE)
    if present and present[0] == backup:
        _RUNS.delete_content(FENCE, present[1])
