"""Whether a new version is promoted: it and the champion are measured on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.evaluation.labelled_images import read_val_split
from tasks.evaluation.metrics import shared_classes
from tasks.evaluation.robustness import Robustness
from tasks.evaluation.steps import corrupt_images
from tasks.evaluation.version_evaluation import measure_robustness
from tasks.merge.steps import MergedDataset
from tasks.orchestration.current_run import log_step, run_logger
from tasks.parameters import PromotionPolicy, TrainingParams
from tasks.promotion.rules import VALIDATION, Decision, EvaluatedVersion, decide
from tasks.tracked_training.contenders import Contender
from tasks.tracked_training.refusal import explain_refusal
from tasks.tracking import registry
from tasks.training.events import TrainedModel

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
    robustness: Mapping[Contender, Robustness] = {}
    if promotion.max_corruption_drop is not None:
        robustness = measure_corrupted([own, other], dataset, training, folder)
    if robustness:
        measured = replace(measured, corrupted=robustness[own].mean)
        rival = replace(rival, corrupted=robustness[other].mean)
    decision = decide(measured, rival, promotion)
    return explain_refusal(decision, own, other, robustness, dataset, training)


def measure_corrupted(
    contenders: Sequence[Contender], dataset: MergedDataset, training: TrainingParams, folder: Path
) -> dict[Contender, Robustness]:
    """Return what is left of each on the same corrupted validation images, over the classes that all know.

    If one cannot be measured, there is nothing.
    """
    log_step("comparing both on corrupted images")
    side = max(each.version.image_size for each in contenders)
    try:
        data = read_val_split(dataset.data, dataset.task, dataset.class_names)
        images = corrupt_images(data, CORRUPTED_IMAGES, side, training.seed, folder / "corrupted")
        measured = {
            each: measure_robustness(
                each.version.task,
                each.version.class_names,
                images,
                each.predict(images, "corrupted-predictions", training),
            )
            for each in contenders
        }
        shared = shared_classes(each.clean for each in measured.values())
        return {each: robustness.over(shared) for each, robustness in measured.items()}
    except Exception:  # noqa: BLE001 - the version is registered; without scores it is not promoted
        run_logger().warning("the versions could not be measured on corrupted images", exc_info=True)
        return {}
