"""Video files as upright RGB frames with their times."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tasks.media.errors import MediaError
from tasks.media.formats import AUDIO_CODECS, CONTAINERS, VIDEO_CODECS
from tasks.media.frame_skipping import PacketChoice, choose_packets
from tasks.media.images import MAX_PIXELS
from tasks.media.malloc import trim_heap
from tasks.media.truncation import count_missing_bytes
from tasks.vision.geometry import Rgb

# FFmpeg decodes the first frames already while it opens a file: the limits hold there, too.
_OPTIONS = {
    "format_whitelist": ",".join(CONTAINERS),
    "protocol_whitelist": "file",
    "codec_whitelist": ",".join(VIDEO_CODECS | AUDIO_CODECS),
    "max_pixels": str(MAX_PIXELS),
}
# swscale aborts the process if it has to convert these.
_ABORTING_PIXELS = frozenset({"yaf32le", "yaf32be"})
_FALLBACK_RATE = 25.0
# Longer gaps are damage, and an MP4 cannot say them.
_MAX_GAP_MS = 6 * 3600 * 1000.0
_MAX_ERRORS_IN_A_ROW = 1000
_MAX_SECONDS_LOST = 1.0
# About 100 frames of 1080p: often enough for memory, seldom enough for time.
_PIXELS_BETWEEN_TRIMS = 200_000_000


@dataclass(kw_only=True)
class DecodeErrors:
    """Packets that did not decode: their number, what FFmpeg said about the first, and how many came in a row."""

    count: int = 0
    first: str = ""
    in_a_row: int = 0

    def add(self, error: Exception) -> None:
        """Count an error."""
        self.first = self.first or error_reason(error)
        self.count += 1
        self.in_a_row += 1


@dataclass(kw_only=True)
class _Clock:
    """Times in ms since the first frame, strictly rising even if the stream's are missing or jump back."""

    step_ms: float
    start_s: float | None = None
    last_ms: float | None = None

    def tick(self, seconds: float | None) -> float:
        expected = 0.0 if self.last_ms is None else self.last_ms + self.step_ms
        if self.start_s is None and seconds is not None:
            self.start_s = seconds - expected / 1000
        now = expected if seconds is None or self.start_s is None else (seconds - self.start_s) * 1000
        if self.last_ms is not None and not self.last_ms < now <= self.last_ms + _MAX_GAP_MS:
            now = expected
        self.last_ms = now
        return now


class _UnexpectedFrame(Exception):  # noqa: N818 - nothing is wrong: all is decoded then
    """A decoder gives other frames than the packets promise."""


def decode_frames(path: Path, step: int = 1) -> Iterator[tuple[int, float, VideoFrame]]:
    """Yield (index from 0, ms since the first frame, decoded frame) of frames 0, `step`, 2 `step` ... of a video.

    Times are the stream's, also if the frame rate varies. Damaged packets are skipped; frames that nobody needs are not
    decoded where that changes nothing, so their damage is not seen. `to_upright_rgb` converts a frame, in any thread.

    Raises:
        MediaError: After the last good frame: packets are damaged, or the file is cut off. At once: it is no video.
    """
    done = -1
    choice = _choose(path, step)
    try:
        for index, timestamp_ms, frame in _every_nth(path, step, choice):
            done = index
            yield index, timestamp_ms, frame
    except _UnexpectedFrame:
        yield from (each for each in _every_nth(path, step) if each[0] > done)


def _every_nth(path: Path, step: int, choice: PacketChoice | None = None) -> Iterator[tuple[int, float, VideoFrame]]:
    faults = DecodeErrors()
    index = -1
    last = None
    with open_media(path) as container:
        stream = _video_stream(container)
        promised_s = _promised_seconds(stream)
        base = stream.time_base or Fraction(0)
        clock = _Clock(step_ms=1000 / float(stream.average_rate or _FALLBACK_RATE))
        pixels = 0
        frames = _chosen(container, stream, choice) if choice else enumerate(_decoded(container, stream, faults))
        before = -1
        for index, last in frames:
            for time in choice.times[before + 1 : index].tolist() if choice else ():
                clock.tick(float(time) * base.numerator / base.denominator)
            before = index
            timestamp_ms = clock.tick(_seconds(container, last))
            if index % step == 0:
                yield index, timestamp_ms, last
                pixels += last.width * last.height
                if pixels > _PIXELS_BETWEEN_TRIMS:
                    pixels = 0
                    trim_heap()
    if last and promised_s > _end_seconds(last) + _MAX_SECONDS_LOST:
        faults.add(ValueError(f"they end at {_end_seconds(last):.1f} of {promised_s:.1f} s"))
    _raise_if_broken(path, index + 1, faults)


