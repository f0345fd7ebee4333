"""The versions that are evaluated, and the images that they are evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.labelled_images import EvaluationSet
from tasks.evaluation.version_evaluation import VersionEvaluation, evaluate_version, require_task
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.parameters import EvaluationParams, ValidationPolicy
from tasks.tracked_training.inputs import fetch_valid_archive
from tasks.tracking import registry
from tasks.tracking.lineage import archives_of


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A version to evaluate, and the SHA-256 (hex) of the archives that it was trained on."""

    version: registry.ModelVersion
    digests: frozenset[str]


def find_subjects(model_name: str, versions: Sequence[int] | None) -> list[Subject]:
    """Return the versions by their numbers, each once; without numbers the champion.

    Raises:
        TrackingError: There is no such version.
    """
    wanted: Sequence[int | str] = list(dict.fromkeys(versions)) if versions else [registry.CHAMPION]
    found = [registry.find_version(model_name, each) for each in wanted]
    return [
        Subject(version=each, digests=frozenset(archives_of(registry.read_tags(model_name, each.version)).values()))
        for each in found
    ]


def fetch_images(archive: str, split: str, folder: Path) -> EvaluationSet:
    """Return the labelled images of a split, unpacked into `folder`; the archive must be valid.

    Raises:
        StudioError: It is not, or has no such images.
    """
    # As of a gold archive, the policy needs neither train images nor enough labels to train on.
    valid = fetch_valid_archive(archive, ValidationPolicy(), folder)
    log_step("unpacking %s of %s", "all splits" if split == "all" else f"split {split}", archive)
    return evaluation_steps.unpack_images(valid, split, folder / "images")


def require_measurable(subjects: Sequence[Subject], data: EvaluationSet, evaluation: EvaluationParams) -> None:
    """Check, before anything is predicted, that each version fits the images and that what is asked can be promised.

    Raises:
        StudioError: It does not, or promises are asked of a version that was trained on the archive.
    """
    for each in subjects:
        require_task(each.version.version, each.version.task, data)
        if evaluation.max_misses and data.digest in each.digests:
            fix = "Name a gold archive, or leave evaluation.max_misses empty."
            found = f"{safe_repr(data.archive)}, on which version {each.version.version} was trained"
            expected = "an archive that was never trained on for evaluation.max_misses"
            raise StudioError(expected_found_fix(expected, found, fix))


def evaluate_subject(
    subject: Subject, data: EvaluationSet, evaluation: EvaluationParams, folder: Path
) -> VersionEvaluation:
    """Have a version predict in the images, and return all its figures.

    A run that is tried again goes on after what was predicted.

    Raises:
        StudioError: The version cannot predict, or MLflow or the object store cannot be reached.
    """
    version = subject.version
    log_step("version %d predicts %d images", version.version, len(data.images))
    own = folder / f"version-{version.version}"
    weights = registry.fetch_weights(version, own / "weights")
    job = evaluation_steps.prediction_job(
        data, weights, version.task, version.image_size, evaluation.device, own / "predictions"
    )
    prefix = f"{flow_run_id()}/predictions/version-{version.version}-{data.digest[:16]}/"
    predictions = evaluation_steps.predict_images(job, prefix)
    log_step("measuring version %d", version.version)
    return evaluate_version(version.version, version.task, version.class_names, data, predictions, evaluation)
