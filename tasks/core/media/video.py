"""Videos: files to upright RGB frames with their times."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tasks.core.geometry import Rgb
from tasks.core.media.errors import MediaError
from tasks.core.media.images import MAX_PIXELS

# Only containers that hold their own data: a playlist (HLS, concat, SDP) would make FFmpeg open what it names.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,m4v,ivf"
_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
_FALLBACK_RATE = 25.0
# Longer gaps are damage, and an MP4 cannot say them.
_LONGEST_GAP_MS = 6 * 3600 * 1000.0
_MOST_BOXES = 100_000


@dataclass
class _Faults:
    """Packets that did not decode: their number and what FFmpeg said about the first."""

    count: int = 0
    first: str = ""

    def add(self, error: av.FFmpegError) -> None:
        self.first = self.first or error.strerror or str(error)
        self.count += 1


@dataclass
class _Clock:
    """Times in ms since the first frame, strictly rising even where the stream's are missing or jump back."""

    step_ms: float
    start_s: float | None = None
    last_ms: float = field(default=-1.0)

    def tick(self, seconds: float | None) -> float:
        if self.start_s is None:
            self.start_s = seconds or 0.0
            self.last_ms = 0.0
            return 0.0
        now = self.last_ms + self.step_ms if seconds is None else (seconds - self.start_s) * 1000
        plausible = self.last_ms < now <= self.last_ms + _LONGEST_GAP_MS
        self.last_ms = now if plausible else self.last_ms + self.step_ms
        return self.last_ms


def read_frames(path: Path) -> Iterator[tuple[int, float, Rgb]]:
    """Yield (index from 0, ms since the first frame, upright uint8 [H, W, 3] RGB) for every frame that decodes.

    Times come from the stream, so a variable frame rate is kept. Damaged packets are skipped. Raise MediaError after
    the last good frame where packets were damaged or the file is cut off, and at once where it is no video at all.
    """
    faults = _Faults()
    index = -1
    with _opened(path) as container:
        stream = _video_stream(container)
        clock = _Clock(1000 / float(stream.average_rate or _FALLBACK_RATE))
        for index, frame in enumerate(_decoded(container, stream, faults)):
            yield index, clock.tick(frame.time), _upright(frame)
    _raise_if_broken(path, index + 1, faults)


def frame_count(path: Path) -> int:
    """Return about how many frames the video has, by its header; 1 where it says nothing or is none."""
    try:
        with _opened(path) as container:
            stream = _video_stream(container)
            seconds = float(container.duration or 0) / 1_000_000
            return max(stream.frames or round(seconds * float(stream.average_rate or _FALLBACK_RATE)), 1)
    except MediaError:
        return 1


def _opened(path: Path) -> InputContainer:
    try:
        return av.open(str(path.absolute()), "r", options=_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"expected a whole video (MP4, MOV, MKV, WebM, AVI, MPEG), found: {_reason(error)}; "
            "upload it again or convert it to MP4"
        ) from error


def _video_stream(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise MediaError("expected a file with a video track, found none; upload the video itself")
    stream = container.streams.video[0]
    if not 0 < stream.width * stream.height <= MAX_PIXELS:
        raise MediaError(
            f"expected frames of 1 to {MAX_PIXELS:,} pixels, found {stream.width}x{stream.height}; convert the video"
        )
    stream.thread_type = "AUTO"
    return stream


def _decoded(container: InputContainer, stream: VideoStream, faults: _Faults) -> Iterator[VideoFrame]:
    packets = container.demux(stream)
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            return
        except av.FFmpegError as error:
            faults.add(error)
            if faults.count > 1000:
                return
            continue
        for frame in frames:
            if isinstance(frame, VideoFrame):
                yield frame


def _upright(frame: VideoFrame) -> Rgb:
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    # Cameras rotate by quarter turns; FFmpeg counts them against the clock, as rot90 does.
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _raise_if_broken(path: Path, frames: int, faults: _Faults) -> None:
    missing = mp4_bytes_missing(path)
    if missing:
        raise MediaError(
            f"expected the whole video, found it cut off after {frames} readable frames ({missing:,} bytes are "
            "missing); the frames before are kept, upload the whole file for the rest"
        )
    if faults.count:
        raise MediaError(
            f"expected a whole video, found {faults.count} damaged packets beside {frames} readable frames "
            f"({faults.first}); the readable frames are kept, upload the file again for the rest"
        )
    if not frames:
        raise MediaError("expected a video with frames, found none that decodes; upload it again")


def mp4_bytes_missing(path: Path) -> int:
    """Return how many bytes the last box of an MP4 or MOV lacks; 0 for a whole file and for other formats.

    FFmpeg ends such a file without an error, as if it had been all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(12)[4:8] != b"ftyp":
            return 0
        end = 0
        for _ in range(_MOST_BOXES):
            file.seek(end)
            length = _box_length(file, size - end)
            if length < 8:
                return 0
            end += length
            if end >= size:
                return end - size
    return 0


def _box_length(file: BinaryIO, rest: int) -> int:
    head = file.read(16)
    if len(head) < 8:
        return 0
    length = int(struct.unpack(">I", head[:4])[0])
    if length == 1 and len(head) == 16:
        return int(struct.unpack(">Q", head[8:])[0])
    return length or rest


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
