"""One picture, in whatever thread: read, asked about, mapped back, drawn."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tasks.errors import StudioError
from tasks.inference.concurrency import MemoryBudget
from tasks.inference.frames import MediaFrame, iter_frames
from tasks.inference.postprocess import to_detections
from tasks.inference.results.annotator import Annotator
from tasks.inference.results.summary import Failure
from tasks.inference.tiling import Tile, merge_tile_detections, tile_grid
from tasks.inference.triton_client import ResponseError, TritonClient, VersionUnloadedError
from tasks.inference.work_items import PredictedImage
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import preprocess
from tasks.vision.detections import Detections
from tasks.vision.geometry import Letterbox, Rgb

TILES_PER_REQUEST = 8
TRACKER_MIN_CONFIDENCE = 0.1  # the lowest confidence that ByteTrack looks at
IMAGE_MEMORY_BYTES = 1 << 30  # bytes that decoded still images take together; of larger ones there is one at a time
FILE_MEMORY_BYTES = 256 << 20  # the same for the files of still images


class MediaReader(Protocol):
    """Where the bytes of inputs come from; its errors are StudioErrors."""

    def read(self, source: MediaSource) -> bytes:
        """Return a whole image."""

    def fetch(self, source: MediaSource, path: Path) -> None:
        """Put a whole file in its place on this disk."""


class Predictor:
    """Looks at pictures for one version of a model; any number of threads may call it."""

    def __init__(self, client: TritonClient, media: MediaReader, params: InferenceParams) -> None:
        self.params, self.model = params, client.model
        # Those that wait for Triton, and one a core to decode and draw meanwhile.
        self.threads = max_in_flight(params) + (os.cpu_count() or 1)
        self._client, self._media = client, media
        # Who holds decoded pictures never waits for room for a file.
        self._files, self._budget = MemoryBudget(FILE_MEMORY_BYTES), MemoryBudget(IMAGE_MEMORY_BYTES)
        # What follows objects goes on with weak detections, too; whoever keeps the frames drops them afterwards.
        weak = {"confidence": min(params.confidence, TRACKER_MIN_CONFIDENCE), "class_confidence": {}}
        self._asking = params.model_copy(update=weak) if params.track else params

    def image(self, source: MediaSource, painter: Annotator) -> PredictedImage | Failure:
        """Read a still image and look at it; whatever is wrong with it alone becomes a failure."""
        return _alone(source.name, lambda: self._image(source, painter))

    def still(self, picture: MediaFrame, painter: Annotator) -> PredictedImage | Failure:
        """Decode a still image and look at it."""
        return _alone(picture.source, lambda: self._still(picture, painter))

    def frame(self, picture: MediaFrame, painter: Annotator) -> PredictedImage | Failure:
        """Look at a frame of a video, and draw on it unless it takes the frames before it to know what."""
        return _alone(picture.source, lambda: self._frame(picture, painter))

    def _image(self, source: MediaSource, painter: Annotator) -> PredictedImage | Failure:
        with self._files.reserve(source.size):
            picture = next(iter_frames(source.name, self._media.read(source), 1, painter.folder))
            if isinstance(picture, Failure):
                return picture
            if picture.position is not None:
                raise MediaError("expected an image by its name, found a video; name it as one, like x.mp4")
            return self._still(picture, painter)

    def _still(self, picture: MediaFrame, painter: Annotator) -> PredictedImage:
        with self._budget.reserve(picture.memory):
            image = picture.load()
            found, small = self._found(picture, image)
            painted = painter.annotate(image, found, small, picture.data)
            return PredictedImage(painted.found, painted=painted)

    def _frame(self, picture: MediaFrame, painter: Annotator) -> PredictedImage:
        image = picture.load()
        found, small = self._found(picture, image)
        if picture.position and (picture.position.frame or 0) < self.params.image_frames * self.params.frame_step:
            found = painter.copy_frame(image, found)
        drawn = painter.is_annotating and not self.params.track
        return PredictedImage(found, frame=painter.draw(image, found) if drawn else image, small=small)

    def _found(self, picture: MediaFrame, image: Rgb) -> tuple[Detections, Rgb]:
        """What is in a picture, and the smallest copy of all of it that is at hand."""
        model, tiled = self.model, self.params.tiles
        shown = preprocess(image, model.task, model.image_size)
        small = _inner(*shown) if model.task != "classify" and max(image.shape) > model.image_size else image
        side = (tiled.size or model.image_size) if tiled else 0
        if tiled is None or max(image.shape[:2]) <= side:
            return self._asked([shown], picture)[0], small
        places = tile_grid(image.shape[1], image.shape[0], side, tiled.overlap)
        parts = list(zip(places, self._in_tiles(places, image, picture), strict=True))
        whole = self._asked([shown], picture)[0] if tiled.whole else None
        return merge_tile_detections(parts, whole, self.params.iou), small

    def _in_tiles(self, places: Sequence[Tile], image: Rgb, picture: MediaFrame) -> Iterator[Detections]:
        model = self.model
        most = min(TILES_PER_REQUEST, model.max_batch_size)
        for first in range(0, len(places), most):
            cut = (image[each.top : each.bottom, each.left : each.right] for each in places[first:][:most])
            yield from self._asked([preprocess(piece, model.task, model.image_size) for piece in cut], picture)

    def _asked(self, shown: Sequence[tuple[Rgb, Letterbox]], picture: MediaFrame) -> list[Detections]:
        """Ask about squares in one request; what is found is in pixels of the images that they were made from."""
        squares = [square[None] for square, _ in shown]
        outputs = self._client.infer(squares[0] if len(squares) == 1 else np.concatenate(squares))
        try:
            return [
                to_detections(
                    {name: values[index] for name, values in outputs.items()},
                    self.model,
                    letterbox,
                    self._asking if picture.position else self.params,
                    picture.source,
                    picture.position,
                )
                for index, (_, letterbox) in enumerate(shown)
            ]
        except ValueError as error:
            raise ResponseError(str(error)) from error


def _inner(square: Rgb, box: Letterbox) -> Rgb:
    return square[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width]


def _alone(source: str, look: Callable[[], PredictedImage | Failure]) -> PredictedImage | Failure:
    """Turn what is wrong with one input into its failure; what is wrong with all is raised."""
    try:
        return look()
    except StudioError as error:
        if error.transient or isinstance(error, VersionUnloadedError):
            raise
        return Failure(source, str(error))
    except (cv2.error, MemoryError) as error:
        return Failure(source, f"expected a picture that can be worked on, found: {error or 'no memory for it'}")


def max_in_flight(params: InferenceParams) -> int:
    """Requests to Triton at one time."""
    return params.in_flight or max(4, 2 * (os.cpu_count() or 1))
