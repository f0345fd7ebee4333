"""The work of a run in the real object store: planned once, done once, whoever dies when."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from prefect.logging import disable_run_logger

from infra.stack_settings import ROOT, StackSettings
from tasks.inference import heartbeats, work_queue
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.inference.work_queue import Job, Telling, open_job, plan
from tasks.media.file_type import MediaKind
from tasks.storage import blobs
from tasks.storage.s3_client import StorageError
from tests.tasks.storage.proxy import Proxy

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def run() -> str:
    return str(uuid4())


def some_chunks(count: int, name: str = "a") -> Iterator[Chunk]:
    for number in range(count):
        source = MediaSource(
            f"s3://media/{name}/{number}.jpg", "media", f"{name}/{number}.jpg", '"1"', 10, None, MediaKind.IMAGE
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
    assert open_job(run) is None
    planned = plan(run, some_chunks(250), {"model": "cells", "version": 3})
    again, opened = plan(run, some_chunks(3, "other"), {}), open_job(run)
    assert opened is not None
    assert planned.plan == again.plan == opened.plan
    assert (opened.plan.chunks, opened.plan.pictures, opened.plan.size) == (250, 500, 5000)
    assert opened.plan.about == {"model": "cells", "version": 3}
    assert [opened.chunk(number) for number in range(249, -1, -1)] == list(some_chunks(250))[::-1]


def test_of_many_that_plan_at_once_one_counts(run: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: plan(run, some_chunks(120 + number, str(number)), {}), range(4)))
    assert len({job.plan.identity for job in found}) == 1
    (job, *_) = found
    assert [job.chunk(number) for number in range(job.plan.chunks)] == list(
        some_chunks(job.plan.chunks, str(job.plan.chunks - 120))
    )


def test_only_who_was_asked_for_a_share_gets_it(run: str) -> None:
    job, helper = plan(run, some_chunks(3), {}), str(uuid4())
    job.invite(helper, 2)
    job.require_invited(helper, 2)
    with pytest.raises(
        work_queue.InvitationError, match=f"Expected flow run {run} .* share 1, found that it asked for share 2"
    ):
        job.require_invited(helper, 1)
    with pytest.raises(work_queue.InvitationError, match="asked for no share"):
        job.require_invited(str(uuid4()), 1, patience_s=0)
    other = plan(str(uuid4()), some_chunks(3), {})
    with pytest.raises(work_queue.InvitationError, match="asked for no share"):
        other.require_invited(helper, 2, patience_s=0)
    for each in (job, other):
        each.finish()
    job.require_invited(str(uuid4()), 1)  # who comes when all is over is let in, and finds nothing to do
    assert keys(run) == []


def test_a_worker_may_come_before_its_invitation(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "IDLE_S", 0.05)
    job, helper = plan(run, some_chunks(3), {}), str(uuid4())
    late = threading.Timer(0.3, job.invite, (helper, 1))
    late.start()
    Job(run, job.plan).require_invited(helper, 1)
    late.join()


DYING = """
import os, signal, sys
from tasks.inference.work_queue import plan
from tests.tasks.inference.test_work_queue import some_chunks
def chunks():
    yield from some_chunks(350, "dead")
    os.kill(os.getpid(), signal.SIGKILL)
