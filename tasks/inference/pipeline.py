"""Chunk after chunk: sources side by side through Triton, in order into the result of their chunk."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from shutil import rmtree

from tasks.errors import StudioError
from tasks.inference.concurrency import ordered_map
from tasks.inference.frames import iter_frames
from tasks.inference.predictor import MediaReader, Predictor
from tasks.inference.result_writer import ResultWriter
from tasks.inference.results.annotator import Annotator
from tasks.inference.results.summary import WARNING, Failure
from tasks.inference.work_items import ChunkContext, CompletedChunk, ItemResult, WorkItem
from tasks.inference.work_plan import Chunk
from tasks.media.file_type import MediaKind
from tasks.media.video_reader import count_frames

FRAME_MEMORY_BYTES = 256 << 20  # bytes of decoded frames on their way through the pipe


def run_chunks(
    chunks: Iterable[Chunk], media: MediaReader, predictor: Predictor, writer: ResultWriter, folder: Path
) -> Generator[CompletedChunk]:
    """Yield each chunk when it is done, in the order given; the next ones are in work meanwhile.

    Everything is written below `folder`.

    Raises:
        StudioError: All of them are stopped: the store or Triton stays away, or the version is served no longer.
    """
    results = ordered_map(
        partial(_predict, predictor),
        _items(chunks, media, predictor, folder),
        threads=predictor.threads,
        window=2 * predictor.threads,
        weight=lambda item: item.memory,
        most=FRAME_MEMORY_BYTES,
    )
    with closing(results):
        for _, group in groupby(results, key=lambda result: result.item.context.chunk.number):
            completed = writer.write(group)
            yield completed
            completed.part.unlink(missing_ok=True)
            rmtree(completed.folder, ignore_errors=True)


def _items(chunks: Iterable[Chunk], media: MediaReader, predictor: Predictor, folder: Path) -> Iterator[WorkItem]:
    params = predictor.params
    fetch = partial(_fetch_files, media, folder / "fetched")
    for chunk, files in ordered_map(lambda chunk: (chunk, fetch(chunk)), chunks, threads=1, window=2):
        annotator = Annotator(
            folder / f"{chunk.number:06d}",
            chunk.number,
            predictor.model.class_names,
            annotate=params.annotate,
            copies=params.keeps_images,
        )
        frames = (count_frames(file) // params.frame_step for file in files.values() if isinstance(file, Path))
        images = len(chunk.sources) - len(files) + sum(frames)
        context = ChunkContext(chunk=chunk, annotator=annotator, images=images)
        for source in chunk.sources:
            file = files.get(source.name)
            if source.note:
                file = Failure(source=source.name, reason=source.note, severity=WARNING)
            if isinstance(file, Path):
                for frame in iter_frames(source.name, file, params.frame_step, folder):
                    yield WorkItem(context=context, source=source, file=file, frame=frame)
            else:
                yield WorkItem(context=context, source=source, frame=file)


def _fetch_files(media: MediaReader, folder: Path, chunk: Chunk) -> dict[str, Path | Failure]:
    """Return the videos of a chunk, and what may be one, as local files by the name of their source."""
    files: dict[str, Path | Failure] = {}
    for number, source in enumerate(chunk.sources):
        if source.kind is MediaKind.IMAGE or source.note:
            continue
        path = folder / f"{chunk.number:06d}-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            media.fetch(source, path)
            files[source.name] = path
        except StudioError as error:
            if error.transient:
                raise
            files[source.name] = Failure(source=source.name, reason=str(error))
    return files


def _predict(predictor: Predictor, item: WorkItem) -> ItemResult:
    if isinstance(item.frame, Failure):
        return ItemResult(item, item.frame)
    return ItemResult(item, predictor.predict(item.frame or item.source, item.context.annotator))
