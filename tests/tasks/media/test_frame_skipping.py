"""Every n-th frame of a video, without decoding those that nobody needs: the same as decoding all."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks.media import frame_skipping, video_reader
from tasks.media.errors import MediaError
from tasks.media.frame_skipping import PacketChoice
from tests.tasks.media.samples import film, read_frames

Frames = tuple[list[tuple[int, float, bytes]], str]


def every_nth(path: Path, step: int) -> Frames:
    """The frames 0, `step`, 2 `step` ... with index, time and pixels, and the error behind them."""
    return taken(path, step, 1)


def of_all(path: Path, step: int) -> Frames:
    """The same of a reader that decodes all."""
    return taken(path, 1, step)


def taken(path: Path, step: int, every: int) -> Frames:
    found = []
    try:
        for index, time_ms, image in read_frames(path, step):
            if index % every == 0:
                found.append((index, time_ms, image.tobytes()))
    except MediaError as error:
        return found, str(error)
    return found, "no error"


def x264(path: Path, gaps: Sequence[float], **options: int) -> Path:
    """A film by x264 with frames that far apart in ms, each of which is predicted from others."""
    params = ":".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
    times = np.cumsum([0, *gaps]).tolist()
    return film(path, times, options={"preset": "veryfast", "x264-params": params}, moving=True)


def choice(path: Path, step: int) -> PacketChoice | None:
    return video_reader._choose(path, step)


@given(
    gaps=st.lists(st.integers(1, 300), min_size=20, max_size=120),
    step=st.integers(2, 70),
    options=st.fixed_dictionaries(
        {"keyint": st.integers(1, 60), "bframes": st.integers(0, 5)},
        optional={
            "b_pyramid": st.integers(0, 2),
            "open_gop": st.just(1),
            "tff": st.just(1),
            "slices": st.integers(1, 3),
            "intra_refresh": st.just(1),
            "repeat_headers": st.just(1),
        },
    ),
    ending=st.sampled_from([".mp4", ".mov", ".mkv", ".ts", ".flv", ".avi"]),
    kept=st.sampled_from([1.0, 1.0, 0.9, 0.5]),
)
@settings(max_examples=25, deadline=None, phases=(Phase.generate,))
def test_the_frames_their_numbers_times_and_pixels_are_those_of_decoding_all(
    tmp_path_factory: pytest.TempPathFactory,
    gaps: list[int],
    step: int,
    options: dict[str, int],
    ending: str,
    kept: float,
) -> None:
    even = [40] * len(gaps)  # AVI knows nothing else
    path = x264(tmp_path_factory.mktemp("films") / f"a{ending}", even if ending == ".avi" else gaps, **options)
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * kept)])
    assert every_nth(path, step) == of_all(path, step)


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
def test_frames_that_no_other_needs_are_not_decoded(tmp_path: Path, ending: str) -> None:
    path = x264(tmp_path / f"a{ending}", [40] * 119, bframes=3, b_adapt=0, b_pyramid=0)
    found = choice(path, 12)
    assert found is not None
    # Behind the first 32, three of four frames are B-frames; one in twelve is wanted.
    assert found.decoded.sum() < 32 + 88 * 0.4
    assert every_nth(path, 12) == of_all(path, 12)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_groups_without_a_wanted_frame_are_not_decoded(tmp_path: Path, ending: str) -> None:
    path = x264(tmp_path / f"a{ending}", [40] * 199, keyint=10, bframes=0)
    found = choice(path, 50)
    assert found is not None
    # The four groups of the first 32 frames, and those of frames 50, 100, 150 and 199.
    assert found.decoded.sum() == 80
    assert every_nth(path, 50) == of_all(path, 50)


@pytest.mark.parametrize(
    ("ending", "options"),
    [(".avi", {"bframes": 3}), (".mp4", {"bframes": 0, "keyint": 250}), (".h264", {"bframes": 3})],
)
def test_all_is_decoded_where_nothing_can_be_left_out_for_sure(
    tmp_path: Path, ending: str, options: dict[str, int]
) -> None:
    path = x264(tmp_path / f"a{ending}", [40] * 79, **options)
    assert choice(path, 5) is None
    assert every_nth(path, 5) == of_all(path, 5)


def test_interlaced_frames_are_all_decoded_though_their_packets_look_as_others(tmp_path: Path) -> None:
    path = x264(tmp_path / "a.mp4", [40] * 119, bframes=3, tff=1)
    found = choice(path, 7)
    assert found is not None
    with av.open(str(path)) as container, pytest.raises(video_reader._UnexpectedFrame):
        list(video_reader._chosen(container, container.streams.video[0], found))
    assert every_nth(path, 7) == of_all(path, 7)


@pytest.mark.parametrize(("lost", "options"), [(49, {"bframes": 3, "b_adapt": 0}), (119, {"keyint": 6, "bframes": 0})])
def test_a_decoder_that_loses_a_frame_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, options: dict[str, int]
) -> None:
    path = x264(tmp_path / "a.mp4", [40] * 119, **options)
    whole, found = of_all(path, 7), choice(path, 7)
    assert found is not None
    with av.open(str(path)) as container:
        shown = [packet.pts for packet in container.demux(video=0) if packet.size]
    packet = shown.index(found.times[lost])
    decoded = found.decoded & (np.arange(len(shown)) != packet)
    monkeypatch.setattr(video_reader, "_choose", lambda *_: replace(found, decoded=decoded))
    assert every_nth(path, 7) == whole


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_damage_gives_frames_in_order_and_at_most_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    ending = data.draw(st.sampled_from([".mp4", ".mkv", ".ts"]))
    whole = folder / f"to-damage{ending}"
    content = bytearray((whole if whole.exists() else x264(whole, [40] * 59, bframes=3, keyint=20)).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"damaged{ending}"
    path.write_bytes(content)
    frames, _ = every_nth(path, 6)
    assert all(index % 6 == 0 for index, _, _ in frames)
    assert all(one[:2] < other[:2] and one[1] < other[1] for one, other in itertools.pairwise(frames))


def test_a_video_whose_every_frame_is_wanted_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = x264(tmp_path / "a.mp4", [40] * 39)
    opened: list[Path] = []
    original = video_reader.open_media

    def counted(path: Path) -> InputContainer:
        opened.append(path)
        return original(path)

    monkeypatch.setattr(video_reader, "open_media", counted)
    assert len(list(read_frames(path))) == 40
    assert opened == [path]


def test_a_file_of_more_packets_than_any_film_has_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = x264(tmp_path / "a.mp4", [40] * 119, bframes=3)
    assert choice(path, 7) is not None
    monkeypatch.setattr(frame_skipping, "_MAX_PACKETS", 100)
    assert choice(path, 7) is None
    assert every_nth(path, 7) == of_all(path, 7)


@pytest.mark.parametrize("unit", [b"\0\0\1", b"\0\0\0\0"])
def test_a_packet_of_millions_of_units_is_not_looked_through(unit: bytes) -> None:
    began = time.process_time()
    assert frame_skipping._traits(unit * 4_000_000, 0 if unit[2] else 4) == 0
    assert time.process_time() - began < 0.5
