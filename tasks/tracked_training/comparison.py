"""Whether a new version is promoted: it and the champion are measured on the same images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from prefect import get_run_logger

from tasks.errors import StudioError
from tasks.evaluation.labelled_images import read_val_split
from tasks.evaluation.steps import corrupt_images, predict_images, prediction_job
from tasks.evaluation.version_evaluation import measure_robustness
from tasks.merge.steps import MergedDataset, write_relabelled_split
from tasks.orchestration.current_run import flow_run_id, log_step
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
    measured = evaluate_version(challenger, model.weights, dataset, training, folder / "challenger")
    if champion is None:
        return decide(measured, None, promotion)
    rival = evaluate_version(champion, None, dataset, training, folder / "champion")
    if promotion.max_corruption_drop is not None:
        measured, rival = measure_corrupted({challenger: measured, champion: rival}, dataset, training, folder)
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


def measure_corrupted(
    versions: Mapping[registry.ModelVersion, EvaluatedVersion],
    dataset: MergedDataset,
    training: TrainingParams,
    folder: Path,
) -> list[EvaluatedVersion]:
    """Return the versions with their scores on the same corrupted validation images; without, if one has none."""
    log_step("comparing both on corrupted images")
    side = max(version.image_size for version in versions)
    device = first_device(training.device)
    measured = []
    try:
        data = read_val_split(dataset.data, dataset.task, dataset.class_names)
        images = corrupt_images(data, CORRUPTED_IMAGES, side, training.seed, folder / "corrupted")
        for version, scores in versions.items():
            own = folder / f"corrupted-{version.version}"
            weights = registry.fetch_weights(version, own / "weights")
            job = prediction_job(images, weights, version.task, version.image_size, device, own / "predictions")
            found = predict_images(job, f"{flow_run_id()}/corrupted-predictions/version-{version.version}/")
            robustness = measure_robustness(version.task, version.class_names, images, found)
            measured.append(replace(scores, corrupted=robustness.mean))
    except StudioError as error:  # the version is registered; without scores it is not promoted
        get_run_logger().warning("the versions could not be measured on corrupted images: %s", error)
        return list(versions.values())
    return measured
