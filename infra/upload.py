"""Files of this disk, put into the object store.

Unless they may replace others, nothing is written over, even if two people upload one name at the same moment; of two
files of more than 8 MiB SeaweedFS may then take both, and bucket `datasets` keeps both.
"""

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from infra.command_errors import StackError
from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import StackSettings
from tasks.files import sha256_of
from tasks.media.formats import IMAGE_ENDINGS, VIDEO_ENDINGS
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import is_missing, s3_errors, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BUCKETS = {
    **dict.fromkeys(IMAGE_ENDINGS | VIDEO_ENDINGS, Bucket.MEDIA),
    ".zip": Bucket.DATASETS,
    ".pt": Bucket.BASE_MODELS,
}


def bucket_of(paths: Sequence[Path]) -> Bucket:
    """Return where files of one kind belong, by the endings of their names.

    Zips go into `datasets`, images and videos into `media`, weights into `base-models`.

    Raises:
        StackError: One has another ending, or they belong into several buckets.
    """
    if unknown := [path.name for path in paths if path.suffix.lower() not in _BUCKETS]:
        raise StackError(
            f"Expected zips, images, videos or .pt files, found {', '.join(unknown)}. Say where they belong: --bucket "
            "media, or another one."
        )
    found = {path: _BUCKETS[path.suffix.lower()] for path in paths}
    bucket, *others = set(found.values())
    if others:
        places = ", ".join(f"{path.name} ({place})" for path, place in found.items())
        raise StackError(
            f"Expected files for one bucket, found {places}. Upload those of each by themselves, or add --bucket."
        )
    return bucket


def upload(
    settings: StackSettings, paths: Sequence[Path], bucket: str, prefix: str = "", *, replace: bool = False
) -> list[str]:
    """Upload files under their own names, into folder `prefix` if there is one; returns their keys.

    An object appears whole or not at all.

    Of each archive in bucket `datasets` event `dataset.uploaded` is emitted, if Prefect's server is there.

    Raises:
        StackError: A file is missing, or, without `replace`, the store has an object of that name.
        StorageError: The store does not answer, or refuses the files.
    """
    missing = [str(path) for path in paths if not (path.is_file() and os.access(path, os.R_OK))]
    if missing:
        raise StackError(f"Expected files to upload, found no file that you may read at {', '.join(missing)}.")
    if len({path.name for path in paths}) < len(paths):
        raise StackError(f"Expected files of different names, found {[path.name for path in paths]}: rename some.")
    s3 = s3_client(settings, Role.PERSON, read_timeout=120)
    if bucket == Bucket.DATASETS and (others := [path.name for path in paths if path.suffix.lower() != ".zip"]):
        raise StackError(
            f"Expected zips for bucket datasets, found {', '.join(others)}. Upload images and videos with --bucket "
            "media, or put labelled images into a zip."
        )
    folder = prefix.strip("/")
    keys = [f"{folder}/{path.name}" if folder else path.name for path in paths]
    if not replace:
        _write_only_what_is_new(s3)
        if known := [key for key in keys if _is_present(s3, bucket, key)]:
            raise StackError(_taken(bucket, known))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        for path, key in zip(paths, keys, strict=True):
            bar = progress.add_task(key, total=path.stat().st_size)
            _put(s3, path, bucket, key, functools.partial(progress.advance, bar))
    if bucket == Bucket.DATASETS:
        _announce(settings, dict(zip(keys, paths, strict=True)))
    return keys


def upload_weights(settings: StackSettings, path: Path, *, replace: bool = False) -> str:
    """Upload a .pt file to bucket `base-models`, unless it is there already; returns its key.

    Raises:
        StackError: It is no .pt file, or, without `replace`, the store has other bytes under that name.
        StorageError: The store does not answer, or refuses the file.
    """
    if path.suffix != ".pt":
        raise StackError(f"Expected weights (.pt), found {path.name}. Register the .pt file that a training wrote.")
    return upload_once(settings, path, Bucket.BASE_MODELS, replace=replace)


def upload_once(settings: StackSettings, path: Path, bucket: str, prefix: str = "", *, replace: bool = False) -> str:
    """Upload a file, unless the bucket has its bytes under its name already; returns its key.

    Raises:
        StackError: Without `replace`, the store has other bytes under that name.
        StorageError: The store does not answer, or refuses the file.
    """
    key = f"{prefix}/{path.name}" if prefix else path.name
    if not replace and _has_bytes(bucket, key, path):
        return key
    (key,) = upload(settings, [path], bucket, prefix, replace=replace)
    return key


def _has_bytes(bucket: str, key: str, path: Path) -> bool:
    """Whether an object has the bytes of a file."""
    store = ObjectStore(bucket)
    found = store.find(key)
    return bool(found and found.size == path.stat().st_size and store.sha256(key, found.etag) == sha256_of(path))


def _put(s3: "S3Client", path: Path, bucket: str, key: str, advance: Callable[[int], None]) -> None:
    with s3_errors(f"uploading {path}"), path.open("rb") as file:
        try:
            s3.upload_fileobj(file, bucket, key, Callback=advance)
        except ClientError as error:
            # 409: S3's answer to the slower of two conditional writes of one moment.
            if status_of(error) in {409, 412}:
                raise StackError(_taken(bucket, [key])) from error
            raise


def _announce(settings: StackSettings, uploaded: Mapping[str, Path]) -> None:
    """Emit the events; a server that is away hears of them when the archives are checked."""
    os.environ.update({name: text for name, text in settings.environment.items() if name.startswith("PREFECT_")})
    # Imported late: Prefect reads PREFECT_API_URL when it is imported.
    from tasks.dataset_watch.uploads import announce_upload
    from tasks.orchestration.retries import RetryPolicy

    for key, path in uploaded.items():
        announce_upload(key, sha256_of(path), path, RetryPolicy(attempts=1))


def _write_only_what_is_new(s3: "S3Client") -> None:
    """Have the store refuse to write over an object; boto3's `upload_fileobj` knows no argument for that."""
    for request in ("PutObject", "CompleteMultipartUpload"):
        s3.meta.events.register(
            f"before-parameter-build.s3.{request}", lambda params, **_: params.update(IfNoneMatch="*")
        )


def _is_present(s3: "S3Client", bucket: str, key: str) -> bool:
    with s3_errors(f"looking for s3://{bucket}/{key}"):
        try:
            s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if not is_missing(error):
                raise
            return False
    return True


def _taken(bucket: str, keys: Sequence[str]) -> str:
    kept = " Bucket datasets keeps what it held before." if bucket == Bucket.DATASETS else ""
    return (
        f"Expected new names in bucket {bucket}, found {', '.join(keys)} there already. Rename the file, or add "
        f"--replace (make upload: REPLACE=1) to put yours in its place.{kept}"
    )
