"""Put files into the object store: `python -m infra.upload ARCHIVE... [--bucket datasets] [--prefix folder]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from infra.errors import StackError, plain_errors
from infra.services import s3_client
from infra.settings import StackSettings
from infra.stack import load_settings
from tasks.core.buckets import Bucket


def upload(settings: StackSettings, paths: Sequence[Path], bucket: str, prefix: str = "") -> list[str]:
    """Upload files under their own names; returns their keys. An object appears whole or not at all."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise StackError(f"Expected files to upload, found no file at {', '.join(missing)}.")
    if len({path.name for path in paths}) < len(paths):
        raise StackError(f"Expected files of different names, found {[path.name for path in paths]}: rename some.")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    s3, keys = s3_client(settings, read_timeout=120), [f"{prefix}{path.name}" for path in paths]
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        for path, key in zip(paths, keys, strict=True):
            bar = progress.add_task(key, total=path.stat().st_size)
            try:
                s3.upload_file(str(path), bucket, key, Callback=lambda sent, bar=bar: progress.advance(bar, sent))
            except (BotoCoreError, ClientError, S3UploadFailedError) as error:
                where = settings.environment["AWS_ENDPOINT_URL"]
                raise StackError(
                    f"{key} was not uploaded to {where}: {error} Start the stack with `make up`."
                ) from error
    return keys


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.upload", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument(
        "--bucket", default=Bucket.DATASETS, choices=[Bucket.DATASETS, Bucket.MEDIA, Bucket.BASE_MODELS]
    )
    parser.add_argument("--prefix", default="")
    arguments = parser.parse_args()
    with plain_errors():
        for key in upload(load_settings(), arguments.files, arguments.bucket, arguments.prefix):
            print(f"s3://{arguments.bucket}/{key}")


if __name__ == "__main__":
    main()
