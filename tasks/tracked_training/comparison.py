"""Whether a new version is promoted: it and the champion are measured on the same images."""

from pathlib import Path

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.merge.steps import MergedDataset, write_relabelled_split
from tasks.orchestration.current_run import log_step
from tasks.parameters import PromotionPolicy, TrainingParams
from tasks.promotion.rules import GOLD, VALIDATION, Decision, EvaluatedVersion, decide
from tasks.tracking import registry
from tasks.training.events import TrainedModel
from tasks.training.job import EvaluationTarget
from tasks.training.steps import evaluate


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
    measured = evaluate_version(challenger, model.weights, dataset, training, folder / "challenger")
    rival = evaluate_version(champion, None, dataset, training, folder / "champion") if champion else None
    return decide(measured, rival, promotion)


def evaluate_version(
    version: registry.ModelVersion,
    weights: Path | None,
    dataset: MergedDataset,
    training: TrainingParams,
    folder: Path,
) -> EvaluatedVersion:
    """Return a version with its scores on the validation split and on the gold archive; none if it cannot be measured.

    `weights` of None are fetched from the registry.
    """
    data = {VALIDATION: dataset.data} | ({GOLD: dataset.gold} if dataset.gold else {})
    scores = {}
    try:
        weights = weights or registry.fetch_weights(version, folder / "weights")
        views = [
            write_relabelled_split(path, dataset.task, dataset.class_names, version.class_names, folder / name)
            for name, path in data.items()
        ]
        targets = [EvaluationTarget(weights=weights, data=view, image_size=version.image_size) for view in views]
        scores = dict(zip(data, evaluate(targets, dataset.task, training, folder), strict=True))
    except StudioError as error:  # the version is registered; without scores it is not promoted
        get_run_logger().warning("version %d could not be measured: %s", version.version, error)
    return EvaluatedVersion(version=version.version, task=version.task, class_names=version.class_names, scores=scores)
