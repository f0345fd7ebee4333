"""What a version has answered in the last days, in runs of inference and live."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np

from tasks.errors import StudioError, safe_repr
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.corruption import CorruptedFile, write_corrupted
from tasks.evaluation.prediction_file import read_embeddings
from tasks.inference import done_inputs, publication
from tasks.inference.media_inputs import MediaStore
from tasks.inference.postprocess import class_thresholds
from tasks.inference.results.summary import Failure, to_valid_unicode
from tasks.inference.usable_images import UsableImage, read_usable_image, to_usable_image
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.monitoring.comparable import choose_least, confidence_text
from tasks.monitoring.live_log import LiveAnswer, LiveAnswers, read_live_log, read_picture
from tasks.monitoring.profiles import Doubles, looks_of
from tasks.monitoring.window import LookedAt, Window, read_found
from tasks.orchestration.current_run import flow_run_id, log_step, now
from tasks.parameters import InferenceParams, MonitoringParams
from tasks.settings import Settings
from tasks.tracking import registry
from tasks.tracking.inference_runs import InferenceRun, list_inference_runs
from tasks.tracking.registry import ModelVersion
from tasks.vision.detections import Detections

_READERS = 4  # images at a time: each may take hundreds of megabytes
_LARGEST = 1 << 26  # bytes of an image whose pixels are looked at
_NAMED = 3  # images that cannot be looked at, with the reason
_LONGEST = 200  # characters of a name
_KEEPS_LITTLE = 0.5  # mean confidence of the classes: a run that keeps detections from above it keeps little
# Why runs of inference are left out.
_CHOSEN = "Their images were chosen for people to correct, so they are not what the version gets to see."
_INCOMPARABLE = (
    "Their parameters are not known, or differ in tiles or iou or classes from how the validation images are predicted."
)


@dataclass(frozen=True, kw_only=True)
class _Answered:
    """What a run has found in some images, and where these lie."""

    found: list[Detections]
    sources: Mapping[str, MediaSource]
    least: Doubles
    frames: int

    @cached_property
    def images(self) -> dict[Hashable, Detections]:
        """What was found, by image: one that was written over since is another one of the same name."""
        return {(each.source, self._etag(each.source)): each for each in self.found}

    def _etag(self, name: str) -> str | None:
        return self.sources[name].etag if name in self.sources else None


def read_window(version: ModelVersion, monitoring: MonitoringParams, folder: Path) -> Window:
    """Return images that a version has answered in the last days, each once.

    They are of runs of inference, the newest first, and of the live log, if this worker knows one. If both have more
    than there is room for, each gets a half.

    Raises:
        StudioError: The object store or MLflow cannot be reached.
    """
    log_step("reading what %s version %d has found in the last %g days", version.name, version.version, monitoring.days)
    rng = np.random.default_rng(monitoring.seed)
    end = now()
    begin = end - timedelta(days=monitoring.days)
    live, remarks = _read_live(version, monitoring, (begin, end))
    answered, left_out = _read_runs(version, begin, monitoring.images, rng, folder)
    least = _choose_least(version, answered, live.answers if live else ())
    runs = [each for each in answered if (each.least <= least).all()]
    answered_live = [each for each in live.answers if (each.least <= least).all()] if live else []
    found: dict[Hashable, tuple[Detections, MediaSource | None]] = {}
    for run in runs:
        for image, each in run.images.items():  # as the newest run has answered it
            found.setdefault(image, (each, run.sources.get(each.source)))
    taken = answered_live[: max(monitoring.images // 2, monitoring.images - len(found))]
    batch = tuple(found.values())[: monitoring.images - len(taken)]
    weak = _remarks_of_weak(least, len(answered) - len(runs), len(live.answers) - len(answered_live) if live else 0)
    window = Window(
        found=(*(each for each, _ in batch), *(each.found for each in taken)),
        least=least,
        runs=len(runs),
        live=len(taken) if live else None,
        remarks=(*_remarks_of_runs(left_out, sum(run.frames for run in runs)), *weak, *remarks),
    )
    for remark in window.remarks:
        log_step("%s", remark)
    sources = {number: source for number, (_, source) in enumerate(batch) if source}
    return _look_at(window, dict(enumerate(taken, start=len(batch))), sources, monitoring.pictures, rng, folder)


def _read_live(
    version: ModelVersion, monitoring: MonitoringParams, days: tuple[datetime, datetime]
) -> tuple[LiveAnswers | None, tuple[str, ...]]:
    """Return what the live log has of a version, and what of it cannot be used; None if there is none."""
    folder = Settings().studio_live_log_dir
    if folder is None:
        return None, ()
    model = version.name, version.version, version.task
    try:
        live = read_live_log(folder, model, len(version.class_names), days, monitoring.images, monitoring.seed)
    except FileNotFoundError:
        return None, (f"No live request was sampled yet: there is no {folder} (STUDIO_LIVE_LOG_DIR).",)
    except OSError as error:
        expected = f"expected the live log of Triton in {folder} (STUDIO_LIVE_LOG_DIR)"
        return None, (f"Live requests are left out: {expected}, found {error}.",)
    log_step("the live log has %d answers of these days; %d images are drawn of them", live.logged, len(live.answers))
    remarks = []
    if not live.logged:
        remarks.append("No live request that this version has answered was sampled in these days.")
    if live.unreadable:
        remarks.append(
            f"Lines of the live log that are left out, as they are cut off, damaged or being written: "
            f"{live.unreadable:,}."
        )
    if live.closed:
        first, reason = next(iter(live.closed.items()))
        remarks.append(
            f"Files of the live log that are left out, as this worker cannot read them: {len(live.closed):,}, such as "
            f"{first} ({reason})."
        )
    if live.ahead:
        remarks.append(f"Live requests that are left out, as their time is yet to come: {live.ahead:,}.")
    return live, tuple(remarks)


def _read_runs(
    version: ModelVersion, begin: datetime, most: int, rng: np.random.Generator, folder: Path
) -> tuple[list[_Answered], Counter[str]]:
    """Return what the newest runs have found, and how many are left out, by reason.

    Older runs are read until there are `most` images. Runs that have kept little are counted apart, so that one of them
    does not stand for a week.
    """
    answered: list[_Answered] = []
    images: dict[bool, set[Hashable]] = {False: set(), True: set()}
    left_out = Counter[str]()
    for run in _recent_runs(version, begin):
        if len(images[False]) >= most:
            break
        least = None if run.chosen else _least_of(run.flow_run_id, version)
        if least is None:
            left_out[_CHOSEN if run.chosen else _INCOMPARABLE] += 1
            continue
        own = images[bool(least.mean() > _KEEPS_LITTLE)]
        if len(own) < most:
            answered.append(_read_run(run.flow_run_id, version, least, most, rng, folder))
            own.update(answered[-1].images)
        else:  # it is counted, and not read
            answered.append(_Answered(found=[], sources={}, least=least, frames=0))
    return answered, left_out


def _recent_runs(version: ModelVersion, begin: datetime) -> Iterator[InferenceRun]:
    for run in list_inference_runs(version.name):
        if run.created < begin:
            return
        if version.version in run.versions and publication.is_published(run.flow_run_id):
            yield run


def _least_of(run: str, version: ModelVersion) -> Doubles | None:
    """Return from which confidence on [classes] a run has kept detections.

    None if they are not those that the version makes of its validation images, or if nobody knows.
    """
    inference = publication.find_parameters(run)
    if inference is None or inference.tiles is not None or inference.iou != InferenceParams().iou:
        return None
    with suppress(ValueError):  # it names a class that another version of the model had
        return class_thresholds(version.class_names, inference).astype(np.float64)
    return None


def _read_run(
    run: str, version: ModelVersion, least: Doubles, most: int, rng: np.random.Generator, folder: Path
) -> _Answered:
    results = publication.fetch_results(run, folder)
    found, frames = read_found(results, version.version, version.task, len(version.class_names), most, rng)
    try:
        sources = {to_valid_unicode(source.name): source for source in done_inputs.read_answered(run) or ()}
    except StudioError:  # of an earlier release: the pixels cannot be looked at
        sources = {}
    return _Answered(found=found, sources=sources, least=least, frames=frames)


def _choose_least(version: ModelVersion, answered: Sequence[_Answered], live: Sequence[LiveAnswer]) -> Doubles:
    classes = len(version.class_names)
    requests = defaultdict[float, set[Hashable]](set)
    for number, answer in enumerate(live):
        requests[answer.least].add(number)
    kept: list[tuple[Doubles, set[Hashable]]] = [(run.least, {*run.images}) for run in answered]
    kept += [(np.full(classes, least), images) for least, images in requests.items()]
    return choose_least(kept) if kept else np.zeros(classes)


def _remarks_of_runs(left_out: Mapping[str, int], frames: int) -> tuple[str, ...]:
    remarks = [f"Runs of inference that are left out: {count:,}. {reason}" for reason, count in left_out.items()]
    if frames:
        remarks.append(f"Frames of videos that are left out, as they resemble each other: {frames:,}.")
    return tuple(remarks)


def _remarks_of_weak(least: Doubles, runs: int, live: int) -> tuple[str, ...]:
    compared = confidence_text(float(least.min()), float(least.max()))
    return tuple(
        f"{name} that are left out, as what they have was kept from a higher confidence on: {count:,}. All else is "
        f"compared {compared}."
        for name, count in (("Runs of inference", runs), ("Live requests", live))
        if count
    )


def _look_at(
    window: Window,
    live: Mapping[int, LiveAnswer],
    sources: Mapping[int, MediaSource],
    most: int,
    rng: np.random.Generator,
    folder: Path,
) -> Window:
    """Return the window with the looks of at most `most` images, drawn at random, which are written to the folder.

    Of images of `live` requests, by their numbers, the log knows the looks, whether they are drawn or not. `sources`
    are the places of others.
    """
    known = [*sources, *(number for number, each in live.items() if each.picture_at is not None)]
    chosen = sorted(rng.permutation(known)[:most].tolist()) if known else []
    store = MediaStore()
    folder.mkdir(parents=True, exist_ok=True)

    def read(number: int) -> UsableImage | Failure:
        if number in live:
            return _read_live_picture(live[number])
        source = sources[number]
        if source.size > _LARGEST:
            return Failure(source=source.name, reason=f"expected at most {_LARGEST:,} bytes, found {source.size:,}")
        return read_usable_image(store, source)

    def look(number: int) -> LookedAt | Failure:
        image = read(number)
        if isinstance(image, Failure):
            return image
        path = folder / f"{number:06d}{image.ending}"
        path.write_bytes(image.data)
        return LookedAt(looks=live[number].looks if number in live else looks_of(image.stats), path=path)

    with ThreadPoolExecutor(_READERS) as pool:
        seen = dict(zip(chosen, pool.map(look, chosen), strict=True))
    shown = {number: each for number, each in seen.items() if isinstance(each, LookedAt)}
    remarks = _remarks_of_failures([each for each in seen.values() if isinstance(each, Failure)])
    logged = {number: LookedAt(looks=each.looks) for number, each in live.items()}
    return replace(window, looked_at=logged | shown, remarks=(*window.remarks, *remarks))


def _read_live_picture(answer: LiveAnswer) -> UsableImage | Failure:
    data = read_picture(answer)
    if data is None:
        return Failure(source=answer.found.source, reason="the live log does not have its picture any longer")
    try:
        return to_usable_image(data, answer.found.source)
    except MediaError as error:
        return Failure(source=answer.found.source, reason=str(error))


def _remarks_of_failures(failures: Sequence[Failure]) -> tuple[str, ...]:
    if not failures:
        return ()
    named = "; ".join(f"{safe_repr(each.source, _LONGEST)} ({each.reason})" for each in failures[:_NAMED])
    such_as = "such as " if len(failures) > _NAMED else ""
    return (f"Images that cannot be looked at: {len(failures):,}, {such_as}{named}.",)


def embed(window: Window, version: ModelVersion, device: str | None, folder: Path) -> Window:
    """Return the window with the embeddings of the images that were looked at, made as those of the reference are.

    They are kept in bucket `runs`, so a run that is tried again makes none twice.

    Raises:
        StudioError: The version cannot predict.
    """
    folder.mkdir(parents=True)
    shown = {}
    for number, each in window.looked_at.items():
        if each.path is None:
            continue
        path = folder / f"{number:06d}.png"
        with suppress(MediaError):  # it was looked at in grey
            write_corrupted(CorruptedFile(each.path, path, version.image_size, None, 0))
            shown[number] = path
    if not shown:
        return window
    log_step("making embeddings of %d images", len(shown))
    weights = registry.fetch_weights(version, folder / "weights")
    paths = [*shown.values()]
    place = folder / "found"
    job = evaluation_steps.prediction_job(paths, weights, version.task, version.image_size, device, place)
    job = job.with_embeddings()
    content = evaluation_steps.content_digest((weights, *paths))
    evaluation_steps.predict_images(job, f"{flow_run_id()}/embeddings/{content}/")
    rows = zip(shown, read_embeddings(job.embeddings).astype(np.float64), strict=True)
    embedded = {number: replace(window.looked_at[number], embedding=row) for number, row in rows}
    return replace(window, looked_at={**window.looked_at, **embedded})
