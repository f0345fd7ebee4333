"""Files to tables, and film to film, through the runtime that is quickest here, beside each of their parts alone.

There is no Triton, so the predictor of `run-inference`, which asks one, is left out; its decoding, letterboxing, boxes,
rows, drawing and encoding are in their place. Without PyAV OpenCV decodes and encodes films, without pyarrow rows are
written as CSV: both are too large to carry.
"""

import csv
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tasks.inference.postprocess import to_detections
from tasks.media.annotate import annotate_image
from tasks.media.images import decode_image
from tasks.parameters import InferenceParams
from tasks.serving.pre_postprocess import preprocess
from tasks.serving.served_model import ServedModel
from tasks.vision.detections import Detections
from tasks.vision.geometry import Letterbox, Rgb
from tests.gpu_proof.drawn import CLASSES, jpegs, pictures
from tests.gpu_proof.runtimes import Outputs, answers
from tests.gpu_proof.serving import asked, quickest, rate_of
from tests.gpu_proof.setup import Figure, Outcome, Setup, require

SMALL, FILM = (640, 480), (1280, 720)
RATE = 25.0
CORES = len(os.sched_getaffinity(0))
ROUNDS = 2
Square = tuple[Rgb, Letterbox]


def pipe(setup: Setup) -> Outcome:
    """JPEG -> letterbox -> model -> boxes -> rows of a table, beside the model alone and the decoder alone."""
    bodies = jpegs(*SMALL)
    squares = [preprocess(decode_image(body), "detect", setup.scale.image_size)[0] for body in bodies]
    name, runtime, batch = quickest(setup, squares)
    model = _served_model(setup)
    params = InferenceParams.model_validate({})
    path = setup.folder / ("predictions.parquet" if find_spec("pyarrow") else "predictions.csv")
    sources = list(islice(cycle(bodies), setup.scale.jpegs))
    alone = {"the runtime alone": list[float](), "the decoder alone": list[float]()}
    rates = list[float]()
    with ThreadPoolExecutor(CORES) as pool:

        def prepare(body: bytes) -> Square:
            return preprocess(decode_image(body), "detect", setup.scale.image_size)

        def finish(number: int, outputs: Outputs, letterbox: Letterbox) -> Detections:
            return to_detections(outputs, model, letterbox, params, f"{number:06d}.jpg")

        for _ in range(ROUNDS):
            alone["the runtime alone"].append(rate_of(asked(runtime, squares, batch), batch, setup.scale.seconds))
            began = time.perf_counter()
            for _ in _ahead(pool, prepare, sources, 4 * CORES):
                pass
            alone["the decoder alone"].append(len(sources) / (time.perf_counter() - began))
            began = time.perf_counter()
            prepared = _ahead(pool, prepare, sources, 4 * batch)
            rows = _write_rows(path, model, _in_batches(pool, runtime, prepared, batch, finish))
            rates.append(len(sources) / (time.perf_counter() - began))
    runtime.close()
    require(path.stat().st_size > 0, f"expected rows in {path.name}, found none")
    rate, against, limit = _beside(rates, alone)
    return Outcome(
        sentence=f"{name}, {batch} together, {CORES} cores: {rows} rows of {len(sources)} images in {path.name}",
        figures=[
            *(Figure(what=what, value=np.median(each), unit="images/s") for what, each in alone.items()),
            Figure(what="JPEG 640x480 -> table", value=rate, unit="images/s", against=against, limit=limit),
        ],
    )


def video(setup: Setup) -> Outcome:
    """Film -> model -> drawn boxes -> film, beside the decoder, the model and the encoder alone."""
    scenes = pictures(*FILM)
    clip, film = setup.folder / "clip.mp4", setup.folder / "film.mp4"
    count = setup.scale.frames
    with _writer(clip) as write:
        for number, scene in enumerate(islice(cycle(scenes), count)):
            write(scene, 1000 * number / RATE)
    squares = [preprocess(scene, "detect", setup.scale.image_size)[0] for scene in scenes]
    name, runtime, batch = quickest(setup, squares)
    model = _served_model(setup)
    params = InferenceParams.model_validate({})
    alone = {f"the {part} alone": list[float]() for part in ("decoder", "runtime", "encoder")}
    rates = list[float]()
    with ThreadPoolExecutor(CORES) as pool:

        def prepare(frame: Rgb) -> tuple[Rgb, Square]:
            return frame, preprocess(frame, "detect", setup.scale.image_size)

        def draw(frame: Rgb, outputs: Outputs, letterbox: Letterbox) -> Rgb:
            return annotate_image(frame, to_detections(outputs, model, letterbox, params, "clip.mp4"), CLASSES)

        for _ in range(ROUNDS):
            began = time.perf_counter()
            decoded = sum(1 for _ in _read(clip))
            alone["the decoder alone"].append(decoded / (time.perf_counter() - began))
            require(decoded == count, f"expected {count} frames of the clip, found {decoded}")
            alone["the runtime alone"].append(rate_of(asked(runtime, squares, batch), batch, setup.scale.seconds))
            began = time.perf_counter()
            with _writer(film) as write:
                for number, scene in enumerate(islice(cycle(scenes), count)):
                    write(scene, 1000 * number / RATE)
            alone["the encoder alone"].append(count / (time.perf_counter() - began))
            began = time.perf_counter()
            with _writer(film) as write:
                frames = _ahead(pool, prepare, _read(clip), 2 * batch)
                for number, frame in enumerate(_drawn(pool, runtime, frames, batch, draw)):
                    write(frame, 1000 * number / RATE)
            rates.append(count / (time.perf_counter() - began))
    runtime.close()
    written = sum(1 for _ in _read(film))
    require(written == count, f"expected {count} frames of the annotated film, found {written}")
    rate, against, limit = _beside(rates, alone)
    tool = "PyAV, H.264" if find_spec("av") else "OpenCV, MPEG-4"
    return Outcome(
        sentence=f"{name}, {batch} together, {CORES} cores, {tool}: {count} frames of {FILM[0]}x{FILM[1]}",
        figures=[
            *(Figure(what=what, value=np.median(each), unit="frames/s") for what, each in alone.items()),
            Figure(what="film -> annotated film", value=rate, unit="frames/s", against=against, limit=limit),
        ],
    )


