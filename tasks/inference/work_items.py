"""What goes through the pipe, and what comes out of it."""

from dataclasses import dataclass
from pathlib import Path

from tasks.inference.frames import MediaFrame
from tasks.inference.results.annotator import AnnotatedImage, Annotator
from tasks.inference.results.summary import Failure
from tasks.inference.work_plan import Chunk, MediaSource
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb


@dataclass(frozen=True, eq=False)
class ChunkContext:
    """A chunk at work: who draws for it, and how many pictures it has, as far as headers tell."""

    chunk: Chunk
    painter: Annotator
    pictures: int


@dataclass(frozen=True, eq=False)
class WorkItem:
    """A still image that a thread is to read, or a picture (or why there is none) of a `file` that was opened."""

    portion: ChunkContext
    source: MediaSource
    file: Path | None = None
    picture: MediaFrame | Failure | None = None

    @property
    def memory(self) -> int:
        """Bytes that it holds while it waits: those of a frame that is decoded already."""
        return self.picture.memory if isinstance(self.picture, MediaFrame) and self.picture.position else 0


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """A picture, done: a still image with what was painted, or a frame as it goes into the film.

    `small` is the smallest copy of a frame that is at hand, nothing drawn on it.
    """

    found: Detections
    painted: AnnotatedImage | None = None
    frame: Rgb | None = None
    small: Rgb | None = None


@dataclass(frozen=True, eq=False)
class ItemResult:
    """An item and what came of it."""

    item: WorkItem
    seen: PredictedImage | Failure


@dataclass(frozen=True)
class CompletedChunk:
    """A chunk that is done: its part, and the pictures for people, which lie below `folder` until the next is made."""

    chunk: int
    part: Path
    folder: Path
    pictures: int
    detections: int
