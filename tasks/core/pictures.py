"""What people look at: annotated pictures and thumbnails, written into the run's folder."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.core.detections import Detections
from tasks.core.geometry import Rgb
from tasks.core.media import MediaError, VideoWriter, draw, fit, write_jpeg
from tasks.core.summary import Failure, GalleryItem, ItemTally, item_classes, output_stem

THUMBNAIL_SIDE = 360


class Painter:
    """Draws for one run: `folder/annotated/` (where `annotate`) and `folder/thumbnails/`, named by `output_stem`."""

    def __init__(self, folder: Path, class_names: Sequence[str], *, annotate: bool) -> None:
        self.folder = folder
        self.annotate = annotate
        self._names = class_names

    def draw(self, image: Rgb, found: Detections) -> Rgb:
        """Return a copy of the picture with boxes and labels."""
        return draw(image, found, self._names)

    def thumbnail(self, image: Rgb, found: Detections) -> Rgb:
        """Return the picture at most `THUMBNAIL_SIDE` pixels long, with boxes and no labels."""
        small = fit(image, THUMBNAIL_SIDE)
        return draw(small, found.scaled(small.shape[1], small.shape[0]), self._names, labels=False)

    def save_image(self, image: Rgb, found: Detections) -> GalleryItem:
        """Write the files of one still image and return its place in the gallery."""
        stem = output_stem(found.source)
        thumbnail, annotated = f"thumbnails/{stem}.jpg", f"annotated/{stem}.jpg" if self.annotate else None
        write_jpeg(self.folder / thumbnail, self.thumbnail(image, found), quality=80)
        if annotated:
            write_jpeg(self.folder / annotated, self.draw(image, found))
        size = found.width, found.height
        return GalleryItem(found.source, "image", thumbnail, annotated, *size, 1, item_classes([found]))


class Clip:
    """A context that gathers the drawn frames of one video; after it, `item` is its place in the gallery.

    The thumbnail is the first frame with the most detections. A block that raises leaves no video behind.
    """

    def __init__(self, painter: Painter, source: str) -> None:
        self.failure: Failure | None = None
        self._painter = painter
        self._source = source
        self._stem = output_stem(source)
        self._annotated = f"annotated/{self._stem}.mp4"
        self._writer = VideoWriter(painter.folder / self._annotated)
        self._tally = ItemTally()
        self.frames = 0
        self._size = (0, 0)
        self._poster: tuple[int, Rgb] | None = None

    def __enter__(self) -> Self:
        """Return the clip; nothing is written before the first frame."""
        self._writer.__enter__()
        return self

    def add(self, image: Rgb, found: Detections) -> None:
        """Append one frame; `image` is drawn already where the painter annotates."""
        self._tally.add(found)
        self.frames += 1
        self._size = self._size if self.frames > 1 else (found.width, found.height)
        if self._poster is None or len(found) > self._poster[0]:
            self._poster = len(found), self._painter.thumbnail(image, found)
        if self._painter.annotate and self.failure is None:
            try:
                self._writer.write(image, found.timestamp_ms or 0.0)
            except MediaError as error:
                self._give_up(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the video, or discard it where the block raised."""
        try:
            self._writer.__exit__(kind or (MediaError if self.failure else None), error, trace)
        except MediaError as unfinished:
            self._give_up(unfinished)

    def _give_up(self, error: MediaError) -> None:
        # The rows are worth more than the film: go on without it.
        self.failure = Failure(self._source, f"its detections are kept, its annotated video is not: {error}")

    def item(self) -> GalleryItem:
        """Write the thumbnail and return the video's place in the gallery; call it after the block, with frames in."""
        thumbnail = f"thumbnails/{self._stem}.jpg"
        if self._poster is not None:
            write_jpeg(self._painter.folder / thumbnail, self._poster[1], quality=80)
        annotated = self._annotated if self._painter.annotate and self.failure is None else None
        classes = self._tally.classes()
        return GalleryItem(self._source, "video", thumbnail, annotated, *self._size, self.frames, classes)
