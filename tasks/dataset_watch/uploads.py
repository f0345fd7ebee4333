"""The event that an archive is there, said by whoever first knows its digest."""

from pathlib import Path

from tasks.orchestration import events
from tasks.orchestration.retries import RetryPolicy
from tasks.orchestration.step import SERVICE_RESTART
from tasks.storage.object_names import Bucket, parse_s3_uri


def announce_upload(archive: str, digest: str, path: Path, patience: RetryPolicy = SERVICE_RESTART) -> None:
    """Emit `dataset.uploaded` for an archive in bucket `datasets`, once for its name and its bytes; never for others.

    Args:
        archive: Key in bucket `datasets`, or an `s3://` address.
        digest: SHA-256 of the archive, in hex.
        path: The archive on this disk.
        patience: How long to wait for a server that is away; then only the log says that the event is missing.
    """
    name = parse_s3_uri(archive, Bucket.DATASETS)
    if name.bucket != Bucket.DATASETS:
        return
    events.emit(
        events.DATASET_UPLOADED,
        events.dataset(digest, name.key),
        payload={"archive": name.key, "digest": digest, "size": path.stat().st_size},
        key=f"{digest} {name.key}",
        patience=patience,
    )
