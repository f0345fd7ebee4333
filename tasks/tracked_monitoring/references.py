"""The reference of a version, which its first monitoring makes and keeps with it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from tasks.dataset.image_stats import ImageStats
from tasks.dataset.validation_sample import unpack_sample
from tasks.errors import StudioError, expected_found_fix
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.corruption import WITH_DARKNESS
from tasks.evaluation.labelled_images import EvaluationImage, EvaluationSet, measure_images, unpack_split
from tasks.evaluation.prediction_file import read_embeddings
from tasks.evaluation.version_evaluation import compare_images
from tasks.merge.steps import SAMPLE, ValidArchive
from tasks.monitoring.judged_images import JudgedImages, judge_images
from tasks.monitoring.profiles import Doubles, looks_of, picture_traits
from tasks.monitoring.reference import REFERENCE, Reference, load_reference, save_reference
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.tracking import registry, runs
from tasks.tracking.registry import ModelVersion


def find_reference(version: ModelVersion, folder: Path) -> Reference | None:
    """Return the reference of a version that its MLflow run has; None if no monitoring has made it yet.

    Raises:
        StudioError: It is damaged.
    """
    kept = runs.download_artifact(version.run_id, REFERENCE, folder / "kept")
    return load_reference(kept) if kept else None


def fetch_sample(version: ModelVersion, folder: Path) -> EvaluationSet:
    """Return the validation images that are kept with a version, unpacked, with its class ids.

    Raises:
        StudioError: It has none.
    """
    packed = runs.download_artifact(version.run_id, SAMPLE, folder / "sample")
    if packed is None:
        title = f"{version.name} version {version.version}"
        fix = "Train it again, or register it with an archive to measure it on."
        raise StudioError(expected_found_fix(f"{SAMPLE} in the MLflow run of {title}", "none", fix))
    return open_sample(packed, version, folder / "images")


def make_reference(
    version: ModelVersion, sample: EvaluationSet, device: str | None, seed: int, folder: Path
) -> Reference:
    """Return the reference of a version, made of its sample, and keep it in its MLflow run.

    Raises:
        StudioError: The version cannot predict.
    """
    reference = _make(version, sample, device, seed, folder)
    save_reference(reference, folder / REFERENCE)
    runs.log_artifact(version.run_id, folder / REFERENCE)
    return reference


def _make(version: ModelVersion, sample: EvaluationSet, device: str | None, seed: int, folder: Path) -> Reference:
    title = f"{version.name} version {version.version}"
    weights = registry.fetch_weights(version, folder / "weights")
    data = measure_images(sample)
    count = len(data.images)
    total = count * (1 + len(WITH_DARKNESS))
    log_step(
        "learning what %s does on its validation images, clean and corrupted: %d images; later runs find it",
        title,
        total,
    )
    corrupted = evaluation_steps.corrupt_images(
        data, count, version.image_size, seed, folder / "corrupted", WITH_DARKNESS
    )
    paths = [image.path for image in corrupted.images]
    place = folder / "predictions"
    job = evaluation_steps.prediction_job(paths, weights, version.task, version.image_size, device, place)
    job = job.with_embeddings()
    predictions = iter(evaluation_steps.predict_images(job, f"{flow_run_id()}/reference/"))
    embeddings = read_embeddings(job.embeddings).astype(np.float64)
    measured = measure_images(corrupted)
    sets = []
    for first in range(0, len(measured.images), count):
        images = replace(measured, images=measured.images[first : first + count])
        compared = compare_images(version.task, data.class_names, images, islice(predictions, count))
        judged = judge_images(compared, [image.stats for image in images.images], len(data.class_names))
        own = embeddings[first : first + count]
        sets.append(replace(judged, profile=replace(judged.profile, embeddings=own)))
    clean, *others = _as_stored(sets, data)
    return Reference(clean=clean, corrupted=dict(zip(WITH_DARKNESS, others, strict=True)))


def open_sample(packed: Path, version: ModelVersion, folder: Path) -> EvaluationSet:
    """Return the images of a version's validation sample, unpacked into the fresh `folder`, with its class ids.

    Raises:
        StudioError: It is no such sample.
    """
    unknown = ImageStats(0, 0)
    if version.task != "classify":
        images = defaultdict[str, ImageStats](lambda: unknown)
        archive = ValidArchive(name=SAMPLE, path=packed, task=version.task, images=images)
        return replace(unpack_split(archive, "val", folder), class_names=version.class_names)
    # A tree without images to train on is no archive.
    return EvaluationSet(
        digests={},
        checksums={},
        split="val",
        task=version.task,
        class_names=version.class_names,
        keypoints=(0, 0),
        images=tuple(
            EvaluationImage(
                archive=SAMPLE,
                name=image.name,
                split="val",
                path=image.path,
                rows=(),
                stats=unknown,
                vocabulary=frozenset(range(len(version.class_names))),
                class_id=int(image.truth.class_id[0]),
            )
            for image in unpack_sample(packed, version.task, folder).images
        ),
    )


def _as_stored(sets: Sequence[JudgedImages], data: EvaluationSet) -> list[JudgedImages]:
    """Return the sets with looks as of images that were not made smaller for the model, as those of a window are."""
    stored = picture_traits([looks_of(image.stats) for image in data.images])
    rendered = sets[0].profile.pictures
    return [
        replace(images, profile=replace(images.profile, pictures=_shift(stored, images.profile.pictures, rendered)))
        for images in sets
    ]


def _shift(
    values: Mapping[str, Doubles], seen: Mapping[str, Doubles], rendered: Mapping[str, Doubles]
) -> dict[str, Doubles]:
    # In brackets, so that what is the same stays the same to the last digit: a window is compared with it.
    return {trait: values[trait] + (seen[trait] - rendered[trait]) for trait in values}
