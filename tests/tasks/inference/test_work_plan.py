"""The plan of a run of inference: every source once, every chunk taken by one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.inference.work_plan import Chunk, MediaSource, order, split_into_chunks
from tasks.media.file_type import MediaKind

KINDS = st.sampled_from(
    [MediaKind.IMAGE, MediaKind.IMAGE, MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.ARCHIVE, MediaKind.UNKNOWN]
)
NAMES = st.text(min_size=1)
SOURCES = st.lists(
    st.builds(
        *(MediaSource, NAMES, NAMES, NAMES, NAMES, st.integers(0)),
        entry=st.none() | st.integers(0),
        kind=KINDS,
        fault=st.none() | NAMES,
        note=st.none() | NAMES,
    ),
    max_size=60,
)


@given(SOURCES, st.integers(1, 9))
def test_every_source_is_in_one_chunk_in_order(sources: list[MediaSource], most: int) -> None:
    planned = list(split_into_chunks(sources, most))
    assert [source for chunk in planned for source in chunk.sources] == sources
    assert [chunk.number for chunk in planned] == list(range(len(planned)))
    for chunk in planned:
        videos = [source.kind for source in chunk.sources].count(MediaKind.VIDEO)
        assert len(chunk.sources) == 1 if videos else 1 <= len(chunk.sources) <= most
    images = [chunk for chunk in planned if chunk.sources[0].kind is not MediaKind.VIDEO]
    full = [len(chunk.sources) == most for chunk in images]
    assert full.count(False) <= len(planned) - len(images) + 1, "only a video or the end closes a chunk that has room"


@given(SOURCES)
def test_lines_say_everything(sources: list[MediaSource]) -> None:
    for source in sources:
        assert "\n" not in source.to_line()
        assert MediaSource.from_line(source.to_line()) == source
    for chunk in split_into_chunks(sources):
        assert "\n" not in chunk.to_line()
        assert Chunk.from_line(chunk.to_line()) == chunk


@given(st.integers(0, 60), st.integers(1, 9))
def test_each_chunk_is_first_taken_by_one_and_reached_by_all(count: int, of: int) -> None:
    orders = [list(order(count, shard, of, lambda _: False)) for shard in range(of)]
    assert all(sorted(taken) == list(range(count)) for taken in orders)
    own = [taken[: len(range(shard, count, of))] for shard, taken in enumerate(orders)]
    assert sorted(number for taken in own for number in taken) == list(range(count))


@given(st.integers(0, 60), st.integers(1, 9), st.data())
def test_workers_of_any_speed_do_each_chunk_once(count: int, of: int, data: Any) -> None:
    """Whoever is drawn finishes a chunk and takes the next, which nobody has taken."""
    taken, done = list[int](), list[int]()
    workers = {shard: order(count, shard, of, lambda number: number in taken) for shard in range(of)}
    while workers:
        shard = data.draw(st.sampled_from(sorted(workers)))
        number = next(workers[shard], None)
        if number is None:
            del workers[shard]
        else:
            taken.append(number)
            done.append(number)
    assert sorted(done) == list(range(count))


def test_a_worker_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a shard from 0 to 1, found 2"):
        next(order(3, 2, 2, lambda _: False))
