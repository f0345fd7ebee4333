"""One input of a run, picture by picture, whatever it is."""

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

# What a reader may stumble over in bytes that nobody thought of.
_STUMBLES = (ArithmeticError, ValueError, LookupError, TypeError, struct.error, av.FFmpegError)


@dataclass(frozen=True)
class MediaFrame:
    """One image or one video frame on its way: `load()` gives the upright RGB array or raises MediaError.

    `load` may run in any thread and takes `memory` bytes at its peak. `position` is None for an image, whose file, or
    its bytes, are `data`.
    """

    source: str
    load: Callable[[], Rgb]
    memory: int
    position: VideoPosition | None = None
    data: bytes | Path | None = None


def iter_frames(name: str, data: bytes | Path, step: int, folder: Path) -> Iterator[MediaFrame | Failure]:
    """Yield the pictures of one image or video: its bytes, or the local file that holds them.

    `name` is what the user calls it. Of a video every `step`-th frame comes, lazily, decoded but not yet converted;
    what is damaged in it is a failure behind its last frame. The bytes of a video lie in `folder` meanwhile. What is
    neither gives one failure. Never raises for what the input holds.
    """
    try:
        kind = sniff_kind(name, _head(data))
        if kind is MediaKind.IMAGE:
            yield _image(name, data)
        elif kind is MediaKind.VIDEO:
            yield from _frames(name, data, step, folder)
        else:
            yield Failure(name, f"expected an image or a video, found {_image_failure(kind, _head(data))}")
    except MediaError as error:
        yield Failure(name, str(error))
    except OSError as error:
        yield Failure(name, f"expected a readable file, found {error.strerror or error}; upload it again")
    except _STUMBLES as error:
        yield Failure(
            name,
            f"expected a whole image or video, found values in it that no encoder writes ({error_reason(error)}); "
            "save it again as JPEG, PNG or MP4",
        )


def _head(data: bytes | Path) -> bytes:
    if isinstance(data, bytes):
        return data[:HEAD_BYTES]
    with data.open("rb") as file:
        return file.read(HEAD_BYTES)


def _image(name: str, data: bytes | Path) -> MediaFrame:
    if isinstance(data, bytes):
        return MediaFrame(name, partial(decode_image, data), peak_decode_bytes_of(data), data=data)
    return MediaFrame(name, partial(read_image, data), peak_decode_bytes(data), data=data)


def _frames(name: str, data: bytes | Path, step: int, folder: Path) -> Iterator[MediaFrame]:
    if isinstance(data, Path):
        for index, timestamp_ms, frame in decode_frames(data, step):
            yield MediaFrame(
                name, partial(to_upright_rgb, frame), count_upright_bytes(frame), VideoPosition(index, timestamp_ms)
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
