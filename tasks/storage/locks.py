"""Locks that outlive their holders: object `runs/locks/NAME/holder` names the flow run that holds one.

It is replaced on condition that nobody else has done so: of several that try, the store lets one succeed. A flow run
that has ended holds nothing.
"""

import contextlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from prefect import get_run_logger, runtime

from tasks.errors import Superseded
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, StorageError

POLL_INTERVAL_S = 1.0
FOLDER = "locks"
SERVING_WAIT_S = 600.0
YIELD_S = 45.0  # a worker kills a cancelled run that has not ended after 30 s
_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)
_RUNS_PATIENT = ObjectStore(Bucket.RUNS)  # for who takes a lock: a restart of the store costs no run


def never_cancel(_holder: str) -> bool:
    """Return False: no holder is cancelled."""
    return False


def serving_lock(
    model_name: str,
    holder: str,
    is_over: Callable[[str], bool],
    overtake: Callable[[str], bool] = never_cancel,
    wait_s: float = SERVING_WAIT_S,
) -> contextlib.AbstractContextManager[Callable[[], None]]:
    """Hold the lock of flow runs that change the served versions of a model; see `lock`."""
    return lock(f"serving/{model_name}", holder, is_over, wait_s, overtake)


def is_held(model_name: str, is_over: Callable[[str], bool]) -> bool:
    """Return whether a flow run is changing the served versions of a model."""
    holder, _ = _read(_key(f"serving/{model_name}"))
    return not holder.get("released", True) and not is_over(holder["holder"])


@contextlib.contextmanager
def lock(
    name: str,
    holder: str,
    is_over: Callable[[str], bool],
    wait_s: float,
    overtake: Callable[[str], bool] = never_cancel,
) -> Iterator[Callable[[], None]]:
    """Hold lock `name` in the block as flow run `holder`; yields a check that raises Superseded if another has it now.

    The check is for what cannot be undone: a holder that seems dead loses its lock.

    Waits up to `wait_s` for a flow run that is not over, then StorageError. A holder that is tried again still has the
    lock. `overtake` is called once with each holder in the way: if it returns True, because it has cancelled that run,
    the lock is taken after `YIELD_S`.
    """
    token = _wait_for(name, holder, is_over, time.monotonic() + wait_s, overtake)
    try:
        yield lambda: _require_own(name, token)
    finally:
        try:
            stored, etag = _read(_key(name))
            if stored.get("token") == token:
                _RUNS.replace(_key(name), _body(holder, token, released=True), etag)
        except StorageError as error:  # a run that has ended holds nothing
            get_run_logger().warning("the lock of %s could not be let go of: %s", name, error)


def _wait_for(
    name: str, holder: str, is_over: Callable[[str], bool], deadline: float, overtake: Callable[[str], bool]
) -> str:
    token = uuid4().hex  # of this process alone: another attempt of the same flow run has its own
    logged = False
    yields: dict[str, float] = {}  # when the lock is taken from each other holder
    while True:
        stored, etag = _read(_key(name), _RUNS_PATIENT)
        other = stored.get("holder", "")
        free = stored.get("released", True) or other == holder or is_over(other)
        if not free:
            if other not in yields:
                yields[other] = time.monotonic() + YIELD_S if overtake(other) else math.inf
            free = time.monotonic() >= yields[other]
        if free and _RUNS_PATIENT.replace(_key(name), _body(holder, token, released=False), etag):
            return token
        if not free and time.monotonic() >= deadline:
            raise StorageError(
                f"Expected nothing else at work on {name}, found flow run {other}, which has not ended. Wait for it, "
                f"or cancel it in the Prefect UI; then start this run again. If Prefect does not know that run any "
                f"more, remove {_RUNS.uri(_key(name))}."
            )
        if not free and not logged:
            get_run_logger().info("waiting behind run '%s', which works on %s", stored["name"] or other, name)
            logged = True
        time.sleep(POLL_INTERVAL_S * random.random())  # noqa: S311 - those who wait shall not all come at once


def _require_own(name: str, token: str) -> None:
    stored, _ = _read(_key(name))
    if stored.get("token") != token:
        raise Superseded(f"another flow run works on {name} now, this one ends")


def _key(name: str) -> str:
    return f"{FOLDER}/{name}/holder"


def _read(key: str, store: ObjectStore = _RUNS) -> tuple[dict[str, Any], str | None]:
    """The holder, empty if there was none yet, and the tag by which it can be replaced."""
    stored = store.get_tagged(key)
    return (json.loads(stored[0]), stored[1]) if stored else ({}, None)


def _body(holder: str, token: str, *, released: bool) -> bytes:
    return json.dumps({"holder": holder, "name": runtime.flow_run.name, "token": token, "released": released}).encode()