def to_upright_rgb(frame: VideoFrame) -> Rgb:
    """Return the frame as uint8 [H, W, 3] RGB, turned and mirrored as its display matrix says.

    Raises:
        MediaError: Its pixels cannot be converted to RGB.
    """
    if frame.format.name in _ABORTING_PIXELS:
        raise MediaError(_not_rgb(frame, "which FFmpeg cannot convert"))
    try:
        # One thread: starting others costs more than the 1 ms that a 1080p frame takes.
        pixels = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(_not_rgb(frame, error_reason(error))) from error
    swapped, mirrored, flipped = _turns(frame)
    if swapped:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    if mirrored or flipped:
        pixels = np.asarray(cv2.flip(pixels, -1 if mirrored and flipped else int(mirrored)), np.uint8)
    return pixels


def count_upright_bytes(frame: VideoFrame) -> int:
    """Return the bytes that the frame holds and `to_upright_rgb` takes at its peak."""
    pixels = frame.width * frame.height
    return sum(plane.buffer_size for plane in frame.planes) + pixels * (9 if any(_turns(frame)) else 6)


def read_start_seconds(path: Path) -> float | None:
    """Return the time of the first frame that decodes, as the file counts; None if it has none."""
    with open_media(path) as container:
        stream = _video_stream(container)
        if not _is_avi(container):
            first = next(_decoded(container, stream, DecodeErrors()), None)
            return None if first is None else first.time
        packet = next(
            (packet for packet in iter_readable_packets(container, stream, DecodeErrors()) if packet.size), None
        )
        return None if packet is None or packet.dts is None else float(packet.dts * packet.time_base)


def count_frames(path: Path) -> int:
    """Return about how many frames the video has by its header; 1 if that says nothing or the file is no video."""
    try:
        with open_media(path) as container:
            stream = _video_stream(container)
            seconds = float(container.duration or 0) / 1_000_000
            return max(stream.frames or round(seconds * float(stream.average_rate or _FALLBACK_RATE)), 1)
    except MediaError:
        return 1


def open_media(path: Path) -> InputContainer:
    """Open a video file that may be hostile.

    Raises:
        MediaError: It is no video that FFmpeg reads.
    """
    try:
        return av.open(str(path.absolute()), "r", options=_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"expected a whole video (MP4, MOV, MKV, WebM, AVI, MPEG), found: {error_reason(error)}; "
            "upload it again or convert it to MP4"
        ) from error


def choose_stream(container: InputContainer, kind: Literal["video", "audio"]) -> Stream | None:
    """Return the track of that kind that a player would choose, if there is one."""
    try:
        return container.streams.best(kind)
    except LookupError:  # a track that FFmpeg found only in the first packets
        return next((stream for stream in container.streams if stream.type == kind), None)


def iter_readable_packets(
    container: InputContainer, stream: Stream, faults: DecodeErrors
) -> "Iterator[Packet[Stream]]":
    """Yield the packets of a stream, skipping damage; the last one is empty and flushes the decoder."""
    while faults.in_a_row <= _MAX_ERRORS_IN_A_ROW:
        try:
            for packet in container.demux(stream):
                yield packet
                if faults.in_a_row > _MAX_ERRORS_IN_A_ROW:
                    return
        except LookupError:  # a packet of a track that begins later: PyAV knows only those of the start
            faults.in_a_row += 1
        except av.FFmpegError as error:
            faults.add(error)
        else:
            return


def error_reason(error: Exception) -> str:
    """Return the text of an error of FFmpeg, without its number and its path."""
    return getattr(error, "strerror", None) or str(error)


