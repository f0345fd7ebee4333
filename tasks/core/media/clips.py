"""Writing a video that browsers play."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tasks.core.geometry import Rgb
from tasks.core.media.errors import MediaError

_TICKS_PER_S = 90_000
_TICKS_PER_MS = 90


class VideoWriter:
    """A context that turns RGB frames with times into H.264 in MP4.

    The file has its name only once it is whole: nothing is left behind when the block raises or wrote no frame. The
    first frame sets the size; an odd side gets one more pixel, because yuv420p halves both, and later frames of another
    size are resized.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.part")
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size = (0, 0)
        self._last_tick = -1

    def __enter__(self) -> Self:
        """Return the writer; the file is opened by the first frame."""
        return self

    def write(self, image: Rgb, timestamp_ms: float) -> None:
        """Append one uint8 [H, W, 3] RGB frame that is shown from `timestamp_ms`; times must rise.

        Raise MediaError for frames that H.264 cannot hold.
        """
        try:
            self._append(image, timestamp_ms)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(
                f"expected frames that H.264 can hold, found {image.shape[1]}x{image.shape[0]} at "
                f"{timestamp_ms:.0f} ms ({error}); convert the video, or set annotate to false"
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file and give it its name, or discard it where the block raised or wrote nothing."""
        if kind is not None or self._stream is None:
            self._discard()
            return
        try:
            self._encode(None)
            self._close()
        except av.FFmpegError as fault:
            self._discard()
            raise MediaError(f"expected to finish the video {self.path.name}, found: {fault}; try again") from fault
        self._temporary.replace(self.path)

    def _discard(self) -> None:
        with suppress(av.FFmpegError):
            self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()

    def _append(self, image: Rgb, timestamp_ms: float) -> None:
        if self._stream is None:
            self._open(image)
        frame = VideoFrame.from_ndarray(self._sized(image), format="rgb24")
        # Times closer than a tick would make two frames one.
        self._last_tick = max(round(timestamp_ms * _TICKS_PER_MS), self._last_tick + 1)
        frame.pts = self._last_tick
        frame.time_base = Fraction(1, _TICKS_PER_S)
        self._encode(frame)

    def _open(self, image: Rgb) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        height, width = image.shape[:2]
        self._size = width + width % 2, height + height % 2
        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "+faststart"})
        # B-frames reorder packets, and with uneven times the muxer then shortens the film by its last frames.
        options = {"preset": "veryfast", "crf": "23", "bf": "0"}
        self._stream = self._container.add_stream("libx264", rate=30, options=options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)

    def _sized(self, image: Rgb) -> Rgb:
        height, width = image.shape[:2]
        extra_width, extra_height = self._size[0] - width, self._size[1] - height
        if (extra_width, extra_height) == (0, 0):
            return np.ascontiguousarray(image)
        if {extra_width, extra_height} <= {0, 1}:
            padded = cv2.copyMakeBorder(image, 0, extra_height, 0, extra_width, cv2.BORDER_REPLICATE)
            return np.asarray(padded, np.uint8)
        return np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _encode(self, frame: VideoFrame | None) -> None:
        if self._stream is not None and self._container is not None:
            self._container.mux(self._stream.encode(frame))
