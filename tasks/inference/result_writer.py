"""The end of the pipeline: results, in order, into the part of their chunk."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby

from prefect import get_run_logger

from tasks.inference.results.annotator import AnnotatedImage, AnnotatedVideo, Annotator
from tasks.inference.results.chunk_results import ChunkResultWriter
from tasks.inference.results.summary import Failure
from tasks.inference.work_items import CompletedChunk, ItemResult, PredictedFrame
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections

# Returns the detections of the next frame of one video with their track ids.
TrackFunction = Callable[[Detections], Detections]
# Gets the number of a chunk, how many of its images are done, and how many there are by the headers.
ProgressCallback = Callable[[int, int, int], None]


class ResultWriter:
    """Writes the results of chunks for one version of a model; `new_tracker` makes the tracker of one video."""

    def __init__(
        self, model: ServedModel, new_tracker: Callable[[], TrackFunction] | None, on_progress: ProgressCallback
    ) -> None:
        self._model = model
        self._new_tracker = new_tracker
        self._on_progress = on_progress

    def write(self, results: Iterable[ItemResult]) -> CompletedChunk:
        """Write the part of the chunk that all these results belong to."""
        remaining = iter(results)
        first = next(remaining)
        context = first.item.context
        number = context.chunk.number
        folder = context.annotator.folder
        images = detections = 0
        tracked = self._new_tracker is not None
        with ChunkResultWriter(folder.parent, number, self._model, tracked=tracked, image_folder=folder) as part:
            for _, group in groupby(chain([first], remaining), key=lambda result: result.item.source.name):
                for each in self._write_source(group, part):
                    images += 1
                    detections += len(each or ())
                    self._on_progress(number, images, context.images)
            context.annotator.finish()
        return CompletedChunk(chunk=number, part=part.path, folder=folder, images=images, detections=detections)

    def _write_source(self, results: Iterator[ItemResult], part: ChunkResultWriter) -> Iterator[Detections | None]:
        """Write one source; yield the detections in each of its images, None for a failure."""
        first = next(results)
        item = first.item
        annotator = item.context.annotator
        track = self._new_tracker() if self._new_tracker and item.file else None
        with AnnotatedVideo(annotator, item.source.name, item.file) as video:
            for result in chain([first], results):
                outcome = result.outcome
                if isinstance(outcome, Failure):
                    part.fail(outcome)
                    yield None
                    continue
                if isinstance(outcome, AnnotatedImage):
                    part.item(annotator.to_gallery_item(outcome))
                else:
                    if track:
                        outcome = _tracked(outcome, track, annotator)
                    video.add(outcome.image, outcome.detections, outcome.small)
                part.add(outcome.detections)
                yield outcome.detections
        if video.frames:
            part.item(video.item())
        if video.failure:
            part.fail(video.failure)
        elif video.sound_fault:
            get_run_logger().warning(
                "%s: its annotated video is without sound: %s", item.source.name, video.sound_fault
            )
        if item.file:
            item.file.unlink(missing_ok=True)


def _tracked(frame: PredictedFrame, track: TrackFunction, annotator: Annotator) -> PredictedFrame:
    """Return the frame with track ids, and only then drawn on: labels show the ids."""
    detections = track(frame.detections)
    image = annotator.draw(frame.image, detections) if annotator.is_annotating else frame.image
    return replace(frame, detections=detections, image=image)
