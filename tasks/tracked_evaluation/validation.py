"""What a version finds and misses: kept with it by an evaluation, or measured on its own validation data."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.labelled_images import EvaluationSet, NoLabelledImagesError, join_sets
from tasks.evaluation.validation_matching import (
    VALIDATION_MATCHING,
    ValidationMatching,
    match_validation,
    pack_matching,
    unpack_matching,
)
from tasks.evaluation.version_evaluation import compare_images, require_task
from tasks.merge.class_mapping import Renames, find_unknown_renames
from tasks.orchestration.current_run import log_step
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.tracked_evaluation.subjects import Subject, fetch_images
from tasks.tracking import registry, runs
from tasks.tracking.lineage import archives_of, is_imported
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.registry import ModelVersion
from tasks.tracking.trained_versions import read_policies


def keep_validation(version: ModelVersion, matching: ValidationMatching) -> None:
    """Keep it with a version, in place of that of an earlier evaluation.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / VALIDATION_MATCHING
        path.write_bytes(pack_matching(matching))
        runs.log_artifact(version.run_id, path)


def find_validation(version: ModelVersion) -> ValidationMatching | None:
    """Return what is kept with a version; None if nothing is, or a file of somebody else.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = runs.download_artifact(version.run_id, VALIDATION_MATCHING, Path(folder))
        try:
            matching = unpack_matching(path.read_bytes()) if path else None
        except ValueError:
            return None
    of_version = matching and (matching.source.task, matching.source.class_names)
    return matching if of_version == (version.task, version.class_names) else None


def measure_validation(subject: Subject, device: str | None, folder: Path) -> ValidationMatching:
    """Have a version predict in split val of the archives that it was trained on, as far as they are still there.

    Those that were labelled or reviewed by means of a model have no val.

    Raises:
        StudioError: None of them with a val is there any more, or it cannot predict.
    """
    version = subject.version
    trained_on = archives_of(registry.read_tags(version.name, version.version))
    store = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)
    left = [name for name in trained_on if "://" not in name and store.exists(name)]
    sets = []
    for number, name in enumerate(left):
        own = folder / f"archive-{number}"
        own.mkdir(parents=True)
        try:
            sets.append(fetch_images([name], "val", {}, own))
        except NoLabelledImagesError as error:
            log_step("%s is left out: %s", name, error)
    if not sets:
        found = f"none in {safe_repr([*trained_on], 200)}" if trained_on else "no archive that it was trained on"
        expected = f"validation data of {version.name} version {version.version}"
        fix = f"Run evaluate-model on {version.name} with an archive that it has not learnt, then run this again."
        raise StudioError(expected_found_fix(expected, found, fix))
    return match_images(subject, join_as_trained(version, sets), device, folder)


def join_as_trained(version: ModelVersion, sets: Sequence[EvaluationSet]) -> EvaluationSet:
    """Return the images of sets of one archive each as one set, with classes renamed as for the training of a version.

    In an archive that it was not trained on, a class that has the name of one of the version keeps it.

    Raises:
        StudioError: The archives are labelled for different tasks or with different keypoints.
        TrackingError: MLflow cannot be reached.
    """
    tags = registry.read_tags(version.name, version.version)
    learnt = archives_of(tags)
    archives, names = [name for each in sets for name in each.digests], [each.class_names for each in sets]
    kept = {f"{new}:{name}": name for new in archives if new not in learnt for name in version.class_names}
    renames = kept | dict(_read_renames(version, tags))
    unknown = {*find_unknown_renames(archives, names, renames)}
    return join_sets(sets, {written: target for written, target in renames.items() if written not in unknown})


def _read_renames(version: ModelVersion, tags: Mapping[str, str]) -> Renames:
    """Return merge.classes of the training of a version; none if nobody knows them."""
    if is_imported(tags):
        return {}
    try:
        return read_policies(version)[1].classes
    except TrackingError as error:
        if error.transient:
            raise
        log_step("the classes of its archives are taken as they are named: %s", error)
        return {}


def match_images(subject: Subject, data: EvaluationSet, device: str | None, folder: Path) -> ValidationMatching:
    """Have a version predict in the labelled images that it has not learnt, with files in `folder`.

    Raises:
        StudioError: It has learnt all of them, is for another task, shares no class with them, or cannot predict.
    """
    version = subject.version
    require_task(version.version, version.task, data)
    learnt = subject.ancestry.images.train
    unseen = tuple(each for each in data.images if data.checksums[each.archive][each.name] not in learnt)
    if not unseen:
        fix = f"Run evaluate-model on {version.name} with another archive, or name another one to compare with."
        expected = f"images in {data.title} that version {version.version} has not learnt"
        raise StudioError(expected_found_fix(expected, "none", fix))
    data = replace(data, images=unseen)
    log_step("measuring version %d on %d images of %s", version.version, len(unseen), data.title)
    weights = registry.fetch_weights(version, folder / "weights")
    found = evaluation_steps.predict(data, version, weights, device, "predictions", folder / "predictions")
    images = compare_images(version.task, version.class_names, data, found)
    return match_validation(version.task, version.class_names, data, images)
