"""One input of a run, image by image or frame by frame."""

import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av

from tasks.inference.results.summary import Failure
from tasks.media.errors import MediaError
from tasks.media.file_type import HEAD_BYTES, MediaKind, sniff_kind
from tasks.media.images import decode_image, peak_decode_bytes, peak_decode_bytes_of, read_image
from tasks.media.video_reader import count_upright_bytes, decode_frames, error_reason, to_upright_rgb
from tasks.vision.detections import VideoPosition
from tasks.vision.geometry import Rgb

# What readers raise on bytes that no encoder writes.
_READER_ERRORS = (ArithmeticError, ValueError, LookupError, TypeError, struct.error, av.FFmpegError)


@dataclass(frozen=True, kw_only=True)
class MediaFrame:
    """One image, whose file or bytes are `data`, or one video frame, which has a `position`.

    `load()`, in any thread, returns the upright RGB array or raises MediaError; it takes `memory` bytes at its peak.
    """

    source: str
    load: Callable[[], Rgb]
    memory: int
    position: VideoPosition | None = None
    data: bytes | Path | None = None


def iter_frames(name: str, data: bytes | Path, step: int, folder: Path) -> Iterator[MediaFrame | Failure]:
    """Yield the image, or every `step`-th frame, of an input that the user calls `name`; `data` is its bytes or file.

    Frames come lazily, decoded but not yet converted; damage in a video is a failure behind its last frame. The bytes
    of a video lie in `folder` meanwhile. Never raises for what the input holds: other files give one failure.
    """
    try:
        kind = sniff_kind(name, _head(data))
        if kind is MediaKind.IMAGE:
            yield _image(name, data)
        elif kind is MediaKind.VIDEO:
            yield from _frames(name, data, step, folder)
        else:
            yield Failure(
                source=name, reason=f"expected an image or a video, found {_image_failure(kind, _head(data))}"
            )
    except MediaError as error:
        yield Failure(source=name, reason=str(error))
    except OSError as error:
        yield Failure(source=name, reason=f"expected a readable file, found {error.strerror or error}; upload it again")
    except _READER_ERRORS as error:
        yield Failure(
            source=name,
            reason="expected a whole image or video, found values in it that no encoder writes "
            f"({error_reason(error)}); save it again as JPEG, PNG or MP4",
        )


def _head(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data[:HEAD_BYTES]
    with data.open("rb") as file:
        return file.read(HEAD_BYTES)


def _image(name: str, data: bytes | Path) -> MediaFrame:
    if isinstance(data, bytes):
        return MediaFrame(source=name, load=partial(decode_image, data), memory=peak_decode_bytes_of(data), data=data)
    return MediaFrame(source=name, load=partial(read_image, data), memory=peak_decode_bytes(data), data=data)


def _frames(name: str, data: bytes | Path, step: int, folder: Path) -> Iterator[MediaFrame]:
    if isinstance(data, Path):
        for index, timestamp_ms, frame in decode_frames(data, step):
            yield MediaFrame(
                source=name,
                load=partial(to_upright_rgb, frame),
                memory=count_upright_bytes(frame),
                position=VideoPosition(index, timestamp_ms),
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="video-") as file:
        file.write(data)
        file.flush()
        yield from _frames(name, Path(file.name), step, folder)


def _image_failure(kind: MediaKind, head: bytes) -> str:
    if kind is MediaKind.ARCHIVE:
        return "a zip inside another input; give the zip itself as an input"
    if not head:
        return "an empty file; upload it again"
    if head[4:8] == b"ftyp":
        return "a HEIC photo; save it as JPEG"
    return "another kind of file; remove it, or convert it to JPEG, PNG or MP4"
