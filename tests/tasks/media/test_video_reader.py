"""Videos in: whole, odd, broken and hostile."""

import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.media import video_reader
from tasks.media.errors import MediaError
from tests.tasks.media.samples import (
    exr,
    film,
    frames_until_error,
    in_own_process,
    packed,
    photo,
    png_bomb,
    read_frames,
    with_sound,
)

STEADY = [index * 40.0 for index in range(60)]


def test_frames_come_in_order_with_the_times_of_the_stream(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 210, 533, 600, 1000]
    frames = list(read_frames(film(tmp_path / "variable.mp4", times)))
    assert [index for index, _, _ in frames] == list(range(8))
    assert [time for _, time, _ in frames] == pytest.approx(times, abs=0.02)
    assert {image.shape for _, _, image in frames} == {(48, 64, 3)}
    assert frames[0][2][5, 5, 0] > 150


@given(
    st.lists(st.integers(1, 3000), max_size=40), st.integers(1, 50), st.sampled_from([".mp4", ".mkv", ".ts", ".flv"])
)
@settings(max_examples=20, deadline=None)
def test_every_nth_frame_comes_with_its_own_number_and_time(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], step: int, ending: str
) -> None:
    times = np.cumsum([0, *gaps]).tolist()
    path = film(tmp_path_factory.mktemp("steps") / f"a{ending}", times)
    found = [(index, time) for index, time, _ in read_frames(path, step)]
    assert [index for index, _ in found] == list(range(0, len(times), step))
    assert [time for _, time in found] == pytest.approx(times[::step], abs=0.6)


KINDS: dict[str, Any] = {
    "b-frames.avi": {},
    "ten-bit.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    "hdr.mkv": {
        "codec": "libx265",
        "pix_fmt": "yuv420p10le",
        "options": {"x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
    },
    "full-chroma.mkv": {"pix_fmt": "yuv444p"},
    "deep-chroma.mkv": {"codec": "ffv1", "pix_fmt": "yuv444p16le"},
    "odd.mkv": {"codec": "ffv1", "size": (63, 47)},
    "odd-chroma.mkv": {"codec": "ffv1", "size": (63, 47), "pix_fmt": "yuv444p"},
    "see-through.mkv": {"codec": "ffv1", "pix_fmt": "bgra"},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "interlaced.mp4": {"options": {"x264-params": "tff=1"}},
    "interlaced.mpg": {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme"}},
    "phone.3gp": {"codec": "mpeg4"},
    "web.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "camera.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "raw.h264": {},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_video_gives_all_frames_and_their_times(tmp_path: Path, name: str) -> None:
    frames = list(read_frames(film(tmp_path / name, STEADY[:20], **KINDS[name])))
    width, height = KINDS[name].get("size", (64, 48))
    # The muxer of MPEG itself lets frames slip, by up to two, and not always the same.
    slip = 80 if name.endswith(".mpg") else 0
    assert [time for _, time, _ in frames] == pytest.approx(STEADY[:20], abs=0.6 + slip)
    assert {image.shape for _, _, image in frames} == {(height, width, 3)}
    red, green, blue = frames[5][2][8, 8].astype(int)
    assert max(abs(green - 20), abs(blue - 20)) < 70 or name == "grey.mkv"
    assert red > 75


def test_the_header_tells_about_how_many_frames_there_are(tmp_path: Path) -> None:
    for ending in (".mp4", ".mkv", ".avi"):
        assert video_reader.count_frames(film(tmp_path / f"a{ending}", STEADY)) == pytest.approx(60, abs=1)
    assert video_reader.count_frames(tmp_path / "none.mp4") == 1


def test_frames_that_change_size_come_as_they_are(tmp_path: Path) -> None:
    small, large = (film(tmp_path / f"{size[0]}.h264", STEADY[:5], size) for size in ((64, 48), (128, 96)))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert [image.shape for _, _, image in read_frames(path)] == [(48, 64, 3)] * 5 + [(96, 128, 3)] * 5


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-5, 5)), (-90, (5, -5)), (180, (-5, -5))])
def test_rotation_is_applied(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    path = film(tmp_path / "phone.mp4", [0, 40], rotation=rotation)
    image = next(iter(read_frames(path)))[2]
    assert image.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    red, green, _ = image[corner].tolist()
    assert red > 150 > green


TURNS = {
    "mirrored": ((-1, 0, 0, 1), (5, -5)),
    "flipped": ((1, 0, 0, -1), (-5, 5)),
    "transposed": ((0, 1, 1, 0), (5, 5)),
    "transposed the other way": ((0, -1, -1, 0), (-5, -5)),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_mirrored_picture_is_turned_back(tmp_path: Path, name: str) -> None:
    (a, b, c, d), corner = TURNS[name]
    path = film(tmp_path / "selfie.mp4", [0, 40])
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, at, *(value << 16 for value in (a, b)), 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    image = next(iter(read_frames(path)))[2]
    assert image.shape == ((64, 48, 3) if b else (48, 64, 3))
    red, green, _ = image[corner].tolist()
    assert red > 150 > green


def test_all_frames_of_a_long_video_come(tmp_path: Path) -> None:
    path = film(tmp_path / "street.mp4", [index * 40 for index in range(250)], (160, 68))
    count, shape = 0, None
    for index, time_ms, image in read_frames(path):
        assert index == count
        assert time_ms == pytest.approx(count * 40)
        count, shape = count + 1, image.shape
    assert (count, shape) == (250, (68, 160, 3))


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_a_cut_off_video_gives_its_frames_and_then_an_error(tmp_path: Path, ending: str) -> None:
    whole = film(tmp_path / f"whole{ending}", STEADY)
    path = tmp_path / f"cut{ending}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    frames, error = frames_until_error(path)
    assert 5 < frames < 60
    assert f"cut off after {frames} readable frames" in error
    assert frames_until_error(whole) == (60, "no error")


@pytest.mark.parametrize(("ending", "damage"), [(".mp4", 9000), (".mkv", 60_000)])
def test_damage_in_the_middle_is_reported_behind_the_last_good_frame(tmp_path: Path, ending: str, damage: int) -> None:
    content = bytearray(film(tmp_path / f"whole{ending}", [index * 40 for index in range(300)]).read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + damage] = bytes(damage)
    path = tmp_path / f"damaged{ending}"
    path.write_bytes(content)
    frames, error = frames_until_error(path)
    assert 150 < frames < 300
    assert f"beside {frames} readable frames" in error


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\x18ftypisom" + bytes(12),
        b"junk" * 99,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile secret.mp4\n",
        b"v=0\nm=video 0 RTP/AVP 96\nc=IN IP4 127.0.0.1\n",
        b"<MPD><Period><BaseURL>secret.mp4</BaseURL></Period></MPD>",
    ],
)
def test_no_video_is_an_error_and_a_playlist_opens_nothing(tmp_path: Path, data: bytes) -> None:
    film(tmp_path / "secret.mp4", [0, 40])
    path = tmp_path / "list.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match="expected a whole video"):
        list(read_frames(path))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_no_damage_brings_the_reader_down(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    ending = data.draw(st.sampled_from([".mp4", ".mkv", ".avi", ".ts"]))
    whole = folder / f"fuzzed{ending}"
    content = bytearray((whole if whole.exists() else film(whole, STEADY[:10])).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, min(len(content) - 1, 2000)))] = data.draw(st.integers(0, 255))
    path = folder / f"broken{ending}"
    path.write_bytes(content)
    assert frames_until_error(path)[0] <= 10_000


