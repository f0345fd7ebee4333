"""Videos out: as many frames as went in, their times and colours, and the sound of the source."""

import threading
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.media import video_writer
from tasks.media.errors import MediaError
from tasks.media.video_writer import VideoWriter
from tasks.vision.geometry import Rgb
from tests.tasks.media.samples import beep_seconds, film, photo, read_frames, with_sound


def packets(path: Path) -> list[tuple[float, float]]:
    """Return (ms, duration in ms) of each packet of video in the file, in order."""
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
        times = [((packet.pts or 0, packet.duration or 0), float(packet.time_base) * 1000) for packet in found]
        return [(pts * tick, duration * tick) for (pts, duration), tick in times]


def rewritten(source: Path, path: Path, step: int = 1) -> tuple[list[float], str | None]:
    """Write every `step`-th frame of a video and its sound; return the times and the fault of the sound."""
    times = []
    with VideoWriter(path, source) as writer, suppress(MediaError):
        for _, time_ms, image in read_frames(source, step):
            writer.write(image, time_ms)
            times.append(time_ms)
    return times, writer.sound_fault


@given(
    st.lists(st.floats(0.2, 20_000), max_size=30),
    st.tuples(st.integers(2, 200), st.integers(2, 200)),
)
@settings(max_examples=25, deadline=None)
def test_each_frame_that_goes_in_comes_out_at_its_time(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[float], size: tuple[int, int]
) -> None:
    path, times = tmp_path_factory.mktemp("clip") / "out.mp4", np.cumsum([0, *gaps]).tolist()
    rng = np.random.default_rng(0)
    with VideoWriter(path) as writer:
        for time_ms in times:
            writer.write(rng.integers(0, 256, (size[1], size[0], 3), np.uint8), time_ms)
    assert [time for time, _ in packets(path)] == pytest.approx(times, abs=1)
    assert [time for _, time, _ in read_frames(path)] == pytest.approx(times, abs=1)


@pytest.mark.parametrize(
    ("name", "times", "options"),
    [
        ("steady.mp4", [index * 1000 / 30 for index in range(70)], {}),
        ("variable.mkv", [0, 33, 50, 51, 700, 733, 9000], {}),
        ("phone.mp4", [0, 40, 80], {"rotation": 90}),
        ("odd.mkv", [0, 40, 80], {"size": (63, 47), "codec": "ffv1"}),
        ("one.mp4", [0], {}),
    ],
)
@pytest.mark.parametrize("step", [1, 3])
def test_a_film_of_a_film_has_its_frames_and_times(
    tmp_path: Path, name: str, times: list[float], options: dict[str, object], step: int
) -> None:
    written, fault = rewritten(film(tmp_path / name, times, **options), tmp_path / "out.mp4", step)  # type: ignore[arg-type]
    assert fault is None
    assert written == pytest.approx(times[::step], abs=0.6)
    assert [time for time, _ in packets(tmp_path / "out.mp4")] == pytest.approx(written, abs=1)
    assert len(list(read_frames(tmp_path / "out.mp4"))) == len(written)


