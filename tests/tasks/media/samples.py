"""Small real files for the tests of this folder."""

import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.media.errors import MediaError
from tasks.media.video_reader import decode_frames, to_upright_rgb
from tasks.vision.geometry import Rgb
from tests.paths import ROOT


def photo(width: int = 60, height: int = 40) -> Rgb:
    """Return a picture whose upper left quarter is red, the rest dark."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[: height // 2, : width // 2] = (220, 20, 20)
    return image


def encoded(image: NDArray[Any], ending: str = ".png") -> bytes:
    return cv2.imencode(ending, image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def film(
    path: Path,
    times_ms: Sequence[float],
    size: tuple[int, int] = (64, 48),
    *,
    rotation: int = 0,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    moving: bool = False,
) -> Path:
    """Write a noisy video (H.264 with B-frames) with the given times, independent of the writer under test.

    Every frame is another one, or the noise of the first `moving` on, which codecs predict from other frames.
    """
    before = os.sched_getscheduler(0)
    faststart = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=faststart) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        # AVI and MPEG know nothing finer than a frame.
        base = Fraction(1, 25 if path.suffix in {".avi", ".mpg", ".3gp"} else 90_000)
        stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        for time_ms in times_ms:
            noise = np.roll(noise, 1, 1) if moving else rng.integers(0, 256, noise.shape, np.uint8)
            noise[: size[1] // 2, : size[0] // 2] = (220, 20, 20)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time_ms / 1000 / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    # SVT-AV1 gives root's calling thread the highest real-time priority, and with it all that the tests start later.
    os.sched_setscheduler(0, before, os.sched_param(0))
    return path


def with_sound(path: Path, codec: str, *, seconds: float = 3.0, starts_s: float = 0.0) -> Path:
    """Write 2 s of video, 25 frames/s, and a sound track that beeps for 0.2 s when the video is 1 s old.

    The sound is `seconds` long and begins `starts_s` after the first frame, or before it: a multiple of 0.04.
    """
    rate, first = 48_000, max(-starts_s, 0.0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(codec, rate=rate, layout="stereo", options={"strict": "experimental"})
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(photo(64, 48), format="rgb24")
            frame.pts, frame.time_base = index + round(first * 25), Fraction(1, 25)
            container.mux(stream.encode(frame))
        at = starts_s + np.arange(round(seconds * rate)) / rate
        beep = np.where((at >= 1) & (at < 1.2), 0.5 * np.sin(at * 2 * np.pi * 880), 0.0)
        samples = np.stack([beep, beep]).astype(np.float32)
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="stereo", rate=rate)
        for begin in range(0, samples.shape[1], 1024):
            piece = np.ascontiguousarray(samples[:, begin : begin + 1024])
            heard = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            heard.rate, heard.time_base = rate, Fraction(1, rate)
            heard.pts = begin + round((starts_s + first) * rate)
            for ready in resampler.resample(heard):
                container.mux(sound.encode(ready))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    return path


def beep_seconds(path: Path) -> tuple[float, float]:
    """Return when the beep begins and when the sound ends, counted from the first frame of the video."""
    with av.open(str(path)) as container:
        start = next(container.decode(video=0)).time or 0.0
    begins: list[float] = []
    end = 0.0
    with av.open(str(path)) as container:
        loud = av.AudioResampler(format="fltp", layout="mono")
        for frame in container.decode(audio=0):
            for ready in loud.resample(frame):
                samples = np.abs(ready.to_ndarray()[0])
                begins += [(frame.time or 0.0) - start + int(np.argmax(samples > 0.1)) / frame.rate] * bool(
                    samples.max() > 0.1
                )
            end = (frame.time or 0.0) - start + frame.samples / frame.rate
    return min(begins), end


def packed(path: Path, codec: str, packets: Sequence[bytes]) -> Path:
    """Write a video whose packets are these bytes, whatever they are."""
    with av.open(str(path), "w", options={"strict": "-2"}) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, stream.codec_context.codec.video_formats[0].name
        for index, data in enumerate(packets):
            packet: Any = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = index
            container.mux(packet)
    return path


def exr() -> bytes:
    """Return an EXR picture of 16 x 16 pixels with the channels A and Y, both float."""

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return f"{name}\0{kind}\0".encode() + struct.pack("<I", len(value)) + value

    channels = b"".join(name + struct.pack("<xIIII", 2, 0, 1, 1) for name in (b"A", b"Y")) + b"\0"
    window = struct.pack("<4i", 0, 0, 15, 15)
    head = struct.pack("<II", 20000630, 2) + b"".join(
        [
            attribute("channels", "chlist", channels),
            attribute("compression", "compression", b"\0"),
            attribute("dataWindow", "box2i", window),
            attribute("displayWindow", "box2i", window),
            attribute("lineOrder", "lineOrder", b"\0"),
            attribute("pixelAspectRatio", "float", struct.pack("<f", 1)),
            attribute("screenWindowCenter", "v2f", bytes(8)),
            attribute("screenWindowWidth", "float", struct.pack("<f", 1)),
            b"\0",
        ]
    )
    rows = [struct.pack("<iI32f", y, 128, *[0.5] * 32) for y in range(16)]
    offsets = [len(head) + 16 * 8 + y * len(rows[0]) for y in range(16)]
    return head + struct.pack("<16Q", *offsets) + b"".join(rows)


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG that claims to be this large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def in_own_process(code: str, *arguments: object) -> str:
    """Run code that may end its process; return what it printed, or fail with what it said."""
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"exit status {ran.returncode}: {ran.stderr[-2000:]}"
    return ran.stdout


def read_frames(path: Path, step: int = 1) -> Iterator[tuple[int, float, Rgb]]:
    """Yield (index, ms, upright RGB) of every `step`-th frame, decoded and converted as in a run."""
    for index, timestamp_ms, frame in decode_frames(path, step):
        yield index, timestamp_ms, to_upright_rgb(frame)


def frames_until_error(path: Path) -> tuple[int, str]:
    count = 0
    try:
        for index, _, _ in read_frames(path):
            count = index + 1
    except MediaError as error:
        return count, str(error)
    return count, "no error"


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path
