"""Whether a new version is promoted: it and the champion are measured on the same images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.evaluation.labelled_images import read_val_split
from tasks.evaluation.steps import corrupt_images, predict
from tasks.evaluation.version_evaluation import measure_robustness
from tasks.merge.steps import MergedDataset, write_relabelled_split
from tasks.orchestration.current_run import log_step
from tasks.parameters import PromotionPolicy, TrainingParams
from tasks.promotion.rules import GOLD, VALIDATION, Decision, EvaluatedVersion, decide
from tasks.tracking import registry
from tasks.training.events import TrainedModel
from tasks.training.job import EvaluationTarget, first_device
from tasks.training.steps import evaluate

CORRUPTED_IMAGES = 50  # 46 times: clean, and 15 corruptions at 3 strengths


def decide_promotion(
    challenger: registry.ModelVersion,
    model: TrainedModel,
    dataset: MergedDataset,
    training: TrainingParams,
    promotion: PromotionPolicy,
) -> Decision:
    """Return whether the new version is promoted; without champion and gold archive its training's scores count.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    champion = registry.find_champion(challenger.name)
    if champion is None and dataset.gold is None:
        alone = EvaluatedVersion(
            version=challenger.version,
            task=model.task,
            class_names=model.class_names,
            scores={VALIDATION: model.scores},
        )
        return decide(alone, None, promotion)
    rival_name = f"champion, version {champion.version}" if champion else "gold archive"
    log_step("comparing version %d with the %s", challenger.version, rival_name)
    folder = model.folder.parent
    training = training.model_copy(update={"batch": model.batch})
    own = Contender(version=challenger, folder=folder / "challenger", trained=model.weights)
    measured = own.measure(dataset, training)
    if champion is None:
        return decide(measured, None, promotion)
    other = Contender(version=champion, folder=folder / "champion")
    rival = other.measure(dataset, training)
    if promotion.max_corruption_drop is not None:
        measured, rival = measure_corrupted({own: measured, other: rival}, dataset, training, folder)
    return decide(measured, rival, promotion)


@dataclass(frozen=True, eq=False, kw_only=True)
class Contender:
    """A version that is compared; `folder` takes its files, `trained` are its weights if they are on this machine."""

    version: registry.ModelVersion
    folder: Path
    trained: Path | None = None

    @cached_property
    def weights(self) -> Path:
        """The weights, fetched once from the registry.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        return self.trained or registry.fetch_weights(self.version, self.folder / "weights")

    def measure(self, dataset: MergedDataset, training: TrainingParams) -> EvaluatedVersion:
        """Return the version with its scores on split `val` and on the gold archive; none if it cannot be measured."""
        version = self.version
        data = {VALIDATION: dataset.data} | ({GOLD: dataset.gold} if dataset.gold else {})
        scores = {}
        try:
            views = [
                write_relabelled_split(path, dataset.task, dataset.class_names, version.class_names, self.folder / name)
                for name, path in data.items()
            ]
            targets = [
                EvaluationTarget(weights=self.weights, data=each, image_size=version.image_size) for each in views
            ]
            scores = dict(zip(data, evaluate(targets, dataset.task, training, self.folder), strict=True))
        except StudioError as error:  # the version is registered; without scores it is not promoted
            get_run_logger().warning("version %d could not be measured: %s", version.version, error)
        return EvaluatedVersion(
            version=version.version, task=version.task, class_names=version.class_names, scores=scores
        )


def measure_corrupted(
    contenders: Mapping[Contender, EvaluatedVersion],
    dataset: MergedDataset,
    training: TrainingParams,
    folder: Path,
) -> list[EvaluatedVersion]:
    """Return the versions with their scores on the same corrupted validation images; without, if one has none."""
    log_step("comparing both on corrupted images")
    side = max(each.version.image_size for each in contenders)
    device = first_device(training.device)
    measured = []
    try:
        data = read_val_split(dataset.data, dataset.task, dataset.class_names)
        images = corrupt_images(data, CORRUPTED_IMAGES, side, training.seed, folder / "corrupted")
        for own, scores in contenders.items():
            kind = "corrupted-predictions"
            found = predict(images, own.version, own.weights, device, kind, own.folder / kind)
            robustness = measure_robustness(own.version.task, own.version.class_names, images, found)
            measured.append(replace(scores, corrupted=robustness.mean))
    except StudioError as error:  # the version is registered; without scores it is not promoted
        get_run_logger().warning("the versions could not be measured on corrupted images: %s", error)
        return list(contenders.values())
    return measured