plan(sys.argv[1], chunks(), {})
"""


def test_killed_while_planning_the_retry_plans_anew(run: str) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, run], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(keys(run)) == 3
    assert open_job(run) is None
    job = plan(run, some_chunks(120), {})
    assert [job.chunk(number) for number in range(120)] == list(some_chunks(120))
    job.finish()
    assert keys(run) == []


def test_of_eight_that_commit_at_once_one_is_first(run: str, tmp_path: Path) -> None:
    job = plan(run, some_chunks(3), {})
    together = threading.Barrier(8)
    for number, size in enumerate((10, 300_000, 6_000_000)):

        def commit(worker: int, number: int = number, size: int = size) -> bool:
            own = Job(run, job.plan)
            mine = part(tmp_path, bytes([worker]) * size)
            together.wait()
            return own.commit(number, mine)

        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(commit, range(8)))
        assert first.count(True) == 1
        job.fetch_part(number, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == bytes([first.index(True)]) * size
        (tmp_path / "got").unlink()
    assert job.done() == {0, 1, 2}
    assert job.is_complete()
    assert [path.stat().st_size for path in job.parts(tmp_path)] == [10, 300_000, 6_000_000]
    assert not list(tmp_path.glob("parts/*"))


def test_a_commit_whose_answer_is_lost_was_the_first(
    run: str, stack: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(stack.s3_port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    job = plan(run, some_chunks(2), {})
    for number in range(2):
        proxy.lose_next_answer()
        assert job.commit(number, part(tmp_path))
        assert not job.commit(number, part(tmp_path))
    proxy.close()


def test_a_part_that_the_store_would_not_take_is_refused(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "MAX_PART_BYTES", 3)
    with pytest.raises(StorageError, match="at most 3 bytes, found 4 for chunk 0"):
        plan(run, some_chunks(1), {}).commit(0, part(tmp_path))


def worked(job: Job, shard: int, of: int, folder: Path) -> list[int]:
    """The chunks that a worker does, until all are done."""
    did = list[int]()
    while not job.is_over():
        did += [chunk.number for chunk in job.left(shard, of) if job.commit(chunk.number, part(folder))]
    return did


def test_workers_share_the_work(run: str, tmp_path: Path) -> None:
    identity = plan(run, some_chunks(40), {}).plan
    with ThreadPoolExecutor(4) as pool:
        did = list(pool.map(lambda shard: worked(Job(run, identity), shard, 4, tmp_path), range(4)))
    assert sorted(number for numbers in did for number in numbers) == list(range(40))


def test_nobody_steals_what_a_living_worker_is_at(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker 1 of 2 has begun chunk 1; worker 0 does all others, and that one only when worker 1 is dead."""
    job = plan(run, some_chunks(6), {})
    slow, quick = Job(run, job.plan), Job(run, job.plan)
    assert next(slow.round(1, 2)).number == 1
    for expected in ([0, 2, 4, 5, 3], []):
        numbers = []
        for chunk in quick.round(0, 2):
            quick.commit(chunk.number, part(tmp_path))
            numbers.append(chunk.number)
        assert numbers == expected
    slow.beat(1, 1, 17)
    (beat,) = (beat for beat in quick.beats() if beat.shard == 1)
    assert (beat.chunk, beat.pictures, set(beat.held), beat.alive) == (1, 17, {1}, True)
    assert beat.age_s < 5
    monkeypatch.setattr(heartbeats, "ALIVE_S", 0.0)
    assert [chunk.number for chunk in quick.round(0, 2)] == [1]


def test_who_waits_for_another_goes_on_when_that_one_is_done(run: str, tmp_path: Path) -> None:
    """And begins nothing when the run has got its results meanwhile."""
    job = plan(run, some_chunks(2), {})
    slow, quick, late = (Job(run, job.plan) for _ in range(3))
    assert next(slow.round(1, 2)).number == 1
    assert [chunk.number for chunk in quick.left(0, 2) if quick.commit(chunk.number, part(tmp_path))] == [0]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(lambda each=each: list(each.left(0, 3))) for each in (quick, late)]  # type: ignore[misc]
        time.sleep(0.5)
        assert not any(each.done() for each in waiting)
        slow.commit(1, part(tmp_path))
        job.finish()
        assert [each.result(timeout=10) for each in waiting] == [[], []]
    assert keys(run) == []


def told(job: Job, *, every: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Telling, list[tuple[float, int]]]:
    """What worker 0 says, and whom it is shown to."""
    monkeypatch.setattr(work_queue, "TOLD_EVERY_S", every)
    shown = list[tuple[float, int]]()
    with disable_run_logger():
        return Telling(job, 0, lambda share, pictures: shown.append((share, pictures))), shown


def test_how_far_a_run_is_is_told(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = plan(run, some_chunks(4), {})
    telling, shown = told(job, every=100, monkeypatch=monkeypatch)
    Job(run, job.plan).beat(1, 3, 1, 2)
    with telling:
        telling(0, 1, 2)
        telling.tell()
        telling(0, 2, 2)
        job.commit(0, part(tmp_path))
        telling(2, 1, 2)
        telling.tell()
        for number in (1, 2, 3):
            job.commit(number, part(tmp_path))
    assert shown == [(0.25, 1), (0.5, 3), (1.0, 3)]


def test_a_worker_that_waits_says_that_it_lives(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a long download, or a server that is away: nobody shall take its chunk."""
    job = plan(run, some_chunks(2), {})
    telling, shown = told(job, every=0.1, monkeypatch=monkeypatch)
    with telling:
        next(job.round(0, 2))
        telling(0, 1, 2)
        job.beat(0, 0, 0)
        time.sleep(1)
        (beat,) = job.beats()
    assert beat.pictures == 1
    assert len(shown) > 3


def test_a_finish_that_dies_half_way_is_seen_and_gone_on_with(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = plan(run, some_chunks(120), {})
    job.commit(0, part(tmp_path))
    job.beat(0, 1, 3)

    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(blobs, "remove", dying)
        with pytest.raises(KeyboardInterrupt):
            job.finish()
    again = plan(run, some_chunks(1), {})
    assert again.plan.finished
    again.finish()
    again.finish()
    assert keys(run) == []


def test_who_comes_when_all_is_over_does_not_touch_the_next_plan(run: str, tmp_path: Path) -> None:
    late = plan(run, some_chunks(120), {})
    late.finish()
    assert late.commit(5, part(tmp_path))
    job = plan(run, some_chunks(10), {})
    assert job.done() == set()
    late.finish()
    assert [job.chunk(number) for number in range(10)] == list(some_chunks(10))
    with pytest.raises(StorageError, match="found that the run is over"):
        late.chunk(0)
