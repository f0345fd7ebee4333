"""What a version has answered lately, from the runs of inference of the last days."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from tasks.dataset.image_stats import check_image
from tasks.errors import StudioError
from tasks.evaluation.corruption import CorruptedFile, write_corrupted
from tasks.evaluation.prediction_file import read_embeddings
from tasks.inference import done_inputs, publication
from tasks.inference.media_inputs import MediaStore
from tasks.inference.postprocess import class_thresholds
from tasks.inference.results.summary import to_valid_unicode
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.monitoring.profiles import Doubles
from tasks.monitoring.window import LookedAt, Window, read_found
from tasks.orchestration.current_run import log_step, now
from tasks.parameters import InferenceParams, MonitoringParams
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.tracking import registry
from tasks.tracking.inference_runs import list_inference_runs
from tasks.tracking.registry import ModelVersion
from tasks.training.job import PredictionJob
from tasks.training.process import run_job
from tasks.vision.detections import Detections

_READERS = 4  # images at a time: each may take hundreds of megabytes
_LARGEST = 1 << 26  # bytes of an image whose pixels are looked at


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """What a run has found in some images, and where these lie."""

    found: list[Detections]
    sources: Mapping[str, MediaSource]
    least: Doubles
    frames: int


def read_window(version: ModelVersion, monitoring: MonitoringParams, folder: Path) -> Window:
    """Return images that runs of the last days have answered with a version, the newest runs first, each image once.

    Raises:
        StudioError: The object store or MLflow cannot be reached.
    """
    log_step("reading what %s version %d has found in the last %g days", version.name, version.version, monitoring.days)
    rng = np.random.default_rng(monitoring.seed)
    found: dict[str, Detections] = {}
    sources: dict[str, MediaSource] = {}
    least: list[Doubles] = []
    frames = left_out = 0
    for run in _recent_runs(version, monitoring.days):
        if len(found) >= monitoring.images:
            break
        answered = _read_run(run, version, monitoring.images, rng, folder)
        if answered is None:
            left_out += 1
            continue
        least.append(answered.least)
        frames += answered.frames
        for each in answered.found[: monitoring.images - len(found)]:
            found.setdefault(each.source, each)
        sources = {**answered.sources, **sources}  # as the newest run has read them
    limits = np.max(least, axis=0) if least else np.zeros(len(version.class_names))
    window = Window(found=tuple(found.values()), least=limits, runs=len(least))
    return _look_at(window, sources, monitoring.pictures, rng, folder, _remarks(left_out, frames))


def _recent_runs(version: ModelVersion, days: float) -> Iterator[str]:
    begin = now() - timedelta(days=days)
    for run in list_inference_runs(version.name):
        if run.created < begin:
            return
        if version.version in run.versions and publication.is_published(run.flow_run_id):
            yield run.flow_run_id


def _read_run(run: str, version: ModelVersion, most: int, rng: np.random.Generator, folder: Path) -> _Answered | None:
    """None if its detections are not those that the version makes of its validation images."""
    inference = publication.find_parameters(run)
    if inference is None or inference.tiles is not None or inference.iou != InferenceParams().iou:
        return None
    results = publication.fetch_results(run, folder)
    found, frames = read_found(results, version.version, version.task, len(version.class_names), most, rng)
    try:
        sources = {to_valid_unicode(source.name): source for source in done_inputs.read_answered(run) or ()}
    except StudioError:  # of an earlier release: the pixels cannot be looked at
        sources = {}
    least = class_thresholds(version.class_names, inference).astype(np.float64)
    return _Answered(found=found, sources=sources, least=least, frames=frames)


def _remarks(left_out: int, frames: int) -> tuple[str, ...]:
    remarks = []
    if left_out:
        remarks.append(
            f"Runs of inference that are left out: {left_out:,}. Their parameters are not known, or differ in tiles or "
            "iou from how the validation images are predicted."
        )
    if frames:
        remarks.append(f"Frames of videos that are left out, as they resemble each other: {frames:,}.")
    return tuple(remarks)


def _look_at(
    window: Window,
    sources: Mapping[str, MediaSource],
    most: int,
    rng: np.random.Generator,
    folder: Path,
    remarks: tuple[str, ...],
) -> Window:
    """Return the window with the looks of at most `most` images, drawn at random, which are written to the folder."""
    known = [number for number, each in enumerate(window.found) if each.source in sources]
    chosen = sorted(rng.permutation(known)[:most].tolist()) if known else []
    store = MediaStore()
    folder.mkdir(parents=True, exist_ok=True)

    def look(number: int) -> LookedAt | None:
        source = sources[window.found[number].source]
        if source.size > _LARGEST:
            return None
        try:
            data = store.read(source)
        except (MediaError, ObjectChangedError):
            return None
        path = folder / f"{number:06d}.{source.name.rpartition('.')[2].lower()[:5]}"
        stats, _ = check_image(data, path.name)
        if stats is None:
            return None
        path.write_bytes(data)
        return LookedAt(path=path, stats=stats)

    with ThreadPoolExecutor(_READERS) as pool:
        seen = dict(zip(chosen, pool.map(look, chosen), strict=True))
    looked_at = {number: each for number, each in seen.items() if each is not None}
    if len(looked_at) < len(chosen):
        gone = len(chosen) - len(looked_at)
        remarks = (*remarks, f"Images that are gone, have changed, or are too large to be looked at: {gone:,}.")
    return replace(window, looked_at=looked_at, remarks=remarks)


def embed(window: Window, version: ModelVersion, device: str | None, folder: Path) -> Window:
    """Return the window with the embeddings of the images that were looked at, made as those of the reference are.

    Raises:
        StudioError: The version cannot predict.
    """
    folder.mkdir(parents=True)
    shown = {}
    for number, each in window.looked_at.items():
        path = folder / f"{number:06d}.png"
        with suppress(MediaError):  # it was looked at in grey
            write_corrupted(CorruptedFile(each.path, path, version.image_size, None, 0))
            shown[number] = path
    if not shown:
        return window
    log_step("making embeddings of %d images", len(shown))
    weights = registry.fetch_weights(version, folder / "weights")
    job = PredictionJob(
        weights=weights,
        task=version.task,
        image_size=version.image_size,
        chunks=(tuple(shown.values()),),
        predictions=(folder / "found.zip",),
        embeddings=(folder / "embeddings.npy",),
        folder=folder,
        device=device,
    )
    if failure := run_job(job, lambda _: None):
        raise StudioError(f"{version.name} version {version.version} could not make embeddings: {failure.reason}")
    rows = zip(shown, read_embeddings(job.embeddings).astype(np.float64), strict=True)
    embedded = {number: replace(window.looked_at[number], embedding=row) for number, row in rows}
    return replace(window, looked_at={**window.looked_at, **embedded})
