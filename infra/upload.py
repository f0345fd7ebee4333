"""Files of this disk, put into the object store.

Unless they may replace others, nothing is written over, even if two people upload one name at the same moment; of two
files of more than 8 MiB SeaweedFS may then take both, and bucket `datasets` keeps both.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from infra.command_errors import StackError
from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import StackSettings
from tasks.files import sha256_of
from tasks.storage.object_names import Bucket
from tasks.storage.s3_client import is_missing, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def upload(
    settings: StackSettings, paths: Sequence[Path], bucket: str, prefix: str = "", *, replace: bool = False
) -> list[str]:
    """Upload files under their own names; returns their keys. An object appears whole or not at all.

    Of each archive in bucket `datasets` event `dataset.uploaded` is emitted, if Prefect's server is there.

    Raises:
        StackError: A file is missing, the store does not answer, or, without `replace`, has an object of that name.
    """
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise StackError(f"Expected files to upload, found no file at {', '.join(missing)}.")
    if len({path.name for path in paths}) < len(paths):
        raise StackError(f"Expected files of different names, found {[path.name for path in paths]}: rename some.")
    s3 = s3_client(settings, Role.PERSON, read_timeout=120)
    keys = [f"{prefix}{path.name}" for path in paths]
    if not replace:
        _write_only_what_is_new(s3)
        if known := [key for key in keys if _is_present(settings, s3, bucket, key)]:
            raise StackError(_taken(bucket, known))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        for path, key in zip(paths, keys, strict=True):
            bar = progress.add_task(key, total=path.stat().st_size)
            try:
                with path.open("rb") as file:
                    s3.upload_fileobj(file, bucket, key, Callback=lambda sent, bar=bar: progress.advance(bar, sent))
            except (BotoCoreError, ClientError) as error:
                # 409: S3's answer to the slower of two conditional writes of one moment.
                if isinstance(error, ClientError) and status_of(error) in {409, 412}:
                    raise StackError(_taken(bucket, [key])) from error
                raise StackError(_unreachable(settings, key, error)) from error
    if bucket == Bucket.DATASETS:
        _announce(settings, dict(zip(keys, paths, strict=True)))
    return keys


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


def _is_present(settings: StackSettings, s3: "S3Client", bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError) as error:
        if not (isinstance(error, ClientError) and is_missing(error)):
            raise StackError(_unreachable(settings, key, error)) from error
        return False
    return True


def _taken(bucket: str, keys: Sequence[str]) -> str:
    kept = " Bucket datasets keeps what it held before." if bucket == Bucket.DATASETS else ""
    return (
        f"Expected new names in bucket {bucket}, found {', '.join(keys)} there already. Rename the file, or add "
        f"REPLACE=1 (studio upload: --replace) to put yours in its place.{kept}"
    )


def _unreachable(settings: StackSettings, key: str, error: Exception) -> str:
    address = settings.environment["AWS_ENDPOINT_URL"]
    return f"{key} was not uploaded to {address}: {error} Start the stack with `make up`."