def _beside(rates: Sequence[float], alone: dict[str, list[float]]) -> tuple[float, str, float]:
    """The rate, the slowest part by name, and its rate: medians of the rounds."""
    medians = {what: float(np.median(each)) for what, each in alone.items()}
    slowest = min(medians, key=lambda what: medians[what])
    return float(np.median(rates)), slowest, medians[slowest]


def _served_model(setup: Setup) -> ServedModel:
    return ServedModel(
        name="proof", version=1, task="detect", image_size=setup.scale.image_size, class_names=CLASSES, run_id=""
    )


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any], most: int) -> Iterator[Any]:
    """Yield the results in order; at most so many are made or wait."""
    waiting: list[Future[Any]] = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.pop(0).result()
    for each in waiting:
        yield each.result()


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _in_batches(
    pool: ThreadPoolExecutor, runtime: Any, prepared: Iterable[Square], size: int, finish: Callable[..., Detections]
) -> Iterator[Detections]:
    """Yield what is found in each image; boxes of one batch are made while the model has the next."""
    waiting: list[Future[Detections]] = []
    number = 0
    for batch in _batches(prepared, size):
        outputs = answers(runtime, [square for square, _ in batch])
        done, waiting = waiting, []
        for each, (_, letterbox) in zip(outputs, batch, strict=True):
            waiting.append(pool.submit(finish, number, each, letterbox))
            number += 1
        yield from (each.result() for each in done)
    yield from (each.result() for each in waiting)


def _drawn(
    pool: ThreadPoolExecutor,
    runtime: Any,
    prepared: Iterable[tuple[Rgb, Square]],
    size: int,
    draw: Callable[[Rgb, Outputs, Letterbox], Rgb],
) -> Iterator[Rgb]:
    waiting: list[Future[Rgb]] = []
    for batch in _batches(prepared, size):
        outputs = answers(runtime, [square for _, (square, _) in batch])
        done, waiting = waiting, []
        for each, (frame, (_, letterbox)) in zip(outputs, batch, strict=True):
            waiting.append(pool.submit(draw, frame, each, letterbox))
        yield from (each.result() for each in done)
    yield from (each.result() for each in waiting)


def _write_rows(path: Path, model: ServedModel, found: Iterable[Detections]) -> int:
    """Write a row for each detection; returns how many there are."""
    rows = 0
    if path.suffix == ".parquet":
        from tasks.inference.results.parquet import ParquetTableWriter, schema, to_table

        columns = schema("detect", tracked=False)
        with ParquetTableWriter(path, columns) as writer:
            for detections in found:
                writer.add(to_table([detections], model, columns))
                rows += len(detections)
        return rows
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        for detections in found:
            values = zip(detections.class_id, detections.confidence, detections.xyxy, strict=True)
            table.writerows((detections.source, number, score, *box) for number, score, box in values)
            rows += len(detections)
    return rows


def _read(path: Path) -> Iterator[Rgb]:
    if find_spec("av"):
        from tasks.media.video_reader import decode_frames, to_upright_rgb

        for _, _, frame in decode_frames(path):
            yield to_upright_rgb(frame)
        return
    film = cv2.VideoCapture(str(path))
    while True:
        is_read, pixels = film.read()
        if not is_read:
            return
        yield np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _writer(path: Path) -> AbstractContextManager[Callable[[Rgb, float], None]]:
    return _write_h264(path) if find_spec("av") else _write_mpeg4(path)


@contextmanager
def _write_h264(path: Path) -> Iterator[Callable[[Rgb, float], None]]:
    from tasks.media.video_writer import VideoWriter

    with VideoWriter(path) as film:
        yield film.write


@contextmanager
def _write_mpeg4(path: Path) -> Iterator[Callable[[Rgb, float], None]]:
    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, FILM)
    require(film.isOpened(), "expected OpenCV to encode MPEG-4, found no such encoder")

    def write(frame: Rgb, _: float) -> None:
        film.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    yield write
    film.release()
