"""Videos that browsers play, with the sound of the video that the frames come from."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import cv2
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from tasks.media.audio_mux import has_audio, mux_audio
from tasks.media.errors import MediaError
from tasks.media.video_reader import error_reason
from tasks.vision.geometry import Rgb

_TICKS_PER_S = 90_000
_TICKS_PER_MS = 90
_ONLY_FRAME_TICKS = 40 * _TICKS_PER_MS
# Frames that wait for the encoder: enough to keep it busy, and never much memory.
_MAX_WAITING_FRAMES = 4
_MAX_WAITING_BYTES = 64 << 20
# Of 1080p street scenes, ultrafast takes 12 ms of processor time a frame, superfast 21 at half the bytes; the better
# motion search alone makes it 15 ms, a third fewer bytes, and the quality of superfast. B-frames reorder packets, and
# with uneven times the muxer then shortens the film by its last frames.
_X264 = {"preset": "ultrafast", "crf": "23", "bf": "0", "x264-params": "subme=1"}


class VideoWriter:
    """A context that encodes RGB frames with times as H.264 in MP4, in a thread of its own.

    The file gets its name once it is whole: a block that raises or writes no frame leaves none. The first frame sets
    the size; an odd side gets one more pixel, because yuv420p halves both, and frames of another size are resized.

    The sound of the video `audio` goes with it, from the first frame to the last. If it is damaged it is left out, and
    `sound_fault` says why.
    """

    def __init__(self, path: Path, audio: Path | None = None) -> None:
        self.path = path
        self.sound_fault: str | None = None
        self._audio = audio
        self._temporary = path.with_name(f".{path.name}.part")
        self._silent = path.with_name(f".{path.name}.silent.part")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="film")
        self._waiting: deque[Future[None]] = deque()
        self._encoder: _Encoder | None = None
        self._fault: MediaError | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, image: Rgb, timestamp_ms: float) -> None:
        """Append one uint8 [H, W, 3] RGB frame that is shown from `timestamp_ms`; times must rise.

        The frame is encoded later: do not change it any more. Waits while too many frames wait already.

        Raises:
            MediaError: H.264 cannot hold this frame, or one before it.
        """
        most = min(_MAX_WAITING_FRAMES, max(_MAX_WAITING_BYTES // max(image.nbytes, 1), 1))
        while self._waiting and (len(self._waiting) >= most or self._waiting[0].done()):
            self._waiting.popleft().result()
        if self._fault:
            raise self._fault
        self._waiting.append(self._thread.submit(self._append, image, timestamp_ms))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._discard()

    def _append(self, image: Rgb, timestamp_ms: float) -> None:
        if self._fault:
            return
        try:
            if self._encoder is None:
                self._encoder = self._open(image)
            self._encoder.append(image, timestamp_ms)
        except (av.FFmpegError, OSError, ValueError, cv2.error) as error:
            self._fault = MediaError(
                f"expected frames that H.264 can hold, found {image.shape[1]}x{image.shape[0]} at "
                f"{timestamp_ms:.0f} ms ({error_reason(error)}); convert the video, or set annotate to false"
            )
            self._fault.__cause__ = error
            raise self._fault from error

    def _open(self, image: Rgb) -> "_Encoder":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._audio is not None:
            try:
                self._audio = self._audio if has_audio(self._audio) else None
            except MediaError as error:
                self._audio = None
                self.sound_fault = str(error)
        height, width = image.shape[:2]
        # Sound is added to the finished video, so that no fault in it can reach the frames.
        path = self._temporary if self._audio is None else self._silent
        return _Encoder(path, width + width % 2, height + height % 2, faststart=self._audio is None)

    def _finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        if self._fault:
            raise self._fault
        if self._encoder is None:
            return
        try:
            seconds = self._encoder.finish()
            if self._audio is not None:
                self.sound_fault = mux_audio(self._silent, self._audio, seconds, self._temporary)
            self._temporary.replace(self.path)
        except (av.FFmpegError, OSError) as fault:
            raise MediaError(
                f"expected to finish the video {self.path.name}, found: {error_reason(fault)}; see whether the disk is "
                "full, then try again"
            ) from fault

    def _discard(self) -> None:
        if self._encoder is not None:
            with suppress(av.FFmpegError, OSError):
                self._encoder.close()
        self._temporary.unlink(missing_ok=True)
        self._silent.unlink(missing_ok=True)


class _Encoder:
    """RGB frames of any size to one H.264 track of `width` x `height` pixels."""

    def __init__(self, path: Path, width: int, height: int, *, faststart: bool) -> None:
        options = {"movflags": "+faststart"} if faststart else {}
        self._size = width, height
        self._last_tick = -1
        # Each packet waits for the next, which says how long it is shown.
        self._held: Packet[VideoStream] | None = None
        self._gap = _ONLY_FRAME_TICKS
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._stream = self._container.add_stream("libx264", rate=30, options=_X264)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, _TICKS_PER_S)
        # Without tags, a browser guesses the matrix by the height of the frame.
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU601
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709

    def append(self, image: Rgb, timestamp_ms: float) -> None:
        # OpenCV, which knows the matrix of BT.601 alone, takes 0.8 ms for a frame of 1080p; FFmpeg takes 5.
        planes = np.asarray(cv2.cvtColor(self._sized(image), cv2.COLOR_RGB2YUV_I420), np.uint8)
        frame = VideoFrame.from_ndarray(planes, format="yuv420p")
        # Times closer than a tick would make two frames one.
        self._last_tick = max(round(timestamp_ms * _TICKS_PER_MS), self._last_tick + 1)
        frame.pts = self._last_tick
        frame.time_base = Fraction(1, _TICKS_PER_S)
        self._encode(frame)

    def finish(self) -> float:
        """Write the frames that are left; return the seconds from time 0 to the end of the last frame."""
        self._encode(None)
        if self._held is not None:
            self._held.duration = self._gap
            self._container.mux(self._held)
        self._container.close()
        return (self._last_tick + self._gap) / _TICKS_PER_S

    def close(self) -> None:
        self._container.close()

    def _sized(self, image: Rgb) -> Rgb:
        height, width = image.shape[:2]
        right, below = self._size[0] - width, self._size[1] - height
        if (right, below) == (0, 0):
            return np.ascontiguousarray(image)
        if {right, below} <= {0, 1}:
            return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        return np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _encode(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            if self._held is not None:
                self._gap = (packet.pts or 0) - (self._held.pts or 0)
                self._held.duration = self._gap
                self._container.mux(self._held)
            self._held = packet
