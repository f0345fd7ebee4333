"""One picture, in whatever thread: read, asked about, mapped back, drawn."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tasks.errors import StudioError
from tasks.inference.concurrency import Budget
from tasks.inference.frames import Picture, expand
from tasks.inference.results.annotator import Painter
from tasks.inference.results.summary import Failure
from tasks.inference.tiling import Tile, merged, tiles
from tasks.inference.triton_client import AnswerError, TritonClient, VersionGone
from tasks.inference.work_items import Seen
from tasks.inference.work_plan import Source
from tasks.media.errors import MediaError
from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import served_input
from tasks.vision.detections import Detections
from tasks.vision.geometry import Letterbox, Rgb

TILES_A_REQUEST = 8
WEAK = 0.1  # the lowest confidence that ByteTrack looks at
MEMORY = 1 << 30  # bytes that decoded still images take together; of larger ones there is one at a time
FILES_MEMORY = 256 << 20  # the same for the files of still images


class MediaReader(Protocol):
    """Where the bytes of inputs come from; its errors are StudioErrors."""

    def read(self, source: Source) -> bytes:
        """Return a whole image."""

    def fetch(self, source: Source, path: Path) -> None:
        """Put a whole file in its place on this disk."""


class Looking:
    """Looks at pictures for one version of a model; any number of threads may call it."""

    def __init__(self, client: TritonClient, media: MediaReader, params: InferenceParams) -> None:
        self.params, self.model = params, client.model
        # Those that wait for Triton, and one a core to decode and draw meanwhile.
        self.threads = in_flight(params) + (os.cpu_count() or 1)
        self._client, self._media = client, media
        # Who holds decoded pictures never waits for room for a file.
        self._files, self._budget = Budget(FILES_MEMORY), Budget(MEMORY)
        # What follows objects goes on with weak detections, too; whoever keeps the frames drops them afterwards.
        weak = {"confidence": min(params.confidence, WEAK), "class_confidence": {}}
        self._asking = params.model_copy(update=weak) if params.track else params

    def image(self, source: Source, painter: Painter) -> Seen | Failure:
        """Read a still image and look at it; whatever is wrong with it alone becomes a failure."""
        return _alone(source.name, lambda: self._image(source, painter))

    def still(self, picture: Picture, painter: Painter) -> Seen | Failure:
        """Decode a still image and look at it."""
        return _alone(picture.source, lambda: self._still(picture, painter))

    def frame(self, picture: Picture, painter: Painter) -> Seen | Failure:
        """Look at a frame of a video, and draw on it unless it takes the frames before it to know what."""
        return _alone(picture.source, lambda: self._frame(picture, painter))

    def _image(self, source: Source, painter: Painter) -> Seen | Failure:
        with self._files.take(source.size):
            picture = next(expand(source.name, self._media.read(source), 1, painter.folder))
            if isinstance(picture, Failure):
                return picture
            if picture.moment is not None:
                raise MediaError("expected an image by its name, found a video; name it as one, like x.mp4")
            return self._still(picture, painter)

    def _still(self, picture: Picture, painter: Painter) -> Seen:
        with self._budget.take(picture.memory):
            image = picture.load()
            found, small = self._found(picture, image)
            painted = painter.paint(image, found, small, picture.data)
            return Seen(painted.found, painted=painted)

    def _frame(self, picture: Picture, painter: Painter) -> Seen:
        image = picture.load()
        found, small = self._found(picture, image)
        if picture.moment and (picture.moment.frame or 0) < self.params.image_frames * self.params.frame_step:
            found = painter.copy_frame(image, found)
        drawn = painter.annotate and not self.params.track
        return Seen(found, frame=painter.draw(image, found) if drawn else image, small=small)

    def _found(self, picture: Picture, image: Rgb) -> tuple[Detections, Rgb]:
        """What is in a picture, and the smallest copy of all of it that is at hand."""
        model, tiled = self.model, self.params.tiles
        shown = served_input(image, model.task, model.image_size)
        small = _inner(*shown) if model.task != "classify" and max(image.shape) > model.image_size else image
        side = (tiled.size or model.image_size) if tiled else 0
        if tiled is None or max(image.shape[:2]) <= side:
            return self._asked([shown], picture)[0], small
        places = tiles(image.shape[1], image.shape[0], side, tiled.overlap)
        parts = list(zip(places, self._in_tiles(places, image, picture), strict=True))
        whole = self._asked([shown], picture)[0] if tiled.whole else None
        return merged(parts, whole, self.params.iou), small

    def _in_tiles(self, places: Sequence[Tile], image: Rgb, picture: Picture) -> Iterator[Detections]:
        model = self.model
        most = min(TILES_A_REQUEST, model.max_batch_size)
        for first in range(0, len(places), most):
            cut = (image[each.top : each.bottom, each.left : each.right] for each in places[first:][:most])
            yield from self._asked([served_input(piece, model.task, model.image_size) for piece in cut], picture)

    def _asked(self, shown: Sequence[tuple[Rgb, Letterbox]], picture: Picture) -> list[Detections]:
        """Ask about squares in one request; what is found is in pixels of the images that they were made from."""
        squares = [square[None] for square, _ in shown]
        outputs = self._client.infer(squares[0] if len(squares) == 1 else np.concatenate(squares))
        try:
            return [
                Detections.from_served(
                    {name: values[index] for name, values in outputs.items()},
                    self.model,
                    letterbox,
                    self._asking if picture.moment else self.params,
                    picture.source,
                    picture.moment,
                )
                for index, (_, letterbox) in enumerate(shown)
            ]
        except ValueError as error:
            raise AnswerError(str(error)) from error


def _inner(square: Rgb, box: Letterbox) -> Rgb:
    return square[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width]


def _alone(source: str, look: Callable[[], Seen | Failure]) -> Seen | Failure:
    """Turn what is wrong with one input into its failure; what is wrong with all is raised."""
    try:
        return look()
    except StudioError as error:
        if error.passing or isinstance(error, VersionGone):
            raise
        return Failure(source, str(error))
    except (cv2.error, MemoryError) as error:
        return Failure(source, f"expected a picture that can be worked on, found: {error or 'no memory for it'}")


def in_flight(params: InferenceParams) -> int:
    """Requests to Triton at one time."""
    return params.in_flight or max(4, 2 * (os.cpu_count() or 1))
