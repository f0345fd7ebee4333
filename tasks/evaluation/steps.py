"""Steps of an evaluation: unpack the images, and have a version predict in a process of its own."""

import hashlib
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from prefect import get_run_logger

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation.corruption import ALL_CORRUPTIONS, Corruption, plan_corrupted, write_corrupted
from tasks.evaluation.labelled_images import EvaluationSet, unpack_split
from tasks.evaluation.prediction_file import read_predictions
from tasks.files import sha256_of, write_atomically
from tasks.merge.steps import ValidArchive
from tasks.orchestration.artifacts import RunProgress
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.step import retried_step, step
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.training.job import PredictedChunk, PredictionJob, TrainerEvent
from tasks.training.process import run_job
from tasks.vision.detections import Detections

CHUNK = 100  # images: as many as a killed run predicts again
_MAX_CORRUPTING = 4  # processes: each takes 0.4 GB for images of 640 pixels, and 0.8 GB for 1280


@step
def unpack_images(archive: ValidArchive, split: str, folder: Path) -> EvaluationSet:
    """Unpack a split of an archive into the fresh `folder`, with its labels.

    Raises:
        StudioError: There are no images, or no labels.
    """
    return unpack_split(archive, split, folder)


@step
def corrupt_images(
    data: EvaluationSet,
    count: int,
    side: int,
    seed: int,
    folder: Path,
    corruptions: Sequence[Corruption] = ALL_CORRUPTIONS,
) -> EvaluationSet:
    """Write `count` images of a set, drawn by the seed, into the fresh `folder`: clean, then of each corruption.

    Returns:
        The set of all these files; `side` is the longest in pixels.

    Raises:
        StudioError: An image cannot be read, the disk is full, or a process ran out of memory.
    """
    folder.mkdir(parents=True)
    chosen = sorted(random.Random(seed).sample(range(len(data.images)), min(count, len(data.images))))  # noqa: S311
    images = [data.images[number] for number in chosen]
    files = list(plan_corrupted([image.path for image in images], folder, side, seed, corruptions))
    progress = RunProgress("corrupted images")
    workers = min(os.cpu_count() or 1, _MAX_CORRUPTING)
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for done, _ in enumerate(pool.map(write_corrupted, files, chunksize=8), 1):
                progress(done / len(files), done)
    except (BrokenProcessPool, OSError) as error:
        fix = "See that the machine has memory and disk left, or corrupt fewer images."
        found = safe_repr(str(error), 300)
        raise StudioError(expected_found_fix(f"{len(files)} corrupted images", found, fix)) from error
    rounds = zip(files, images * (len(files) // len(images)), strict=True)
    return replace(data, images=tuple(replace(image, path=file.target) for file, image in rounds))


class Predictions:
    """What a version found in the images of a set, in files: one image is in memory at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __iter__(self) -> Iterator[Detections]:
        for file in self._files:
            yield from read_predictions(file)


class Version(Protocol):
    """A version that predicts, as the registry describes it; `image_size` is in pixels."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def task(self) -> str:
        """The task of its model."""

    @property
    def image_size(self) -> int:
        """The longest side that it takes."""


def predict(
    data: EvaluationSet, version: Version, weights: Path, device: str | None, kind: str, folder: Path
) -> Predictions:
    """Return what a version finds in the images of a set, with files in the fresh `folder`.

    What is predicted is kept in bucket `runs` as `RUN/KIND/version-N-CONTENT/`: a run that is tried again goes on after
    it, but for images or weights that were replaced meanwhile.

    Raises:
        StudioError: The version cannot predict, or the object store cannot be reached.
    """
    return predict_files([image.path for image in data.images], version, weights, device, kind, folder)


def predict_files(
    paths: Sequence[Path], version: Version, weights: Path, device: str | None, kind: str, folder: Path
) -> Predictions:
    """Return what a version finds in image files, as `predict` does in those of a set.

    Raises:
        StudioError: The version cannot predict, or the object store cannot be reached.
    """
    log_step("version %d predicts %d images", version.version, len(paths))
    job = prediction_job(paths, weights, version.task, version.image_size, device, folder)
    content = content_digest((weights, *paths))
    return predict_images(job, f"{flow_run_id()}/{kind}/version-{version.version}-{content}/")


@retried_step
def predict_images(job: PredictionJob, prefix: str) -> Predictions:
    """Do the job, but for what an earlier attempt has left in bucket `runs` under `prefix`, where each file is kept.

    Raises:
        StudioError: The version cannot predict.
    """
    kept = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)
    for key in kept.keys(prefix):
        path = job.predictions[0].with_name(key.rpartition("/")[2])
        if path in (*job.predictions, *job.embeddings) and not path.exists():
            with write_atomically(path) as unfinished:
                kept.download(key, unfinished)
    total = sum(map(len, job.chunks))
    there = sum(len(chunk) for number, chunk in enumerate(job.chunks) if job.is_done(number))
    progress = RunProgress("images")
    done = 0

    def take(events: Sequence[TrainerEvent]) -> None:
        nonlocal done
        for event in events:
            if isinstance(event, PredictedChunk):
                for file in job.files(event.number):
                    kept.upload(file, f"{prefix}{file.name}")
                done += event.images
                progress((there + done) / total, done)

    failure = run_job(job, take)
    if failure is not None:
        get_run_logger().error("the end of its output:\n%s", failure.output)
        raise StudioError(f"{job.weights.name} could not predict the images: {failure.reason}")
    return Predictions(job.predictions)


def content_digest(paths: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits of what is in these files, in their order."""
    return hashlib.sha256("".join(map(sha256_of, paths)).encode()).hexdigest()[:16]


def prediction_job(
    paths: Sequence[Path], weights: Path, task: str, image_size: int, device: str | None, folder: Path
) -> PredictionJob:
    """Return the job that has weights predict image files, in the fresh `folder`."""
    folder.mkdir(parents=True)
    chunks = tuple(tuple(paths[first : first + CHUNK]) for first in range(0, len(paths), CHUNK))
    return PredictionJob(
        weights=weights,
        task=task,
        image_size=image_size,
        chunks=chunks,
        predictions=tuple(folder / f"{number:06d}.zip" for number in range(len(chunks))),
        folder=folder,
        device=device,
    )
