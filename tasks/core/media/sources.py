"""The inputs of a run, one picture at a time, whatever file they come from."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeGuard

from tasks.core.detections import Moment
from tasks.core.geometry import Rgb
from tasks.core.media.archives import image_count, read_archive
from tasks.core.media.errors import MediaError
from tasks.core.media.headers import HEAD_BYTES, Kind, kind_of
from tasks.core.media.images import decode_image, read_image
from tasks.core.media.video import frame_count, read_frames
from tasks.core.summary import Failure

Media = Iterable[tuple[str, Path]]


@dataclass(frozen=True)
class Picture:
    """One image or one video frame on its way: `load()` gives the upright RGB array or raises MediaError.

    `moment` is None for an image.
    """

    source: str
    load: Callable[[], Rgb]
    moment: Moment | None = None


def file_kind(path: Path, name: str | None = None) -> Kind:
    """Tell whether a file is an image, a video, a zip or neither, by content first, else by the ending of `name`."""
    with path.open("rb") as file:
        return kind_of(name or path.name, file.read(HEAD_BYTES))


def pictures(media: Media) -> Iterator[Picture | Failure]:
    """Yield every picture of (source name, local file) pairs in order, and a failure where there is none to yield.

    A zip gives a picture an image, named `archive.zip/inner/name.jpg`; a video gives one a frame, lazily. A source that
    comes again is refused, so that no result is written over.
    """
    seen: set[str] = set()
    for source, path in media:
        for found in _expanded(source, path):
            if not _is_start(found):
                yield found
            elif found.source not in seen:
                seen.add(found.source)
                yield found
            else:
                yield Failure(found.source, "expected each input once, found it again; the first was used")
                if found.moment is not None:
                    break


def estimate(media: Media) -> int:
    """Return about how many pictures the files hold, by their headers alone."""
    return sum(_count(source, path) for source, path in media)


def _expanded(source: str, path: Path) -> Iterator[Picture | Failure]:
    try:
        kind = file_kind(path, source)
        if kind is Kind.IMAGE:
            yield Picture(source, partial(read_image, path))
        elif kind is Kind.VIDEO:
            for index, timestamp_ms, image in read_frames(path):
                yield Picture(source, partial(_same, image), Moment(index, timestamp_ms))
        elif kind is Kind.ARCHIVE:
            yield from _entries(source, path)
        else:
            yield Failure(
                source, "expected an image, a video or a zip of images, found another kind of file; remove it"
            )
    except MediaError as error:
        yield Failure(source, str(error))
    except OSError as error:
        yield Failure(source, f"expected a readable file, found {error.strerror or error}; upload it again")


def _entries(source: str, path: Path) -> Iterator[Picture | Failure]:
    for name, data in read_archive(path):
        inner = f"{source}/{name}"
        if isinstance(data, MediaError):
            yield Failure(inner, str(data))
        else:
            yield Picture(inner, partial(decode_image, data))


def _same(image: Rgb) -> Rgb:
    return image


def _count(source: str, path: Path) -> int:
    try:
        kind = file_kind(path, source)
    except OSError:
        return 1
    if kind is Kind.VIDEO:
        return frame_count(path)
    return image_count(path) if kind is Kind.ARCHIVE else 1


def _is_start(found: Picture | Failure) -> TypeGuard[Picture]:
    return isinstance(found, Picture) and (found.moment is None or found.moment.frame == 0)
