"""The plan of a run of inference: every source is in one chunk."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.inference.work_plan import Chunk, MediaSource, split_into_chunks
from tasks.media.file_type import MediaKind

KINDS = st.sampled_from(
    [MediaKind.IMAGE, MediaKind.IMAGE, MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.ARCHIVE, MediaKind.UNKNOWN]
)
NAMES = st.text(min_size=1)
SOURCES = st.lists(
    st.builds(
        MediaSource,
        name=NAMES,
        bucket=NAMES,
        key=NAMES,
        etag=NAMES,
        size=st.integers(0),
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
    for chunk in split_into_chunks(sources):
        assert "\n" not in chunk.to_line()
        assert Chunk.from_line(chunk.to_line()) == chunk
