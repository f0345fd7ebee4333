"""Batch inference, the client's half: pictures in, Triton asked, boxes on the original and results in a folder out."""

import logging
import os
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast
from uuid import UUID

import cv2
import httpx
import numpy as np
import tritonclient.grpc as triton
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException
from tritonclient.utils import InferenceServerException

from tasks.core.detections import Detections
from tasks.core.errors import StudioError
from tasks.core.geometry import Floats, Letterbox, Rgb
from tasks.core.media import MediaError, Picture, estimate, pictures
from tasks.core.parameters import InferenceParams
from tasks.core.pictures import Clip, Painter
from tasks.core.pipe import ordered_map
from tasks.core.served import ServedModel
from tasks.core.settings import Settings
from tasks.core.sinks import Results
from tasks.core.summary import Failure, GalleryItem, InferenceSummary, Tally

REQUEST_TIMEOUT_S = 60.0
PATIENCE_S = 30.0
PROGRESS_EVERY_S = 2.0

_TRANSIENT = frozenset(f"StatusCode.{name}" for name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"))
# Own arguments drop the client's: the message limits are its own, and without the last one a channel that lost its
# server looks for it again only after up to two minutes.
_CHANNEL = [
    ("grpc.max_send_message_length", triton.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", triton.MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class InferenceError(StudioError):
    """Triton did not answer, or not as the contract says; what was done until then is kept in the folder."""


class TritonDetector:
    """One client for all threads, pinned to one version, with at most `in_flight` requests at a time."""

    def __init__(self, url: str, model: ServedModel, in_flight: int) -> None:
        self._url = url
        self._model = model
        self._client = triton.InferenceServerClient(url, channel_args=_CHANNEL)
        self._slots = threading.BoundedSemaphore(in_flight)
        self._given_up = threading.Event()
        self._fault = ""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def infer(self, square: Rgb) -> Floats:
        """Return the served [300, 6] array for one letterboxed [S, S, 3] picture.

        Transient errors are retried for `PATIENCE_S` seconds. Raise InferenceError after that, and at once for others.
        """
        request = triton.InferInput("images", [1, *square.shape], "UINT8")
        request.set_data_from_numpy(square[None])
        with self._slots:
            answer = self._ask(request).as_numpy("detections")
        if answer is None or answer.ndim != 3:
            raise self._error("an answer without an output `detections` of shape [1, 300, 6]")
        return np.asarray(answer[0], np.float32)

    def _ask(self, request: triton.InferInput) -> triton.InferResult:
        pause, give_up_at = 0.1, None
        while not self._given_up.is_set():
            try:
                return self._client.infer(
                    self._model.name, [request], str(self._model.version), client_timeout=REQUEST_TIMEOUT_S
                )
            except InferenceServerException as error:
                now = time.monotonic()
                give_up_at = give_up_at or now + PATIENCE_S
                if error.status() not in _TRANSIENT or now + pause > give_up_at:
                    # One thread has waited for all: the others need not wait as long again.
                    self._fault = f"{error.status()}: {error.message()}"
                    self._given_up.set()
                    raise self._error(self._fault) from error
            self._given_up.wait(pause)
            pause = min(pause * 2, 2.0)
        raise self._error(self._fault)

    def _error(self, found: str) -> InferenceError:
        return InferenceError(
            f"expected Triton at {self._url} to answer for {self._model.name} version {self._model.version}, found "
            f"{found}. See whether Triton is up (`make status`, `make up`) and serves that version (if not, run "
            "deploy_model), then retry this run"
        )


@dataclass(frozen=True)
class Outcome:
    """One picture, done: the gallery item of a still image, or the frame of a video, drawn where that is wanted."""

    found: Detections
    item: GalleryItem | None
    image: Rgb | None

    @property
    def source(self) -> str:
        """The input it belongs to."""
        return self.found.source


@dataclass(frozen=True)
class Detecting:
    """What happens to one picture, in whatever thread."""

    detector: TritonDetector
    painter: Painter
    image_size: int
    params: InferenceParams

    def __call__(self, picture: Picture | Failure) -> Outcome | Failure:
        """Decode, letterbox, ask, map back and draw; a picture that cannot be had becomes a failure."""
        if isinstance(picture, Failure):
            return picture
        try:
            image = picture.load()
            found = self._detect(picture, image)
            if picture.moment is None:
                return Outcome(found, self.painter.save_image(image, found), None)
            return Outcome(found, None, self.painter.draw(image, found) if self.painter.annotate else image)
        except (MediaError, cv2.error) as error:
            return Failure(picture.source, str(error))

    def _detect(self, picture: Picture, image: Rgb) -> Detections:
        letterbox = Letterbox.fit(image.shape[1], image.shape[0], self.image_size)
        output = self.detector.infer(letterbox.apply(image))
        return Detections.from_served(output, letterbox, self.params, picture.source, picture.moment)


class Progress:
    """The progress artifact of a task run, brought up to date at most every `PROGRESS_EVERY_S`; nothing outside one."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self._total = max(total, 1)
        self._started = self._told = time.monotonic()
        self._artifact: UUID | None = None
        if TaskRunContext.get():
            with suppress(PrefectException, httpx.HTTPError):
                # The signature's Coroutine is for callers in an event loop, where this never runs.
                text = f"inference over about {total} pictures"
                self._artifact = cast("UUID", create_progress_artifact(0.0, description=text))

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started

    def step(self) -> None:
        """Count one picture."""
        self.done += 1
        if time.monotonic() - self._told >= PROGRESS_EVERY_S:
            # The total is an estimate from headers: 100 is said only at the end.
            self._tell(min(99.0, 100 * self.done / self._total))

    def finish(self) -> None:
        """Say that all is done."""
        self._tell(100.0)

    def _tell(self, percent: float) -> None:
        self._told = time.monotonic()
        if self._artifact is None:
            return
        rate = self.done / max(self.seconds, 1e-9)
        left = max(self._total - self.done, 0) / max(rate, 1e-9) if percent < 100 else 0
        # A progress bar is never worth a run.
        with suppress(PrefectException, httpx.HTTPError):
            text = f"{self.done} of about {self._total} pictures, {rate:.1f} images/s, {left:.0f} s left"
            update_progress_artifact(self._artifact, percent, text)


@task(name="detect", cache_policy=NO_CACHE)
def detect(
    model: ServedModel, media: list[tuple[str, Path]], folder: Path, params: InferenceParams
) -> InferenceSummary:
    """Run the model over images, videos and zips of images, and write the results into `folder`.

    `media` pairs the name that the user knows (an S3 key, say) with a local file. Written are `predictions.parquet`,
    `coco.json`, `failures.jsonl`, `thumbnails/` and, with `params.annotate`, `annotated/`, all in the order of `media`.
    An input that cannot be read is a failure and stops nothing. Raise InferenceError where Triton stays away or breaks
    the contract; the files then hold, whole, what was done before.
    """
    # Globs that overlap name a file twice; that is no fault.
    media = list(dict.fromkeys(media))
    log = _logger()
    log.info("inference: %d inputs with %s version %d", len(media), model.name, model.version)
    tally, progress = Tally(model.class_names), Progress(estimate(media))
    painter = Painter(folder, model.class_names, annotate=params.annotate)
    with closing(TritonDetector(Settings().triton_grpc_url, model, params.in_flight)) as detector:
        outcomes = _outcomes(pictures(media), Detecting(detector, painter, model.image_size, params))
        with closing(outcomes), Results(folder, model) as results:
            _gather(outcomes, results, tally, painter, progress)
    progress.finish()
    summary = tally.summary(progress.seconds)
    log.info(
        "inference: %d images and %d video frames, %d detections, %d failures, %.1f images/s",
        *(summary.images, summary.frames, summary.detections, len(summary.failures), summary.images_per_second),
    )
    return summary


def _outcomes(found: Iterable[Picture | Failure], detecting: Detecting) -> Generator[Outcome | Failure]:
    # Decoding wants threads beside those that wait for Triton; more than cores would only hold more pictures.
    threads = detecting.params.in_flight + min(os.cpu_count() or 1, 8)
    return ordered_map(detecting, found, threads=threads, window=threads + 2)


def _gather(
    outcomes: Iterable[Outcome | Failure], results: Results, tally: Tally, painter: Painter, progress: Progress
) -> None:
    for source, group in groupby(outcomes, key=lambda outcome: outcome.source):
        with Clip(painter, source) as clip:
            for outcome in group:
                _keep(outcome, results, tally, clip)
                progress.step()
        if clip.frames:
            tally.items.append(clip.item())
        if clip.failure:
            _fail(clip.failure, results, tally)


def _keep(outcome: Outcome | Failure, results: Results, tally: Tally, clip: Clip) -> None:
    if isinstance(outcome, Failure):
        _fail(outcome, results, tally)
        return
    results.add(outcome.found)
    tally.add(outcome.found)
    if outcome.item is not None:
        tally.items.append(outcome.item)
    if outcome.image is not None:
        clip.add(outcome.image, outcome.found)


def _fail(failure: Failure, results: Results, tally: Tally) -> None:
    results.fail(failure)
    tally.failures.append(failure)


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    return get_run_logger() if TaskRunContext.get() else logging.getLogger(__name__)