def test_frames_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "wide.mp4", [0, 40])
    monkeypatch.setattr(video_reader, "MAX_PIXELS", 3000)
    with pytest.raises(MediaError, match="found 64x48"):
        list(read_frames(path))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(with_sound(tmp_path / "film.mp4", "aac"))) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(MediaError, match="found none; upload the video itself"):
        list(read_frames(path))


def test_missing_and_backward_times_still_rise() -> None:
    clock = video_reader._Clock(step_ms=40.0)
    assert [clock.tick(seconds) for seconds in (5.0, 5.04, None, 5.01, 9e15)] == pytest.approx([0, 40, 80, 120, 160])
    clock = video_reader._Clock(step_ms=40.0)
    assert [clock.tick(seconds) for seconds in (None, None, 7.0, 7.5)] == pytest.approx([0, 40, 80, 580])


def test_a_codec_that_few_use_is_refused_before_a_frame_is_decoded(tmp_path: Path) -> None:
    path = packed(tmp_path / "floats.mov", "exr", [exr()] * 3)
    code = """if True:
        import sys
        from pathlib import Path
        from tasks.media.errors import MediaError
        from tests.tasks.media.samples import read_frames
        try:
            list(read_frames(Path(sys.argv[1])))
        except MediaError as error:
            print(error)
    """
    assert "another usual codec, found codec exr; convert it to H.264" in in_own_process(code, path)


@pytest.mark.parametrize("pix_fmt", ["yaf32le", "yaf32be", "gray32le"])
def test_pixels_that_cannot_be_converted_are_an_error(pix_fmt: str) -> None:
    code = """if True:
        import av, sys
        from tasks.media.errors import MediaError
        from tasks.media.video_reader import to_upright_rgb
        try:
            to_upright_rgb(av.VideoFrame(16, 16, sys.argv[1]))
        except MediaError as error:
            print(error)
    """
    assert f"found pixels of format {pix_fmt}" in in_own_process(code, pix_fmt)


@pytest.mark.parametrize(("side", "allowed"), [(12_000, ""), (13_000, ",png")])
def test_a_frame_that_claims_to_be_huge_costs_little(tmp_path: Path, side: int, allowed: str) -> None:
    path = packed(tmp_path / "bomb.avi", "png", [png_bomb(side, side)] * 2)
    code = """if True:
        import re, sys
        from pathlib import Path
        from tasks.media import video_reader
        from tasks.media.errors import MediaError
        from tests.tasks.media.samples import read_frames
        video_reader._OPTIONS["codec_whitelist"] += sys.argv[2]
        status = Path("/proc/self/status")
        peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1])
        before = peak()
        try:
            list(read_frames(Path(sys.argv[1])))
        except MediaError as error:
            print(peak() - before, error)
    """
    grown, error = in_own_process(code, path, allowed).split(" ", 1)
    assert "found codec png" in error
    assert int(grown) < 100_000


@pytest.mark.parametrize("digits", [7, 400, 5000])
def test_a_length_of_many_digits_is_no_promise(tmp_path: Path, digits: int) -> None:
    path = tmp_path / "long.ogg"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["DURATION"] = "9" * digits + ":00:00.0"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(photo(64, 48), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert frames_until_error(path) == (5, "no error")


USUAL = {
    "libsvtav1": "yuv420p",
    "libvpx": "yuv420p",
    "prores_ks": "yuv422p10le",
    "mjpeg": "yuvj420p",
    "msmpeg4": "yuv420p",
    "qtrle": "rgb24",
    "rawvideo": "yuv420p",
}


@pytest.mark.parametrize("codec", USUAL)
def test_the_usual_codecs_pass(tmp_path: Path, codec: str) -> None:
    path = film(
        tmp_path / "a.mov" if codec == "qtrle" else tmp_path / "a.mkv", STEADY[:4], codec=codec, pix_fmt=USUAL[codec]
    )
    assert frames_until_error(path) == (4, "no error")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
