"""A backup beside a bare copy of the same objects by boto3: `python -m pytest -s tests/benchmarks/bench_backup.py`.

It starts a stack of its own. The bare copy lists each bucket and downloads its objects with as many threads as a backup
has, without hashes, versions and databases; what it wrote is read back from the page cache in both.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import boto3
import pytest

from infra.backup.objects import THREADS, list_buckets
from infra.backup.taking import take
from infra.stack_settings import StackSettings
from tests.benchmarks.results import Measure, record

pytestmark = pytest.mark.timeout(1200)
SMALL, SMALL_BYTES = 3000, 50_000
LARGE, LARGE_BYTES = 16, 64 << 20
ROUNDS = 3
MOST = 1.5  # times the bare copy, for the first backup


def fill() -> float:
    """Write the objects; returns their size in MB."""
    s3 = boto3.client("s3")
    with ThreadPoolExecutor(8) as pool:
        for number in range(LARGE):
            s3.put_object(Bucket="media", Key=f"large/{number}", Body=os.urandom(LARGE_BYTES))
        small = os.urandom(SMALL_BYTES)
        keys = (f"small/{number:05d}" for number in range(SMALL))
        list(pool.map(lambda key: s3.put_object(Bucket="media", Key=key, Body=key.encode() + small), keys))
    return (SMALL * SMALL_BYTES + LARGE * LARGE_BYTES) / 1e6


def bare_copy(folder: Path) -> None:
    s3 = boto3.client("s3")
    with ThreadPoolExecutor(THREADS) as pool:
        for bucket in list_buckets():
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            for key in keys:
                (folder / bucket / key).parent.mkdir(parents=True, exist_ok=True)
            list(pool.map(lambda key, bucket=bucket: s3.download_file(bucket, key, str(folder / bucket / key)), keys))


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def test_a_backup_beside_a_bare_copy(stack: StackSettings, tmp_path: Path) -> None:
    size = fill()
    said: list[str] = []
    bare, first, again = [], [], []
    for number in range(ROUNDS):
        folder = tmp_path / f"backups-{number}"
        bare.append(seconds(partial(bare_copy, tmp_path / f"bare-{number}")))
        first.append(seconds(partial(take, stack, folder, said.append)))
        again.append(seconds(partial(take, stack, folder, said.append)))
    print(*said, sep="\n")
    what = f"{size:,.0f} MB, {SMALL:,} objects of {SMALL_BYTES:,} bytes and {LARGE} of {LARGE_BYTES >> 20} MiB"
    for name, times, goal in (("first backup", first, MOST), ("second backup", again, None)):
        record(
            Measure(
                name=f"{name} of {what}",
                unit="s",
                better="less",
                ours=times,
                beside="bare copy",
                theirs=bare,
                goal=goal,
            )
        )
    assert min(first) < MOST * min(bare) + 5  # seconds: two of waiting, and the databases
