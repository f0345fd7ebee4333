"""What people look at: annotated pictures and sheets of thumbnails, written into the run's folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.inference.results.contact_sheet import ContactSheet, thumbnail
from tasks.inference.results.image_copies import copy_frame, copy_image
from tasks.inference.results.summary import ClassCount, Failure, GalleryItem, ItemTotals, item_classes, output_stem
from tasks.media.annotate import annotate_image
from tasks.media.errors import MediaError
from tasks.media.images import write_jpeg
from tasks.media.video_writer import VideoWriter
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """A still image with its files made and its thumbnail, uint8 [H, W, 3], waiting for a cell."""

    found: Detections
    thumbnail: Rgb
    annotated: str | None
    classes: tuple[ClassCount, ...]


class Annotator:
    """Draws for one chunk: `folder/thumbnails/CHUNK-0.jpg` and, if `is_annotating`, `folder/annotated/STEM.jpg`.

    Where `copies`, `folder/images/` holds plain copies of still images, and of those frames that `copy_frame` is given.
    Any number of threads may `annotate`, `draw` and make thumbnails. Cells are given by one thread, in the chunk's
    order, so that a second worker on the same chunk writes the very same sheets. `finish` writes the last sheet.
    """

    def __init__(
        self, folder: Path, chunk: int, class_names: Sequence[str], *, annotate: bool, copies: bool = False
    ) -> None:
        self.folder = folder
        self.is_annotating = annotate
        self._copies = copies
        self._chunk = chunk
        self._names = class_names
        self._sheet = ContactSheet()
        self._sheets = 0

    def draw(self, image: Rgb, found: Detections) -> Rgb:
        """Return a copy of the picture with what was found and labels."""
        return annotate_image(image, found, self._names)

    def copy_frame(self, image: Rgb, found: Detections) -> Detections:
        """Keep a plain copy of a frame, where copies are made; return what was found, with its path."""
        if not self._copies or found.frame is None:
            return found
        return replace(found, image=copy_frame(self.folder, found.source, found.frame, image))

    def annotate(
        self, image: Rgb, found: Detections, small: Rgb | None = None, data: bytes | Path | None = None
    ) -> AnnotatedImage:
        """Make what one still image needs; `small` is the smallest copy of it at hand, for the thumbnail.

        `data` is its file, of which a plain copy is kept where copies are made.
        """
        if self._copies and data is not None:
            found = replace(found, image=copy_image(self.folder, found.source, image, data))
        annotated = f"annotated/{output_stem(found.source)}.jpg" if self.is_annotating else None
        if annotated:
            write_jpeg(self.folder / annotated, self.draw(image, found))
        small = thumbnail(image if small is None else small, found.width, found.height)
        return AnnotatedImage(found, small, annotated, item_classes([found]))

    def to_gallery_item(self, painted: AnnotatedImage) -> GalleryItem:
        """Give a still image its cell and return its place in the gallery."""
        found = painted.found
        sheet, cell = self.add_thumbnail(painted.thumbnail)
        size = found.width, found.height
        return GalleryItem(found.source, "image", sheet, cell, painted.annotated, *size, 1, painted.classes)

    def save_image(self, image: Rgb, found: Detections, small: Rgb | None = None) -> GalleryItem:
        """Paint and keep: for one thread."""
        return self.to_gallery_item(self.annotate(image, found, small))

    def add_thumbnail(self, picture: Rgb) -> tuple[str, int]:
        """Give a thumbnail its cell; return the path of the sheet in the run's folder, and the cell."""
        if self._sheet.is_full:
            self.finish()
        return self._path, self._sheet.add(picture)

    def finish(self) -> None:
        """Write the sheet that was begun, if any."""
        if len(self._sheet):
            self._sheet.write(self.folder / self._path)
            self._sheet, self._sheets = ContactSheet(), self._sheets + 1

    @property
    def _path(self) -> str:
        return f"thumbnails/{self._chunk:06d}-{self._sheets}.jpg"


class AnnotatedVideo:
    """A context that gathers the drawn frames of one video; after it, `item` is its place in the gallery.

    The thumbnail is the first frame with the most detections. A block that raises leaves no video behind. `file` is the
    video itself, for its sound; where that could not be had, `sound_fault` says why.
    """

    def __init__(self, painter: Annotator, source: str, file: Path | None = None) -> None:
        self.failure: Failure | None = None
        self.sound_fault: str | None = None
        self.frames = 0
        self._painter = painter
        self._source = source
        self._file = file
        self._writer: VideoWriter | None = None
        self._tally = ItemTotals()
        self._size = (0, 0)
        self._poster: Rgb | None = None

    def __enter__(self) -> Self:
        """Return the clip; nothing is written before the first frame."""
        return self

    def add(self, image: Rgb, found: Detections, plain: Rgb | None = None) -> None:
        """Append one frame; `image` is drawn already where the painter annotates, `plain` is any copy that is not."""
        is_poster = self._tally.add(found)
        self.frames += 1
        self._size = self._size if self.frames > 1 else (found.width, found.height)
        if is_poster:
            self._poster = thumbnail(image if plain is None else plain, found.width, found.height)
        if self._painter.is_annotating and self.failure is None:
            try:
                self._film().write(image, found.timestamp_ms or 0.0)
            except MediaError as error:
                self._give_up(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the video, or discard it where the block raised."""
        if self._writer is None:
            return
        try:
            self._writer.__exit__(kind or (MediaError if self.failure else None), error, trace)
        except MediaError as unfinished:
            self._give_up(unfinished)
        self.sound_fault = self._writer.sound_fault

    def item(self) -> GalleryItem:
        """Give the thumbnail its cell and return the video's place in the gallery; call it once, after the block.

        Raise ValueError where no frame was added.
        """
        if self._poster is None:
            raise ValueError("expected a video with frames, found none; list it among the failures")
        sheet, cell = self._painter.add_thumbnail(self._poster)
        annotated = self._annotated if self._painter.is_annotating and self.failure is None else None
        classes = self._tally.classes()
        return GalleryItem(self._source, "video", sheet, cell, annotated, *self._size, self.frames, classes)

    @property
    def _annotated(self) -> str:
        return f"annotated/{output_stem(self._source)}.mp4"

    def _film(self) -> VideoWriter:
        if self._writer is None:
            self._writer = VideoWriter(self._painter.folder / self._annotated, self._file)
            self._writer.__enter__()
        return self._writer

    def _give_up(self, error: MediaError) -> None:
        # The rows are worth more than the film: go on without it.
        self.failure = Failure(self._source, f"its detections are kept, its annotated video is not: {error}")