def test_a_written_video_plays_in_browsers(tmp_path: Path) -> None:
    path, times = tmp_path / "clips" / "out.mp4", [0.0, 40.0, 80.0, 333.3, 350.0, 1000.0]
    with VideoWriter(path) as writer:
        for time_ms in times:
            writer.write(photo(65, 47), time_ms)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (66, 48)
        assert float((stream.duration or 0) * (stream.time_base or 0)) == pytest.approx(1.65)
    assert [length for _, length in packets(path)] == pytest.approx([40, 40, 253.3, 16.7, 650, 650], abs=0.1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert list(path.parent.iterdir()) == [path]


def seen_in_a_browser(frame: av.VideoFrame) -> Rgb:
    """Return the RGB [48, 64, 3] that the upper left of a yuv420p frame is by its tags and the equations of BT.601."""
    height, width = 48, 64
    luma, blue, red = (np.asarray(plane).reshape(-1, plane.line_size).astype(float) for plane in frame.planes)
    luma = (luma[:height, :width] - 16) / 219
    blue, red = (np.kron(c[: height // 2, : width // 2] - 128, np.ones((2, 2))) / 224 for c in (blue, red))
    green = luma - 0.344136 * blue - 0.714136 * red
    return np.clip(np.rint(np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], 2) * 255), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
def test_a_browser_shows_the_colours_that_went_in(tmp_path: Path, size: tuple[int, int]) -> None:
    colours = [
        *[(value, value, value) for value in (0, 16, 127, 235, 255)],
        *[
            (255, 0, 0),
            (0, 255, 0),
            (0, 0, 255),
            (255, 255, 0),
            (0, 255, 255),
            (255, 0, 255),
            (200, 60, 40),
            (30, 90, 160),
        ],
    ]
    path = tmp_path / "flat.mp4"
    with VideoWriter(path) as writer:
        for index, colour in enumerate(colours):
            writer.write(np.full((size[1], size[0], 3), colour, np.uint8), index * 40.0)
    with av.open(str(path)) as container:
        for frame, colour in zip(container.decode(video=0), colours, strict=True):
            assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (5, 1, 1, 1)
            assert np.abs(seen_in_a_browser(frame).astype(int) - colour).max() <= 3
    data = path.read_bytes()
    assert data[data.index(b"colr") + 4 :][:11] == b"nclx\0\1\0\1\0\5\0"


def test_frames_of_another_size_and_equal_times_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path) as writer:
        for size in ((64, 48), (20, 90), (64, 48)):
            writer.write(photo(*size), 10.0)
    assert len(list(read_frames(path))) == 3


def test_an_unfinished_video_leaves_nothing(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "source.mp4", "aac")
    with suppress(RuntimeError), VideoWriter(tmp_path / "out.mp4", source) as writer:
        for index in range(30):
            writer.write(photo(), index * 40.0)
        raise RuntimeError
    with VideoWriter(tmp_path / "none.mp4", source):
        pass
    assert list(tmp_path.iterdir()) == [source]
    assert "film_0" not in {thread.name for thread in threading.enumerate()}


def test_a_fault_of_the_encoder_comes_at_the_next_write_and_at_the_end(tmp_path: Path) -> None:
    def write() -> None:
        with VideoWriter(tmp_path / "out.mp4") as writer:
            writer.write(np.zeros((2, 40_000, 3), np.uint8), 0.0)

    with pytest.raises(MediaError, match="found 40000x2 at 0 ms"):
        write()

    with suppress(MediaError), VideoWriter(tmp_path / "out.mp4") as writer:
        for index in range(100):
            writer.write(np.zeros((2, 40_000, 3), np.uint8), index * 40.0)
    assert index < 10
    assert list(tmp_path.iterdir()) == []


def test_the_writer_is_ahead_of_the_encoder_by_few_frames_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, done = threading.Event(), []
    encode = video_writer._Encoder.append

    def slow(self: video_writer._Encoder, image: Rgb, timestamp_ms: float) -> None:
        gate.wait()
        done.append(timestamp_ms)
        encode(self, image, timestamp_ms)

    monkeypatch.setattr(video_writer._Encoder, "append", slow)
    with VideoWriter(tmp_path / "out.mp4") as writer:
        for index in range(4):
            writer.write(photo(), index * 40.0)
        assert done == []
        threading.Timer(0.1, gate.set).start()
        for index in range(4, 50):
            writer.write(photo(), index * 40.0)
            assert len(done) >= index - 4
    assert len(packets(tmp_path / "out.mp4")) == 50


SOUNDS = {
    "aac.mp4": "aac",
    "aac.ts": "aac",
    "mp3.mp4": "mp3",
    "opus.mkv": "opus",
    "flac.mkv": "flac",
}


@pytest.mark.parametrize("starts_s", [0.0, 0.48, -0.48])
@pytest.mark.parametrize("name", SOUNDS)
def test_the_sound_of_the_source_is_kept_where_it_was_and_as_long_as_the_film(
    tmp_path: Path, name: str, starts_s: float
) -> None:
    codec = Path(name).stem.replace("opus", "libopus")
    source, path = with_sound(tmp_path / name, codec, starts_s=starts_s), tmp_path / "out.mp4"
    times, fault = rewritten(source, path)
    assert fault is None
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name.removesuffix("float") == SOUNDS[name]
    begin, end = beep_seconds(path)
    assert begin == pytest.approx(beep_seconds(source)[0], abs=0.003)
    assert 1.9 <= end <= 2.0 + 0.03
    assert [time for time, _ in packets(path)] == pytest.approx(times, abs=1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert set(tmp_path.iterdir()) == {source, path}


def test_copied_sound_is_the_very_sound(tmp_path: Path) -> None:
    def sound(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    source = with_sound(tmp_path / "source.mp4", "aac", seconds=1.5)
    assert rewritten(source, tmp_path / "out.mp4", 5) == ([index * 200.0 for index in range(10)], None)
    assert sound(tmp_path / "out.mp4") == sound(source)


def test_damaged_sound_is_left_out_and_never_costs_a_frame(tmp_path: Path) -> None:
    source, out = with_sound(tmp_path / "source.mp4", "aac"), tmp_path / "out.mp4"
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.pos is not None]
    for at, size in places[:40:2]:
        content[at : at + size] = b"\xff" * size
    source.write_bytes(content)
    times, fault = rewritten(source, out)
    assert fault is not None
    assert "damaged packets" in fault
    assert len(packets(out)) == len(times) == 50
    for at, size in places:
        content[at : at + size] = b"\xff" * size
    source.write_bytes(content)
    times, fault = rewritten(source, out)
    assert fault is not None
    assert "the film is silent" in fault
    assert len(packets(out)) == len(times) == 50
    with av.open(str(out)) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("content", [b"", b"junk" * 99, None])
def test_a_source_of_sound_that_is_none_costs_nothing(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "source.mp4"
    if content is not None:
        source.write_bytes(content)
    with VideoWriter(tmp_path / "out.mp4", source) as writer:
        writer.write(photo(), 0.0)
    assert writer.sound_fault is not None
    assert packets(tmp_path / "out.mp4")[0] == pytest.approx((0, 40))


def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    whole, holed = with_sound(tmp_path / "whole.mkv", "aac"), tmp_path / "holed.mkv"
    with av.open(str(whole)) as source, av.open(str(holed), "w") as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.pts is None or (packet.stream.type == "audio" and 0.2 < packet.pts * packet.time_base < 0.8):
                continue
            packet.stream = copies[packet.stream.index]
            container.mux(packet)
    assert rewritten(holed, tmp_path / "out.mp4")[1] is None
    assert beep_seconds(tmp_path / "out.mp4")[0] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", ["pcm_s16le.mov", "ac3.mp4", "mp2.ts", "vorbis.mkv"])
def test_sound_that_browsers_do_not_play_is_left_out_and_named(tmp_path: Path, name: str) -> None:
    source, out = with_sound(tmp_path / name, Path(name).stem), tmp_path / "out.mp4"
    times, fault = rewritten(source, out)
    assert f"found: {Path(name).stem}" in (fault or "")
    assert "the film is silent, its frames are whole" in (fault or "")
    assert len(packets(out)) == len(times) == 50
    with av.open(str(out)) as container:
        assert not container.streams.audio
