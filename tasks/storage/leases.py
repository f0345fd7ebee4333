"""Leases: objects `runs/leases/MODEL/VERSION/FLOW RUN` with a time to live, renewed while a run uses the version.

Ages are by the store's clock. A run takes its lease before it checks that the version is served.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from tasks.orchestration.repetition import run_periodically
from tasks.orchestration.retries import ONCE
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

FOLDER = "leases"
LEASE_RENEW_INTERVAL_S = 20.0
LEASE_TTL_S = 90.0
LEASE_GC_S = 24 * 3600.0
_RUNS = ObjectStore(Bucket.RUNS)
_RUNS_ONCE = ObjectStore(Bucket.RUNS, ONCE)  # the next renewal is the next attempt


@contextmanager
def hold_lease(model_name: str, version: int, run: str) -> Iterator[None]:
    """Keep a version from being dropped while flow run `run` is in the block; a failed renewal is only logged."""
    key = f"{FOLDER}/{model_name}/{version}/{run}"
    log = get_run_logger()
    _RUNS.put(key, b"")

    def renew() -> None:
        try:
            _RUNS_ONCE.put(key, b"")
        except StorageError as error:
            log.warning("%s version %d may be dropped while this run uses it: %s", model_name, version, error)

    try:
        with run_periodically(renew, LEASE_RENEW_INTERVAL_S, name="lease", last_s=LEASE_RENEW_INTERVAL_S):
            yield
    finally:
        _release(key)


def _release(key: str) -> None:
    try:
        _RUNS_ONCE.delete(key)
    except StorageError as error:  # a lease that nobody renews expires
        get_run_logger().warning("the lease could not be let go of: %s", error)


def lease_holders(model_name: str) -> dict[int, list[str]]:
    """Return the flow runs that use a model, by version; the lease of one that died lasts LEASE_TTL_S more."""
    holders: dict[int, list[str]] = {}
    for lease in _RUNS.list(f"{FOLDER}/{model_name}/"):
        _, _, version, run = lease.key.split("/")
        if lease.age_s < LEASE_TTL_S:
            holders.setdefault(int(version), []).append(run)
        elif lease.age_s > LEASE_GC_S:
            _release(lease.key)
    return holders
