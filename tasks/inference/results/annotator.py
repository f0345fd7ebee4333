"""Annotated images, videos and sheets of thumbnails of one chunk, written into the run's folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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


@dataclass(frozen=True, eq=False, kw_only=True)
class AnnotatedImage:
    """A still image with its files written; its thumbnail, uint8 [H, W, 3], has no cell yet."""

    detections: Detections
    thumbnail: Rgb
    annotated: str | None
    classes: tuple[ClassCount, ...]


class Annotator:
    """Draws for one chunk: `folder/thumbnails/CHUNK-0.jpg` and, if `is_annotating`, `folder/annotated/STEM.jpg`.

    With `copies`, `folder/images/` holds plain copies of still images, and of the frames that `copy_frame` gets. Any
    number of threads may `annotate` and `draw`. One thread gives cells, in the chunk's order, so that a second worker
    on the same chunk writes the very same sheets.
    """

    def __init__(
        self, folder: Path, chunk: int, class_names: Sequence[str], *, annotate: bool, copies: bool = False
    ) -> None:
        self.folder = folder
        self.is_annotating = annotate
        self._copies = copies
        self._chunk = chunk
        self._class_names = class_names
        self._sheet = ContactSheet()
        self._sheets = 0

    def draw(self, image: Rgb, detections: Detections) -> Rgb:
        """Return a copy of the image with its detections and labels."""
        return annotate_image(image, detections, self._class_names)

    def copy_frame(self, image: Rgb, detections: Detections) -> Detections:
        """Write a plain copy of a frame, if copies are made; return its detections, with the path."""
        if not self._copies or detections.frame is None:
            return detections
        return replace(detections, image=copy_frame(self.folder, detections.source, detections.frame, image))

    def annotate(
        self, image: Rgb, detections: Detections, small: Rgb | None = None, data: bytes | Path | None = None
    ) -> AnnotatedImage:
        """Write the files of a still image; `small` is its smallest copy at hand, `data` its own file, to be copied."""
        if self._copies and data is not None:
            detections = replace(detections, image=copy_image(self.folder, detections.source, image, data))
        annotated = f"annotated/{output_stem(detections.source)}.jpg" if self.is_annotating else None
        if annotated:
            write_jpeg(self.folder / annotated, self.draw(image, detections))
        return AnnotatedImage(
            detections=detections,
            thumbnail=thumbnail(image if small is None else small, detections.width, detections.height),
            annotated=annotated,
            classes=item_classes([detections]),
        )

    def to_gallery_item(self, annotated: AnnotatedImage) -> GalleryItem:
        """Give the thumbnail of a still image its cell, and return the item of the gallery."""
        sheet, cell = self.add_thumbnail(annotated.thumbnail)
        return GalleryItem(
            source=annotated.detections.source,
            kind="image",
            sheet=sheet,
            cell=cell,
            annotated=annotated.annotated,
            width=annotated.detections.width,
            height=annotated.detections.height,
            frames=1,
            classes=annotated.classes,
        )

    def add_thumbnail(self, image: Rgb) -> tuple[str, int]:
        """Give a thumbnail its cell; return the path of the sheet in the run's folder, and the cell."""
        if self._sheet.is_full:
            self.finish()
        return self._sheet_path, self._sheet.add(image)

    def finish(self) -> None:
        """Write the last sheet, if it has a cell."""
        if len(self._sheet):
            self._sheet.write(self.folder / self._sheet_path)
            self._sheet = ContactSheet()
            self._sheets += 1

    @property
    def _sheet_path(self) -> str:
        return f"thumbnails/{self._chunk:06d}-{self._sheets}.jpg"


class AnnotatedVideo:
    """A context that takes the drawn frames of one video; after it, `item()` is the item of the gallery.

    The thumbnail is the first frame with the most detections. A block that raises leaves no video behind. `file` is the
    video itself, for its sound; if that could not be copied, `sound_fault` says why.
    """

    def __init__(self, annotator: Annotator, source: str, file: Path | None = None) -> None:
        self.failure: Failure | None = None
        self.frames = 0
        self._annotator = annotator
        self._source = source
        self._path = f"annotated/{output_stem(source)}.mp4"
        self._writer = VideoWriter(annotator.folder / self._path, file)
        self._totals = ItemTotals()
        self._size = (0, 0)
        self._thumbnail: Rgb | None = None

    @property
    def sound_fault(self) -> str | None:
        """Why the annotated video is without sound, if it should have some."""
        return self._writer.sound_fault

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def add(self, image: Rgb, detections: Detections, plain: Rgb | None = None) -> None:
        """Append one frame; `image` is drawn on already if the annotator does so, `plain` is any copy that is not."""
        if self.frames == 0:
            self._size = detections.width, detections.height
        self.frames += 1
        if self._totals.add(detections):
            self._thumbnail = thumbnail(image if plain is None else plain, detections.width, detections.height)
        if self._annotator.is_annotating and self.failure is None:
            try:
                self._writer.write(image, detections.timestamp_ms or 0.0)
            except MediaError as error:
                self._give_up(error)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._writer.__exit__(kind or (MediaError if self.failure else None))
        except MediaError as error:
            self._give_up(error)

    def item(self) -> GalleryItem:
        """Give the thumbnail its cell, and return the item of the gallery; call it once, after the block.

        Raises:
            ValueError: No frame was added.
        """
        if self._thumbnail is None:
            raise ValueError("expected a video with frames, found none; list it among the failures")
        sheet, cell = self._annotator.add_thumbnail(self._thumbnail)
        width, height = self._size
        return GalleryItem(
            source=self._source,
            kind="video",
            sheet=sheet,
            cell=cell,
            annotated=self._path if self._annotator.is_annotating and self.failure is None else None,
            width=width,
            height=height,
            frames=self.frames,
            classes=self._totals.classes(),
        )

    def _give_up(self, error: MediaError) -> None:
        # The rows are worth more than the annotated video.
        self.failure = Failure(
            source=self._source, reason=f"its detections are kept, its annotated video is not: {error}"
        )
