"""What a version finds in images: found by earlier runs, asked of Triton, or predicted with its weights."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.overlaps import best_first
from tasks.inference import done_inputs, image_lists, publication, session, work_queue
from tasks.inference.concurrency import ordered_map
from tasks.inference.media_inputs import MediaStore, list_media_sources
from tasks.inference.results.parquet import schema, to_table
from tasks.inference.results.predicted_images import PredictedImage, read_failures, read_predicted_images
from tasks.inference.results.summary import WARNING, Failure, to_valid_unicode
from tasks.inference.usable_images import IMAGES_ON_DISK, read_usable_image
from tasks.inference.work_plan import MediaSource, split_into_chunks
from tasks.inference.worker import PinnedRun
from tasks.labelling.reuse import LabelNeeds
from tasks.media.file_type import MediaKind
from tasks.orchestration.current_run import flow_run_id, flow_run_name, flow_run_tags, log_step
from tasks.parameters import DEFAULT_CONFIDENCE, InferenceParams
from tasks.tracking import inference_runs, registry
from tasks.tracking.registry import ModelVersion
from tasks.vision.detections import Detections

READERS = 4  # images at a time: each may take hundreds of megabytes


@dataclass(frozen=True, kw_only=True)
class PredictedInputs:
    """The images of the inputs: `sources` by their names in results, and what was found in them, each once.

    `failures` say why others are not, and are complete after the last image; `videos` are not predicted.
    `run` is the one run of inference that has found all of it, this or an earlier one; else None.
    """

    sources: Mapping[str, MediaSource]
    found: Iterable[PredictedImage]
    failures: Sequence[Failure]
    videos: int
    run: str | None


def predict_inputs(
    version: ModelVersion, inputs: list[str], needs: LabelNeeds, device: str | None, folder: Path
) -> PredictedInputs:
    """Return what a version finds in the images that `inputs` name.

    What runs of inference have found with it is used again, if that loses nothing. In other images the champion is
    asked in Triton, as run-inference does, and another version predicts with its weights. A run that is tried again
    predicts nothing twice.

    Raises:
        StorageError: An input matches nothing.
        StudioError: Triton stays away, or the version cannot predict.
    """
    log_step("looking for images")
    run = flow_run_id()
    sources, failures, videos = _sort_sources(list_media_sources(inputs))

    def loses_nothing(other: str) -> bool:
        inference = None if other == run else publication.find_parameters(other)
        return inference is not None and needs.are_met_by(inference, version.class_names)

    done = done_inputs.read_done(version.name, version.version, loses_nothing)
    earlier = {name: done[name, each.etag] for name, each in sources.items() if (name, each.etag) in done}
    wanted = [each for name, each in sources.items() if name not in earlier]
    log_step("%d images; earlier runs have kept enough of %d of them", len(sources), len(earlier))
    asked = publication.is_published(run) or work_queue.open_queue(run) is not None
    champion = registry.find_champion(version.name)
    asked |= bool(wanted) and champion is not None and champion.version == version.version
    found: list[Iterable[PredictedImage]] = []
    if asked:
        _ask_triton(version, wanted, inputs, needs, folder / "inference")
        found.append(_found_by(run, version, sources.keys() - earlier.keys(), folder, failures))
    elif wanted:
        found.append(_predict_with_weights(version, wanted, needs, device, folder / "weights", failures))
    runs = {*([run] if asked else ()), *earlier.values()}
    for each in dict.fromkeys(earlier.values()):
        own = {name for name, other in earlier.items() if other == each}
        found.append(_found_by(each, version, own, folder, failures))
    return PredictedInputs(
        sources=sources,
        found=chain.from_iterable(found),
        failures=failures,
        videos=videos,
        run=runs.pop() if len(runs) == 1 and (asked or not wanted) else None,
    )


def _sort_sources(listed: Iterable[MediaSource]) -> tuple[dict[str, MediaSource], list[Failure], int]:
    """The images by their names in results, what cannot be read, and the number of videos."""
    sources: dict[str, MediaSource] = {}
    failures = []
    videos = 0
    for source in listed:
        if source.note:
            failures.append(Failure(source=source.name, reason=source.note, severity=WARNING))
        elif source.fault:
            failures.append(Failure(source=source.name, reason=source.fault))
        elif source.kind is MediaKind.VIDEO:
            videos += 1
        else:
            sources[to_valid_unicode(source.name)] = source
    return sources, failures, videos


def _ask_triton(
    version: ModelVersion, wanted: Sequence[MediaSource], inputs: list[str], needs: LabelNeeds, folder: Path
) -> None:
    """Have Triton detect in images, and publish that as a run of inference, unless this run has done so before."""
    run = flow_run_id()
    if not publication.is_published(run):
        kept_from = min(needs.least, DEFAULT_CONFIDENCE)  # a review shows them without asking again
        inference = InferenceParams(confidence=kept_from, annotate=False)
        pinned = PinnedRun(model_name=version.name, version=version.version, canary_run=None, inference=inference)
        queue = work_queue.create_queue(run, split_into_chunks(wanted), pinned.to_dict())
        session.detect(queue, inputs, folder, lambda _: version.version)
        published = publication.publish_results(queue, folder, version.name)
        chosen = image_lists.are_chosen(inputs, flow_run_tags())
        inference_runs.record_inference(flow_run_name(), published, chosen=chosen)
        published.complete()
    work_queue.finish(run)
    publication.count_inputs_as_done(run)


def _found_by(
    run: str, version: ModelVersion, names: AbstractSet[str], folder: Path, failures: list[Failure]
) -> Iterator[PredictedImage]:
    """Yield what a run has found in the images of these names; why it could not read some is added to `failures`."""
    place = publication.fetch_results(run, folder)
    failures += [each for each in read_failures(place) if to_valid_unicode(each.source) in names]
    for image in read_predicted_images(place):
        if image.source in names and image.model_version == version.version:
            yield image


def _predict_with_weights(
    version: ModelVersion,
    wanted: Sequence[MediaSource],
    needs: LabelNeeds,
    device: str | None,
    folder: Path,
    failures: list[Failure],
) -> Iterator[PredictedImage]:
    """Yield what the weights find in images, some at a time; why some cannot be read is added to `failures`."""
    weights = registry.fetch_weights(version, folder / "version")
    for start in range(0, len(wanted), IMAGES_ON_DISK):
        own = folder / "some"
        readable = _write_images(wanted[start : start + IMAGES_ON_DISK], own / "images", failures)
        if readable:
            found = evaluation_steps.predict_files([*readable], version, weights, device, "predictions", own / "found")
            for source, detections in zip(readable.values(), found, strict=True):
                yield to_predicted(version, to_valid_unicode(source.name), detections, needs.least)
        shutil.rmtree(own)


def _write_images(wanted: Sequence[MediaSource], folder: Path, failures: list[Failure]) -> dict[Path, MediaSource]:
    """Write images into the fresh `folder` under numbers; why some cannot be read is added to `failures`."""
    folder.mkdir(parents=True)
    readable: dict[Path, MediaSource] = {}
    images = ordered_map(partial(read_usable_image, MediaStore()), wanted, threads=READERS, window=2 * READERS)
    for number, (source, image) in enumerate(zip(wanted, images, strict=True)):
        if isinstance(image, Failure):
            failures.append(image)
        else:
            path = folder / f"{number:07d}{image.ending}"
            path.write_bytes(image.data)
            readable[path] = source
    return readable


def to_predicted(version: ModelVersion, name: str, found: Detections, least: float) -> PredictedImage:
    """Return the detections from a confidence on as a run of inference tells them."""
    best = best_first(found)
    kept = best.select(best.confidence >= least).with_polygons()
    model = version.served("", "f32", None)
    return PredictedImage(
        source=name,
        width=kept.width,
        height=kept.height,
        model_version=version.version,
        rows=to_table([kept], model, schema(version.task, tracked=False)).to_pylist(),
    )
