"""Videos, whole and broken, in and out."""

from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from tasks.core.media import (
    MediaError,
    VideoWriter,
    read_frames,
    video,
)
from tests.core.media.samples import film, frames_until_error, photo

BIKES = Path(__file__).parents[4] / "shared" / "data" / "bikes.mp4"


def test_frames_come_in_order_with_the_times_of_the_stream(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 210, 533, 600, 1000]
    frames = list(read_frames(film(tmp_path / "variable.mp4", times)))
    assert [index for index, _, _ in frames] == list(range(8))
    assert [time for _, time, _ in frames] == pytest.approx(times, abs=0.02)
    assert {image.shape for _, _, image in frames} == {(48, 64, 3)}
    assert frames[0][2][5, 5, 0] > 150


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-5, 5)), (-90, (5, -5)), (180, (-5, -5))])
def test_rotation_is_applied(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    path = film(tmp_path / "phone.mp4", [0, 40], rotation=rotation)
    image = next(iter(read_frames(path)))[2]
    assert image.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    red, green, _ = image[corner].tolist()
    assert red > 150 > green


@pytest.mark.skipif(not BIKES.exists(), reason="shared/data/bikes.mp4 is not here")
def test_real_frames_all_come() -> None:
    count, shape = 0, None
    for index, time_ms, image in read_frames(BIKES):
        assert index == count
        assert time_ms == pytest.approx(count * 40)
        count, shape = count + 1, image.shape
    assert (count, shape) == (250, (272, 640, 3))
    assert video.frame_count(BIKES) == 250


def test_a_cut_off_video_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", [index * 40 for index in range(60)])
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    frames, error = frames_until_error(path)
    assert 5 < frames < 60
    assert f"cut off after {frames} readable frames" in error


def test_damage_in_the_middle_costs_few_frames_and_is_said(tmp_path: Path) -> None:
    whole = bytearray(film(tmp_path / "whole.mp4", [index * 40 for index in range(600)]).read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 9000] = np.random.default_rng(1).integers(0, 256, 9000, np.uint8).tobytes()
    path = tmp_path / "damaged.mp4"
    path.write_bytes(whole)
    frames, error = frames_until_error(path)
    assert frames > 400
    assert "damaged packets" in error


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\x18ftypisom" + bytes(12),
        b"junk" * 99,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile secret.mp4\n",
    ],
)
def test_no_video_is_an_error_and_a_playlist_opens_nothing(tmp_path: Path, data: bytes) -> None:
    film(tmp_path / "secret.mp4", [0, 40])
    path = tmp_path / "list.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match="expected a whole video"):
        list(read_frames(path))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="found none; upload the video itself"):
        list(read_frames(path))


def test_missing_and_backward_times_still_rise() -> None:
    clock = video._Clock(40.0)
    assert [clock.tick(seconds) for seconds in (5.0, 5.04, None, 5.01, 9e15)] == pytest.approx([0, 40, 80, 120, 160])


def test_a_written_video_keeps_times_and_plays_in_browsers(tmp_path: Path) -> None:
    path, times = tmp_path / "clips" / "out.mp4", [0.0, 40.0, 80.0, 333.3, 350.0, 1000.0]
    with VideoWriter(path) as writer:
        for time_ms in times:
            writer.write(photo(65, 47), time_ms)
    assert [time for _, time, _ in read_frames(path)] == pytest.approx(times, abs=0.02)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (66, 48)
        assert float((stream.duration or 0) * (stream.time_base or 0)) >= 1.0
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert list(path.parent.iterdir()) == [path]


def test_frames_of_another_size_and_equal_times_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path) as writer:
        for size in ((64, 48), (20, 90), (64, 48)):
            writer.write(photo(*size), 10.0)
    assert len(list(read_frames(path))) == 3


def test_an_unfinished_video_leaves_nothing(tmp_path: Path) -> None:
    with suppress(RuntimeError), VideoWriter(tmp_path / "out.mp4") as writer:
        writer.write(photo(), 0.0)
        raise RuntimeError
    with VideoWriter(tmp_path / "none.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []
