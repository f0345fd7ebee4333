"""The end of the pipe: what was seen, in order, into the part of its chunk."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby

from prefect import get_run_logger

from tasks.inference.results.annotator import AnnotatedVideo, Annotator
from tasks.inference.results.chunk_results import ChunkResultWriter
from tasks.inference.results.summary import Failure
from tasks.inference.work_items import CompletedChunk, ItemResult, PredictedImage
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections

# Follows the objects of one video from frame to frame: detections come back with their track ids.
TrackFunction = Callable[[Detections], Detections]
# Told the number of a chunk, how many of its pictures are done, and how many there are by the headers.
ProgressCallback = Callable[[int, int, int], None]


class ResultWriter:
    """Writes parts for one version of a model; `follow` makes what follows the objects of one video."""

    def __init__(self, model: ServedModel, follow: Callable[[], TrackFunction] | None, told: ProgressCallback) -> None:
        self._model, self._follow, self._told = model, follow, told

    def part(self, outcomes: Iterable[ItemResult]) -> CompletedChunk:
        """Write the part of the chunk that all of these belong to."""
        rest = iter(outcomes)
        first = next(rest)
        portion = first.item.portion
        chunk, painter = portion.chunk, portion.painter
        pictures = detections = 0
        place = painter.folder.parent, chunk.number, self._model
        with ChunkResultWriter(*place, tracked=self._follow is not None, pictures=painter.folder) as part:
            for _, group in groupby(chain([first], rest), key=lambda outcome: outcome.item.source.name):
                for found in self._source(group, part):
                    pictures += 1
                    detections += len(found or ())
                    self._told(chunk.number, pictures, portion.pictures)
            painter.finish()
        return CompletedChunk(chunk.number, part.path, painter.folder, pictures, detections)

    def _source(self, outcomes: Iterator[ItemResult], part: ChunkResultWriter) -> Iterator[Detections | None]:
        """Write down one source; yield what was found in each of its pictures, None for a failure."""
        first = next(outcomes)
        item = first.item
        follow = self._follow() if self._follow and item.file else None
        with AnnotatedVideo(item.portion.painter, item.source.name, item.file) as clip:
            for outcome in chain([first], outcomes):
                if isinstance(outcome.seen, Failure):
                    part.fail(outcome.seen)
                    yield None
                else:
                    yield self._picture(outcome.seen, item.portion.painter, part, clip, follow)
        if clip.frames:
            part.item(clip.item())
        if clip.failure:
            part.fail(clip.failure)
        elif clip.sound_fault:
            get_run_logger().warning("%s: its annotated video is without sound: %s", item.source.name, clip.sound_fault)
        if item.file:
            item.file.unlink(missing_ok=True)

    @staticmethod
    def _picture(
        seen: PredictedImage,
        painter: Annotator,
        part: ChunkResultWriter,
        clip: AnnotatedVideo,
        follow: TrackFunction | None,
    ) -> Detections:
        if seen.painted:
            part.item(painter.to_gallery_item(seen.painted))
        found, frame = seen.found, seen.frame
        if frame is not None:
            if follow:  # what is drawn says who is who
                found = follow(found)
                frame = painter.draw(frame, found) if painter.is_annotating else frame
            clip.add(frame, found, seen.small)
        part.add(found)
        return found
