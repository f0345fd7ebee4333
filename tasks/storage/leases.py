"""Which runs of inference use which version of a model: `runs/leases/MODEL/VERSION/FLOW RUN`, renewed while they live.

Ages are by the store's clock. A run takes its lease first and looks then whether the version is served: whoever drops a
version looks for leases over a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from tasks.orchestration.repetition import run_periodically
from tasks.storage import blobs
from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import StorageError, client, s3_errors

FOLDER = "leases"
LEASE_RENEW_INTERVAL_S = 20.0
LEASE_TTL_S = 90.0
LEASE_GC_S = 24 * 3600.0


@contextmanager
def hold_lease(model_name: str, version: int, run: str) -> Iterator[None]:
    """Keep version `version` from being dropped while flow run `run` is in the block.

    Raises StorageError where the store stays away at the beginning; later that is logged, and nothing else.
    """
    key, log = f"{FOLDER}/{model_name}/{version}/{run}", get_run_logger()
    blobs.put(Bucket.RUNS, key, b"")

    def renew() -> None:
        try:
            with s3_errors(f"writing s3://{Bucket.RUNS}/{key}"):
                client(attempts=1).put_object(Bucket=Bucket.RUNS, Key=key, Body=b"")
        except StorageError as error:
            log.warning("%s version %d may be dropped while this run uses it: %s", model_name, version, error)

    try:
        with run_periodically(renew, LEASE_RENEW_INTERVAL_S, name="lease", last_s=LEASE_RENEW_INTERVAL_S):
            yield
    finally:
        _let_go(key)


def _let_go(key: str) -> None:
    try:
        with s3_errors(f"removing s3://{Bucket.RUNS}/{key}"):
            client().delete_object(Bucket=Bucket.RUNS, Key=key)
    except StorageError as error:  # what the block did counts, and a lease that nobody renews holds nothing
        get_run_logger().warning("the lease could not be let go of: %s", error)


def lease_holders(model_name: str) -> dict[int, list[str]]:
    """Return the flow runs that use a version of a model now, by version; a run that died does for `LIFE_S` more."""
    found: dict[int, list[str]] = {}
    for page in blobs.list_pages(Bucket.RUNS, f"{FOLDER}/{model_name}/"):
        now = blobs.server_time(page)
        for entry in page.get("Contents", []):
            _, _, version, run = entry["Key"].split("/")
            age = (now - entry["LastModified"]).total_seconds()
            if age < LEASE_TTL_S:
                found.setdefault(int(version), []).append(run)
            elif age > LEASE_GC_S:
                _let_go(entry["Key"])
    return found
