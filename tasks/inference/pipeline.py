"""Chunk after chunk: sources side by side through Triton, in order into the part of their chunk."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from shutil import rmtree

from tasks.errors import StudioError
from tasks.inference.concurrency import one_ahead, ordered_map
from tasks.inference.frames import expand
from tasks.inference.predictor import Looking, MediaReader
from tasks.inference.result_writer import Keeper
from tasks.inference.results.annotator import Painter
from tasks.inference.results.summary import WARNING, Failure
from tasks.inference.work_items import Item, Made, Outcome, Portion
from tasks.inference.work_plan import Chunk
from tasks.media.file_type import Kind
from tasks.media.video_reader import frame_count

FRAMES_MEMORY = 256 << 20  # bytes of decoded frames on their way through the pipe


def work(
    chunks: Iterable[Chunk], media: MediaReader, looking: Looking, keeper: Keeper, folder: Path
) -> Generator[Made]:
    """Yield each chunk when it is done, in the order given; the next ones are under way meanwhile.

    Everything is written below `folder`. Raises what stops all of them: a store or a Triton that stays away, and a
    version that is served no longer.
    """
    threads = looking.threads
    items = _items(chunks, media, looking, folder)
    outcomes = ordered_map(
        partial(_look, looking),
        items,
        threads=threads,
        window=2 * threads,
        weight=lambda item: item.memory,
        most=FRAMES_MEMORY,
    )
    with closing(outcomes):
        for _, group in groupby(outcomes, key=lambda outcome: outcome.item.portion.chunk.number):
            made = keeper.part(group)
            yield made
            made.part.unlink(missing_ok=True)
            rmtree(made.folder, ignore_errors=True)


def _items(chunks: Iterable[Chunk], media: MediaReader, looking: Looking, folder: Path) -> Iterator[Item]:
    params, names = looking.params, looking.model.class_names
    for chunk, files in one_ahead(partial(_fetched, media, folder / "fetched"), chunks):
        own = {"annotate": params.annotate, "copies": params.keeps_images}
        painter = Painter(folder / f"{chunk.number:06d}", chunk.number, names, **own)
        frames = (frame_count(file) // params.frame_step for file in files.values() if isinstance(file, Path))
        portion = Portion(chunk, painter, len(chunk.sources) - len(files) + sum(frames))
        for source in chunk.sources:
            file = files.get(source.name)
            if source.note:
                yield Item(portion, source, picture=Failure(source.name, source.note, WARNING))
            elif file is None:
                yield Item(portion, source)
            elif isinstance(file, Failure):
                yield Item(portion, source, picture=file)
            else:
                for picture in expand(source.name, file, params.frame_step, folder):
                    yield Item(portion, source, file, picture)


def _fetched(media: MediaReader, folder: Path, chunk: Chunk) -> dict[str, Path | Failure]:
    """Videos, and what may be one, on this disk: a decoder goes to and fro in them."""
    files: dict[str, Path | Failure] = {}
    for number, source in enumerate(chunk.sources):
        if source.kind is Kind.IMAGE or source.note:
            continue
        path = folder / f"{chunk.number:06d}-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            media.fetch(source, path)
            files[source.name] = path
        except StudioError as error:
            if error.passing:
                raise
            files[source.name] = Failure(source.name, str(error))
    return files


def _look(looking: Looking, item: Item) -> Outcome:
    picture = item.picture
    if isinstance(picture, Failure):
        return Outcome(item, picture)
    if picture is None:
        return Outcome(item, looking.image(item.source, item.portion.painter))
    look = looking.still if picture.moment is None else looking.frame
    return Outcome(item, look(picture, item.portion.painter))