def _video_stream(container: InputContainer) -> VideoStream:
    stream = choose_stream(container, "video")
    # The cover of a song is a video stream of one picture.
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise MediaError("expected a file with a video track, found none; upload the video itself")
    # The stubs promise a context; a codec that FFmpeg does not know has none.
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    if codec not in VIDEO_CODECS:
        raise MediaError(
            f"expected a video in H.264, H.265, VP9, AV1 or another usual codec, found codec {codec}; "
            "convert it to H.264 in MP4"
        )
    if not 0 < stream.width * stream.height <= MAX_PIXELS:
        raise MediaError(
            f"expected frames of 1 to {MAX_PIXELS:,} pixels, found {stream.width}x{stream.height}; convert the video"
        )
    # Frames may grow later on.
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_type = "AUTO"
    return stream


def _decoded(container: InputContainer, stream: VideoStream, faults: DecodeErrors) -> Iterator[VideoFrame]:
    for packet in iter_readable_packets(container, stream, faults):
        try:
            frames = packet.decode()
        except av.EOFError:  # it is flushed already
            continue
        except av.FFmpegError as error:
            faults.add(error)
            continue
        for frame in frames:
            if isinstance(frame, VideoFrame):
                faults.in_a_row = 0
                yield frame


def _choose(path: Path, step: int) -> PacketChoice | None:
    if step == 1:
        return None
    with open_media(path) as container:
        stream = _video_stream(container)
        if _is_avi(container) or count_missing_bytes(path):
            return None
        return choose_packets(container.demux(stream), stream, step)


def _chosen(container: InputContainer, stream: VideoStream, choice: PacketChoice) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the chosen packets; raise _UnexpectedFrame unless exactly their frames come."""
    expected = map(int, choice.frames)
    wanted = map(bool, choice.decoded)
    try:
        for packet in container.demux(stream):
            if packet.size and not next(wanted, True):
                continue
            for frame in packet.decode():
                index = next(expected, None)
                if index is None or frame.pts != choice.times[index] or frame.interlaced_frame:
                    raise _UnexpectedFrame
                yield index, frame
    except (av.FFmpegError, LookupError) as error:
        raise _UnexpectedFrame from error
    if next(expected, None) is not None:
        raise _UnexpectedFrame


def _not_rgb(frame: VideoFrame, why: str) -> str:
    found = f"pixels of format {frame.format.name} ({why})"
    return f"expected a frame that can be made RGB, found {found}; convert the video to H.264 in MP4"


def _promised_seconds(stream: VideoStream) -> float:
    """Return how long a track of Matroska says that it is: FFmpeg skips damage there without an error."""
    # Bounded, because the text may be anything: a number of hundreds of digits fits no float.
    match = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d\.\d{1,12})", stream.metadata.get("DURATION", ""))
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _end_seconds(frame: VideoFrame) -> float:
    return (frame.time or 0.0) + float(frame.duration * (frame.time_base or 0))


def _is_avi(container: InputContainer) -> bool:
    return container.format.name == "avi"


def _seconds(container: InputContainer, frame: VideoFrame) -> float | None:
    # AVI numbers its frames in the order of decoding, and what FFmpeg makes of that for B-frames goes to and fro.
    if not _is_avi(container):
        return frame.time
    return None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)


def _turns(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether rows and columns are swapped, and then whether left and right, and top and bottom, are."""
    sides = cast("SideDataContainer", frame.side_data)
    matrix = next((side for side in sides if side.type is Type.DISPLAYMATRIX), None)
    if matrix is None:
        return False, False, False
    # x' = a x + c y, y' = b x + d y; cameras turn by quarters only.
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    return (swapped, c < 0, b < 0) if swapped else (swapped, a < 0, d < 0)


def _raise_if_broken(path: Path, frames: int, faults: DecodeErrors) -> None:
    missing = count_missing_bytes(path)
    if missing:
        raise MediaError(
            f"expected the whole video, found it cut off after {frames} readable frames ({missing:,} bytes are "
            "missing); the frames before are kept, upload the whole file for the rest"
        )
    if faults.count:
        raise MediaError(
            f"expected a whole video, found damage in {faults.count} places beside {frames} readable frames "
            f"({faults.first}); the readable frames are kept, upload the file again for the rest"
        )
    if not frames:
        raise MediaError("expected a video with frames, found none that decodes; upload it again")
