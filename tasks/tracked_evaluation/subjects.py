"""The versions that are evaluated, and the images that they are evaluated on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.corruption import ALL_CORRUPTIONS
from tasks.evaluation.labelled_images import ALL_SPLITS, EvaluationSet, join_sets
from tasks.evaluation.version_evaluation import (
    VersionEvaluation,
    evaluate_version,
    measure_robustness,
    require_classes,
    require_task,
)
from tasks.merge.class_mapping import Renames
from tasks.orchestration.current_run import log_step
from tasks.parameters import EvaluationParams, ValidationPolicy
from tasks.tracked_training.inputs import archive_name, fetch_valid_archive
from tasks.tracking import registered_models, registry
from tasks.tracking.ancestry import Ancestry, read_ancestry

_UNKNOWN_IMAGES = (
    "Not all images that version {} has learnt are known, because it or one that it was trained from was imported or "
    "is of an earlier release: they are not recognized in an archive of another name."
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A version to evaluate, and what it and the versions that it was trained from have learnt."""

    version: registry.ModelVersion
    ancestry: Ancestry

    def trained_on(self, data: EvaluationSet) -> list[str]:
        """Return the archives of a set that the version has learnt: under these names, with these bytes or images.

        An archive that has other bytes by now shows the same images most of the time, with labels that were mended.
        One that shares a single image with the training is learnt, too.
        """
        learnt = self.ancestry.archives
        digests = frozenset[str]().union(*learnt.values())
        return [
            name
            for name, digest in data.digests.items()
            if digest in digests or name in learnt or self._shared_images(data, name)
        ]

    def describe_trained_on(self, data: EvaluationSet) -> list[str]:
        """Return a clause for each of these archives, with the number of its images that are known from a training."""
        version = f"version {self.version.version}"
        return [
            f"{version} has seen {seen:,} of the {len(data.checksums[name]):,} images of {safe_repr(name)} in training"
            if (seen := self._shared_images(data, name))
            else f"{version} has learnt an archive with the name or the bytes of {safe_repr(name)}"
            for name in self.trained_on(data)
        ]

    def may_have_learnt(self, data: EvaluationSet) -> bool:
        """Return whether images of the set itself were for training: figures of these say nothing of others."""
        if data.split == "train" or (data.split == ALL_SPLITS and self.trained_on(data)):
            return True
        learnt = self.ancestry.images.train
        return any(data.checksums[each.archive][each.name] in learnt for each in data.images)

    def remarks(self, data: EvaluationSet, consequence: str) -> list[str]:
        """Return what the version has learnt of a set, and the consequence of that, and what is not known of it."""
        learnt = [f"{clause[0].upper()}{clause[1:]}: {consequence}." for clause in self.describe_trained_on(data)]
        return [*learnt, *self.describe_unknown_images()]

    def describe_unknown_images(self) -> list[str]:
        """Return a sentence if not all images are known that the version has learnt."""
        return [] if self.ancestry.tells_images else [_UNKNOWN_IMAGES.format(self.version.version)]

    def _shared_images(self, data: EvaluationSet, archive: str) -> int:
        return sum(each in self.ancestry.images for each in data.checksums[archive].values())


def find_subjects(model_name: str, versions: Sequence[int] | None) -> list[Subject]:
    """Return the versions by their numbers, each once; without numbers the champion.

    Raises:
        TrackingError: There is no such version.
    """
    wanted: Sequence[int | str] = list(dict.fromkeys(versions)) if versions else [registered_models.CHAMPION]
    found = [registry.find_version(model_name, each) for each in wanted]
    return [Subject(version=each, ancestry=read_ancestry(each)) for each in found]


def fetch_images(archives: Sequence[str], split: str, renames: Renames, folder: Path) -> EvaluationSet:
    """Return the labelled images of a split of archives, unpacked into `folder`; each archive must be valid.

    `renames` are other names for classes, as `join_sets` takes them.

    Raises:
        StudioError: One is not or has no such images, or they are not labelled alike.
    """
    sets = []
    for number, archive in enumerate(dict.fromkeys(map(archive_name, archives))):
        # As of a gold archive, the policy asks for no number of labels to train on.
        valid = fetch_valid_archive(archive, ValidationPolicy(), folder)
        log_step("unpacking %s of %s", "all splits" if split == ALL_SPLITS else f"split {split}", archive)
        sets.append(evaluation_steps.unpack_images(valid, split, folder / f"images-{number}"))
    return join_sets(sets, renames)


def require_measurable(subjects: Sequence[Subject], data: EvaluationSet, evaluation: EvaluationParams) -> None:
    """Check, before anything is predicted, that each version fits the images and that what is asked can be promised.

    Raises:
        StudioError: It does not, or promises are asked of a class that it or the archive lacks, or of a version that
            was trained on the archive.
    """
    for each in subjects:
        version = each.version
        require_task(version.version, version.task, data)
        require_classes(version.version, version.class_names, data, evaluation.max_misses)
        if evaluation.max_misses and (seen := each.describe_trained_on(data)):
            fix = "Name a gold archive, or leave evaluation.max_misses empty."
            found = f"that {' and that '.join(seen)}"
            expected = "archives that were never trained on for evaluation.max_misses"
            raise StudioError(expected_found_fix(expected, found, fix))


def evaluate_subjects(
    subjects: Sequence[Subject], data: EvaluationSet, evaluation: EvaluationParams, folder: Path
) -> list[VersionEvaluation]:
    """Have each version predict in the images, and return all its figures, in order.

    A run that is tried again goes on after what was predicted. Versions of one image size share the corrupted images.

    Raises:
        StudioError: A version cannot predict, or MLflow or the object store cannot be reached.
    """

    @cache
    def corrupt(side: int) -> EvaluationSet:
        log_step("corrupting %d images in %d ways", evaluation.corrupted_images, len(ALL_CORRUPTIONS))
        place = folder / f"corrupted-{side}"
        return evaluation_steps.corrupt_images(data, evaluation.corrupted_images, side, evaluation.seed, place)

    return [_evaluate(each.version, data, evaluation, corrupt, folder) for each in subjects]


def _evaluate(
    version: registry.ModelVersion,
    data: EvaluationSet,
    evaluation: EvaluationParams,
    corrupt: Callable[[int], EvaluationSet],
    folder: Path,
) -> VersionEvaluation:
    own = folder / f"version-{version.version}"
    weights = registry.fetch_weights(version, own / "weights")

    def predict(images: EvaluationSet, kind: str) -> evaluation_steps.Predictions:
        return evaluation_steps.predict(images, version, weights, evaluation.device, kind, own / kind)

    found = predict(data, "predictions")
    log_step("measuring version %d", version.version)
    measured = evaluate_version(version.version, version.task, version.class_names, data, found, evaluation)
    if not evaluation.corrupted_images:
        return measured
    corrupted = corrupt(version.image_size)
    found = predict(corrupted, "corrupted-predictions")
    return replace(measured, robustness=measure_robustness(version.task, version.class_names, corrupted, found))
