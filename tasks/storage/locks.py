"""Locks that outlive whoever holds them: an object names the flow run that holds one, and a dead one holds nothing.

A lock is a chain of objects `runs/locks/NAME/NUMBER`, of which the last counts. It is passed on by writing the next
one on condition that nobody has: of several that try, the store lets one succeed.
"""

import contextlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from prefect import get_run_logger, runtime

from tasks.errors import Superseded
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

POLL_INTERVAL_S = 1.0
FOLDER = "locks"
SERVING_WAIT_S = 600.0
_RUNS = ObjectStore(Bucket.RUNS, wait_s=0)
YIELD_S = 45.0  # a worker kills after 30 s what does not end when it is cancelled


def never_cancel(_holder: str) -> bool:
    """Have nobody end who is in the way."""
    return False


def serving_lock(
    model_name: str, holder: str, is_over: Callable[[str], bool], overtake: Callable[[str], bool] = never_cancel
) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """Hold the lock of those who change what is served of a model; see `lock`."""
    return lock(f"serving/{model_name}", holder, is_over, SERVING_WAIT_S, overtake)


def is_held(model_name: str, is_over: Callable[[str], bool]) -> bool:
    """Whether a flow run changes what is served of a model now."""
    newest = _newest(f"serving/{model_name}")
    holder = _holder(newest) if newest else None
    return holder is not None and not is_over(holder)


@contextlib.contextmanager
def lock(
    name: str,
    holder: str,
    is_over: Callable[[str], bool],
    wait_s: float,
    overtake: Callable[[str], bool] = never_cancel,
) -> Iterator[Callable[[], None]]:
    """Hold lock `name` in the block, as flow run `holder`; gives what raises Superseded where another holds it now.

    That happens to one that seemed dead, and is to be asked before what cannot be undone.

    Waits while another flow run holds it that `is_over` (told its id) says is alive; raises StorageError after
    `wait_s`. A holder that is tried again has the lock still. `overtake` is told once of each that is in the way: where
    it says that it has asked that one to end, the lock is taken from it after `YIELD_S`, ended or not.
    """
    key = _wait_for(name, holder, is_over, time.monotonic() + wait_s, overtake)
    try:
        yield lambda: _require_newest(name, key)
    finally:
        try:
            _RUNS.put(key, _body(holder, released=True))
        except StorageError as error:  # what the block did counts; a run that has ended holds nothing
            get_run_logger().warning("the lock of %s could not be let go of: %s", name, error)


def _wait_for(
    name: str, holder: str, is_over: Callable[[str], bool], deadline: float, overtake: Callable[[str], bool]
) -> str:
    told = False
    yields: dict[str, float] = {}  # who is in the way, and when the lock is taken from it
    while True:
        newest = _newest(name)
        other = _holder(newest) if newest else None
        free = other is None or other == holder or is_over(other)
        if other is not None and not free:
            if other not in yields:
                yields[other] = time.monotonic() + YIELD_S if overtake(other) else math.inf
            free = time.monotonic() >= yields[other]
        if free and (taken := _take(name, newest, holder)):
            return taken
        if time.monotonic() >= deadline:
            raise StorageError(
                f"Expected nothing else at work on {name}, found flow run {other}, which has not ended. Wait for it, "
                f"or cancel it in the Prefect UI; then start this run again. If Prefect does not know that run any "
                f"more, remove s3://{Bucket.RUNS}/{newest}."
            )
        if other and not told:
            get_run_logger().info("waiting behind run '%s', which works on %s", _name_in(newest) or other, name)
            told = True
        time.sleep(POLL_INTERVAL_S * random.random())  # noqa: S311 - those who wait shall not all come at once


def _require_newest(name: str, key: str) -> None:
    if _newest(name) != key:
        raise Superseded(f"another flow run works on {name} now, this one ends")


def _newest(name: str) -> str | None:
    return max(_RUNS.keys(f"{FOLDER}/{name}/"), default=None)


def _holder(key: str) -> str | None:
    """Who holds the lock by this object; nobody, where it was released or has just been passed on."""
    said = _read(key)
    return None if said is None or said["released"] else str(said["holder"])


def _name_in(key: str | None) -> str | None:
    """The name of the holder that people see."""
    said = _read(key) if key else None
    return said["name"] if said else None


def _read(key: str) -> dict[str, Any] | None:
    body = _RUNS.get(key)
    return json.loads(body) if body else None


def _take(name: str, newest: str | None, holder: str) -> str | None:
    """Write the next object of the chain; None if another was faster."""
    number = int(newest.rpartition("/")[2]) + 1 if newest else 0
    key = f"{FOLDER}/{name}/{number:012d}"
    if not ObjectStore(Bucket.RUNS).put_if_absent(key, _body(holder, released=False)):
        return None
    keys = list(_RUNS.keys(f"{FOLDER}/{name}/"))
    # The chain may have grown by more than one since it was looked at, and its older objects been removed.
    if max(keys) != key:
        _RUNS.delete(key)
        return None
    _RUNS.delete(*(other for other in keys if other < key))
    return key


def _body(holder: str, *, released: bool) -> bytes:
    return json.dumps({"holder": holder, "name": runtime.flow_run.name, "released": released}).encode()
