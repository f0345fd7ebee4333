"""Chunk after chunk: sources side by side through Triton, in order into the part of their chunk."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from shutil import rmtree

from tasks.errors import StudioError
from tasks.inference.concurrency import ordered_map, prefetch_map
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
    chunks: Iterable[Chunk], media: MediaReader, looking: Predictor, keeper: ResultWriter, folder: Path
) -> Generator[CompletedChunk]:
    """Yield each chunk when it is done, in the order given; the next ones are under way meanwhile.

    Everything is written below `folder`. Raises what stops all of them: a store or a Triton that stays away, and a
    version that is served no longer.
    """
    threads = looking.threads
    items = _items(chunks, media, looking, folder)
    outcomes = ordered_map(
        partial(_predict, looking),
        items,
        threads=threads,
        window=2 * threads,
        weight=lambda item: item.memory,
        most=FRAME_MEMORY_BYTES,
    )
    with closing(outcomes):
        for _, group in groupby(outcomes, key=lambda outcome: outcome.item.portion.chunk.number):
            made = keeper.part(group)
            yield made
            made.part.unlink(missing_ok=True)
            rmtree(made.folder, ignore_errors=True)


def _items(chunks: Iterable[Chunk], media: MediaReader, looking: Predictor, folder: Path) -> Iterator[WorkItem]:
    params, names = looking.params, looking.model.class_names
    for chunk, files in prefetch_map(partial(_fetch_files, media, folder / "fetched"), chunks):
        own = {"annotate": params.annotate, "copies": params.keeps_images}
        painter = Annotator(folder / f"{chunk.number:06d}", chunk.number, names, **own)
        frames = (count_frames(file) // params.frame_step for file in files.values() if isinstance(file, Path))
        portion = ChunkContext(chunk, painter, len(chunk.sources) - len(files) + sum(frames))
        for source in chunk.sources:
            file = files.get(source.name)
            if source.note:
                yield WorkItem(portion, source, picture=Failure(source.name, source.note, WARNING))
            elif file is None:
                yield WorkItem(portion, source)
            elif isinstance(file, Failure):
                yield WorkItem(portion, source, picture=file)
            else:
                for picture in iter_frames(source.name, file, params.frame_step, folder):
                    yield WorkItem(portion, source, file, picture)


def _fetch_files(media: MediaReader, folder: Path, chunk: Chunk) -> dict[str, Path | Failure]:
    """Videos, and what may be one, on this disk: a decoder goes to and fro in them."""
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
            files[source.name] = Failure(source.name, str(error))
    return files


def _predict(looking: Predictor, item: WorkItem) -> ItemResult:
    picture = item.picture
    if isinstance(picture, Failure):
        return ItemResult(item, picture)
    if picture is None:
        return ItemResult(item, looking.image(item.source, item.portion.painter))
    look = looking.still if picture.position is None else looking.frame
    return ItemResult(item, look(picture, item.portion.painter))
