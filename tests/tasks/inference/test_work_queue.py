"""The work of a run in the real object store: planned once, done once, whoever dies when."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from prefect.logging import disable_run_logger

from infra.stack_settings import ROOT, StackSettings
from tasks.inference import work_queue
from tasks.inference.progress import ProgressReporter
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.inference.work_queue import WorkQueue, create_queue, open_queue
from tasks.media.file_type import MediaKind
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError
from tests.proxy import Proxy

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def run() -> str:
    return str(uuid4())


def some_chunks(count: int, name: str = "a") -> Iterator[Chunk]:
    for number in range(count):
        key = f"{name}/{number}.jpg"
        source = MediaSource(
            name=f"s3://media/{key}", bucket="media", key=key, etag='"1"', size=10, kind=MediaKind.IMAGE
        )
        yield Chunk(number, (source, source))


def keys(run: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{run}/").get("Contents", [])
    return [entry["Key"] for entry in found]


def part(folder: Path, body: bytes = b"part") -> Path:
    path = folder / uuid4().hex
    path.write_bytes(body)
    return path


def test_a_plan_is_what_was_planned_first(run: str) -> None:
    assert open_queue(run) is None
    planned = create_queue(run, some_chunks(250), {"model": "cells", "version": 3})
    again, opened = create_queue(run, some_chunks(3, "other"), {}), open_queue(run)
    assert opened is not None
    assert planned.plan == again.plan == opened.plan
    assert (opened.plan.chunks, opened.plan.pictures, opened.plan.size) == (250, 500, 5000)
    assert opened.plan.about == {"model": "cells", "version": 3}
    assert [opened.chunk(number) for number in range(249, -1, -1)] == list(some_chunks(250))[::-1]


def test_of_many_that_plan_at_once_one_counts(run: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: create_queue(run, some_chunks(120 + number, str(number)), {}), range(4)))
    assert len({queue.plan.identity for queue in found}) == 1
    (queue, *_) = found
    assert [queue.chunk(number) for number in range(queue.plan.chunks)] == list(
        some_chunks(queue.plan.chunks, str(queue.plan.chunks - 120))
    )


def test_only_an_invited_run_gets_its_share(run: str) -> None:
    queue, helper = create_queue(run, some_chunks(3), {}), str(uuid4())
    queue.invite(helper, 2)
    queue.require_invited(helper, 2)
    with pytest.raises(
        work_queue.InvitationError, match=f"Expected flow run {run} .* share 1, found that it started it for share 2"
    ):
        queue.require_invited(helper, 1)
    with pytest.raises(work_queue.InvitationError, match="started it for no share"):
        queue.require_invited(str(uuid4()), 1, timeout_s=0)
    other = create_queue(str(uuid4()), some_chunks(3), {})
    with pytest.raises(work_queue.InvitationError, match="started it for no share"):
        other.require_invited(helper, 2, timeout_s=0)
    for each in (queue, other):
        each.finish()
    queue.require_invited(str(uuid4()), 1)  # who comes when all is over is let in, and finds nothing to do
    assert keys(run) == []


def test_a_worker_may_come_before_its_invitation(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "POLL_INTERVAL_S", 0.05)
    queue, helper = create_queue(run, some_chunks(3), {}), str(uuid4())
    late = threading.Timer(0.3, queue.invite, (helper, 1))
    late.start()
    WorkQueue(run, queue.plan).require_invited(helper, 1)
    late.join()


DYING = """
import os, signal, sys
from tasks.inference.work_queue import create_queue
from tests.tasks.inference.test_work_queue import some_chunks
def chunks():
    yield from some_chunks(350, "dead")
    os.kill(os.getpid(), signal.SIGKILL)
create_queue(sys.argv[1], chunks(), {})
"""


def test_killed_while_planning_the_retry_plans_anew(run: str) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, run], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(keys(run)) == 3
    assert open_queue(run) is None
    queue = create_queue(run, some_chunks(120), {})
    assert [queue.chunk(number) for number in range(120)] == list(some_chunks(120))
    queue.finish()
    assert keys(run) == []


def test_of_eight_that_commit_at_once_one_is_first(run: str, tmp_path: Path) -> None:
    queue = create_queue(run, some_chunks(3), {})
    together = threading.Barrier(8)
    committed = []
    for number, size in enumerate((10, 300_000, 6_000_000)):

        def commit(worker: int, number: int = number, size: int = size) -> bool:
            own = WorkQueue(run, queue.plan)
            mine = part(tmp_path, bytes([worker]) * size)
            together.wait()
            return own.commit(number, mine)

        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(commit, range(8)))
        assert first.count(True) == 1
        committed.append(bytes([first.index(True)]) * size)
    assert queue.done() == {0, 1, 2}
    assert queue.is_over()
    assert [path.read_bytes() for path in queue.results(tmp_path)] == committed
    assert not list(tmp_path.glob("parts/*"))


def test_a_commit_whose_answer_is_lost_was_the_first(
    run: str, stack: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(stack.s3_port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    queue = create_queue(run, some_chunks(2), {})
    for number in range(2):
        proxy.lose_next_answer()
        assert queue.commit(number, part(tmp_path))
        assert not queue.commit(number, part(tmp_path))
    proxy.close()


def test_a_part_that_the_store_would_not_take_is_refused(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "MAX_RESULT_BYTES", 3)
    with pytest.raises(StorageError, match="at most 3 bytes, found 4 for chunk 0"):
        create_queue(run, some_chunks(1), {}).commit(0, part(tmp_path))


def test_the_progress_counts_chunks_and_the_one_that_is_begun(run: str, tmp_path: Path) -> None:
    queue = create_queue(run, some_chunks(4), {})
    shown = list[tuple[float, int]]()
    with disable_run_logger():
        progress = ProgressReporter(queue, lambda share, images: shown.append((share, images)))
    with progress:
        progress(0, 1, 2)
        progress.show()
        progress(0, 2, 2)
        queue.commit(0, part(tmp_path))
        progress(2, 1, 2)
        progress.show()
        for number in (1, 2, 3):
            queue.commit(number, part(tmp_path))
    assert shown == [(0.125, 1), (0.375, 3), (1.0, 3)]


def test_a_finish_that_dies_half_way_is_seen_and_gone_on_with(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = create_queue(run, some_chunks(120), {})
    queue.commit(0, part(tmp_path))

    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "delete", dying)
        with pytest.raises(KeyboardInterrupt):
            queue.finish()
    again = create_queue(run, some_chunks(1), {})
    assert again.plan.finished
    again.finish()
    again.finish()
    assert keys(run) == []


def test_who_comes_when_all_is_over_does_not_touch_the_next_plan(run: str, tmp_path: Path) -> None:
    late = create_queue(run, some_chunks(120), {})
    late.finish()
    assert late.commit(5, part(tmp_path))
    queue = create_queue(run, some_chunks(10), {})
    assert queue.done() == set()
    late.finish()
    assert [queue.chunk(number) for number in range(10)] == list(some_chunks(10))
    with pytest.raises(StorageError, match="found that the run is over"):
        late.chunk(0)
