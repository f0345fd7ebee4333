"""What goes through the pipeline, and what comes out of it."""

from dataclasses import dataclass
from pathlib import Path

from tasks.inference.frames import MediaFrame
from tasks.inference.results.annotator import AnnotatedImage, Annotator
from tasks.inference.results.summary import Failure
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb


@dataclass(frozen=True, eq=False, kw_only=True)
class ChunkContext:
    """A chunk in work, its annotator, and how many images and frames it has by the headers."""

    chunk: Chunk
    annotator: Annotator
    images: int


@dataclass(frozen=True, eq=False, kw_only=True)
class WorkItem:
    """A source with one of its frames, or the reason why there is none; without both, an image that is yet to be read.

    `file` is the local copy of a source that was fetched.
    """

    context: ChunkContext
    source: MediaSource
    file: Path | None = None
    frame: MediaFrame | Failure | None = None

    @property
    def memory(self) -> int:
        """Bytes that it holds while it waits: those of a frame that is decoded already."""
        return self.frame.memory if isinstance(self.frame, MediaFrame) and self.frame.position else 0


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictedFrame:
    """A video frame as it goes into the annotated video; `small` is the smallest copy at hand, nothing drawn on it."""

    detections: Detections
    image: Rgb
    small: Rgb


@dataclass(frozen=True, eq=False)
class ItemResult:
    """An item and what came of it."""

    item: WorkItem
    outcome: AnnotatedImage | PredictedFrame | Failure


@dataclass(frozen=True, kw_only=True)
class CompletedChunk:
    """A chunk that is done: the zip `part`, and below `folder` the images for people, until the next one is made."""

    chunk: int
    part: Path
    folder: Path
    images: int
    detections: int
