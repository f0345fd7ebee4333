"""One image or video frame, in any thread: read, sent to Triton, mapped back to its pixels, drawn."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tasks.errors import StudioError
from tasks.inference.concurrency import MemoryBudget
from tasks.inference.frames import MediaFrame, iter_frames
from tasks.inference.postprocess import to_detections
from tasks.inference.results.annotator import AnnotatedImage, Annotator
from tasks.inference.results.summary import Failure
from tasks.inference.tiling import Tile, merge_tile_detections, tile_grid
from tasks.inference.triton_client import ResponseError, TritonClient, VersionUnloadedError
from tasks.inference.work_items import PredictedFrame
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import preprocess
from tasks.vision.detections import Detections
from tasks.vision.geometry import Letterbox, Rgb

TILES_PER_REQUEST = 8
TRACKER_MIN_CONFIDENCE = 0.1  # the lowest confidence that ByteTrack uses
IMAGE_MEMORY_BYTES = 1 << 30  # bytes that decoded still images take together; of larger ones there is one at a time
FILE_MEMORY_BYTES = 256 << 20  # the same for the files of still images


class MediaReader(Protocol):
    """The store that inputs come from; its errors are StudioErrors."""

    def read(self, source: MediaSource) -> bytes:
        """Return a whole image."""

    def fetch(self, source: MediaSource, path: Path) -> None:
        """Copy a whole file to this disk."""


class Predictor:
    """Predicts images for one version of a model; any number of threads may call it."""

    def __init__(self, client: TritonClient, media: MediaReader, params: InferenceParams) -> None:
        self.params = params
        self.model = client.model
        # Those that wait for Triton, and one a core to decode and draw meanwhile.
        self.threads = client.in_flight + (os.cpu_count() or 1)
        self._client = client
        self._media = media
        # Two budgets: a thread that holds a decoded image never waits for room for a file.
        self._file_memory = MemoryBudget(FILE_MEMORY_BYTES)
        self._image_memory = MemoryBudget(IMAGE_MEMORY_BYTES)
        # A tracker needs weak detections, too; the result writer drops them afterwards.
        weak = {"confidence": min(params.least_confidence, TRACKER_MIN_CONFIDENCE), "class_confidence": {}}
        self._frame_params = params.model_copy(update=weak) if params.track else params

    def predict(
        self, image: MediaSource | MediaFrame, annotator: Annotator
    ) -> AnnotatedImage | PredictedFrame | Failure:
        """Return a still image with its files made, or a video frame, drawn on already unless it is to be tracked.

        What is wrong with this image alone becomes a failure.

        Raises:
            StudioError: It concerns every image: a service is away, or the version is unloaded.
        """
        try:
            if isinstance(image, MediaSource):
                return self._source(image, annotator)
            return self._frame(image, annotator) if image.position else self._still(image, annotator)
        except StudioError as error:
            if error.transient or isinstance(error, VersionUnloadedError):
                raise
            reason = str(error)
        except (cv2.error, MemoryError) as error:
            reason = f"expected a picture that can be worked on, found: {error or 'no memory for it'}"
        return Failure(source=image.name if isinstance(image, MediaSource) else image.source, reason=reason)

    def _source(self, source: MediaSource, annotator: Annotator) -> AnnotatedImage | Failure:
        with self._file_memory.reserve(source.size):
            still = next(iter_frames(source.name, self._media.read(source), 1, annotator.folder))
            if isinstance(still, Failure):
                return still
            if still.position is not None:
                raise MediaError("expected an image by its name, found a video; name it as one, like x.mp4")
            return self._still(still, annotator)

    def _still(self, still: MediaFrame, annotator: Annotator) -> AnnotatedImage:
        with self._image_memory.reserve(still.memory):
            image = still.load()
            detections, small = self._detect(still, image)
            return annotator.annotate(image, detections, small, still.data)

    def _frame(self, frame: MediaFrame, annotator: Annotator) -> PredictedFrame:
        image = frame.load()
        detections, small = self._detect(frame, image)
        if frame.position and frame.position.frame < self.params.image_frames * self.params.frame_step:
            detections = annotator.copy_frame(image, detections)
        if annotator.is_annotating and not self.params.track:
            image = annotator.draw(image, detections)
        return PredictedFrame(detections=detections, image=image, small=small)

    def _detect(self, frame: MediaFrame, image: Rgb) -> tuple[Detections, Rgb]:
        """Return the detections, and the smallest copy of the whole image that is at hand."""
        model = self.model
        tiles = self.params.tiles
        square, box = preprocess(image, model.task, model.image_size)
        small = image
        if model.task != "classify" and max(image.shape) > model.image_size:
            small = square[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width]
        side = (tiles.size or model.image_size) if tiles else 0
        if tiles is None or max(image.shape[:2]) <= side:
            return self._infer([(square, box)], frame)[0], small
        grid = tile_grid(image.shape[1], image.shape[0], side, tiles.overlap)
        parts = list(zip(grid, self._infer_tiles(grid, image, frame), strict=True))
        whole = self._infer([(square, box)], frame)[0] if tiles.whole else None
        return merge_tile_detections(parts, whole, self.params.iou), small

    def _infer_tiles(self, grid: Sequence[Tile], image: Rgb, frame: MediaFrame) -> Iterator[Detections]:
        most = min(TILES_PER_REQUEST, self.model.max_batch_size)
        for first in range(0, len(grid), most):
            pieces = (image[tile.top : tile.bottom, tile.left : tile.right] for tile in grid[first : first + most])
            squares = [preprocess(piece, self.model.task, self.model.image_size) for piece in pieces]
            yield from self._infer(squares, frame)

    def _infer(self, letterboxed: Sequence[tuple[Rgb, Letterbox]], frame: MediaFrame) -> list[Detections]:
        """Send squares in one request; the detections are in pixels of the images that the squares were made from."""
        squares = [square[None] for square, _ in letterboxed]
        outputs = self._client.infer(squares[0] if len(squares) == 1 else np.concatenate(squares))
        try:
            return [
                to_detections(
                    {name: values[index] for name, values in outputs.items()},
                    self.model,
                    letterbox,
                    self._frame_params if frame.position else self.params,
                    frame.source,
                    frame.position,
                )
                for index, (_, letterbox) in enumerate(letterboxed)
            ]
        except ValueError as error:
            raise ResponseError(str(error)) from error


def max_in_flight(params: InferenceParams) -> int:
    """Return the most requests to one Triton at one time."""
    return params.in_flight or max(4, 2 * (os.cpu_count() or 1))
