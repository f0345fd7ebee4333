"""Who does which chunk: each run its own share, and the run that shares its work what nobody else is at."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.inference import shares
from tasks.inference.shares import FixedShare, Share, UnattendedShares
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.inference.work_queue import WorkQueue, create_queue
from tasks.media.file_type import MediaKind

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "POLL_INTERVAL_S", 0.05)


def some_chunks(count: int) -> Iterator[Chunk]:
    for number in range(count):
        name = f"{number}.jpg"
        source = MediaSource(
            name=f"s3://media/{name}", bucket="media", key=name, etag='"1"', size=10, kind=MediaKind.IMAGE
        )
        yield Chunk(number, (source,))


def new_queue(count: int) -> WorkQueue:
    return create_queue(str(uuid4()), some_chunks(count), {})


def commit(queue: WorkQueue, number: int, folder: Path) -> bool:
    path = folder / uuid4().hex
    path.write_bytes(b"result")
    return queue.commit(number, path)


def work(queue: WorkQueue, share: Share, folder: Path) -> list[int]:
    """The chunks whose result counts, in the order in which they were done."""
    did = list[int]()
    while not share.is_done():
        did += [chunk.number for chunk in share.chunks() if commit(queue, chunk.number, folder)]
    return did


def never() -> bool:
    return False


def test_a_share_is_every_nth_chunk(tmp_path: Path) -> None:
    queue = new_queue(8)
    assert work(queue, FixedShare(queue, 1, 3), tmp_path) == [1, 4, 7]
    assert work(queue, FixedShare(queue, 0, 3), tmp_path) == [0, 3, 6]
    assert not queue.is_over()
    assert work(queue, FixedShare(queue), tmp_path) == [2, 5]
    assert queue.is_over()


def test_a_share_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 2, found 3"):
        FixedShare(new_queue(1), 3, 3)


def test_runs_that_never_begin_leave_everything_to_the_first(tmp_path: Path) -> None:
    queue = new_queue(7)
    assert work(queue, UnattendedShares(queue, [never, never]), tmp_path) == [6, 4, 2, 0, 5, 3, 1]


def test_shares_that_a_run_is_at_are_left_to_it(tmp_path: Path) -> None:
    """Share 1 of 2 is at work until it has done all but one chunk and dies; only then that chunk is taken."""
    queue = new_queue(6)
    at_work = True
    other = FixedShare(queue, 1, 2)
    coordinator = UnattendedShares(queue, [never, lambda: at_work])
    assert [chunk.number for chunk in coordinator.chunks() if commit(queue, chunk.number, tmp_path)] == [4, 2, 0]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(work, queue, coordinator, tmp_path)
        for chunk in list(other.chunks())[:2]:
            commit(queue, chunk.number, tmp_path)
        assert not waiting.done()
        at_work = False
        assert waiting.result(timeout=10) == [5]


def test_the_first_stops_taking_from_a_share_whose_run_begins(tmp_path: Path) -> None:
    queue = new_queue(10)
    begun = False
    coordinator = UnattendedShares(queue, [lambda: begun])
    did = list[int]()
    for chunk in coordinator.chunks():
        did.append(chunk.number)
        commit(queue, chunk.number, tmp_path)
        begun = len(did) == 2
    assert did == [9, 8]


def test_chunks_that_two_do_count_once(tmp_path: Path) -> None:
    """A run that seemed not at work, and the first that does its share meanwhile."""
    queue = new_queue(40)
    both: list[Callable[[], Share]] = [lambda: FixedShare(queue), lambda: UnattendedShares(queue, [never])]
    with ThreadPoolExecutor(2) as pool:
        did = list(pool.map(lambda share: work(WorkQueue(queue.run, queue.plan), share(), tmp_path), both))
    assert sorted(number for numbers in did for number in numbers) == list(range(40))


def test_who_comes_when_the_run_is_over_finds_nothing(tmp_path: Path) -> None:
    queue = new_queue(3)
    late = FixedShare(WorkQueue(queue.run, queue.plan), 0, 3)
    waiting = UnattendedShares(WorkQueue(queue.run, queue.plan), [never])
    work(queue, FixedShare(queue), tmp_path)
    queue.finish()
    assert (late.is_done(), waiting.is_done()) == (True, True)
    assert list(late.chunks()) == list(waiting.chunks()) == []
