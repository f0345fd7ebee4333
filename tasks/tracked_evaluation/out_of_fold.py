"""What is found in each image of an archive by a model that was not trained on it."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.error_kinds import mean_ap
from tasks.evaluation.label_error_page import JudgedLabels
from tasks.evaluation.label_errors import find_label_errors
from tasks.evaluation.labelled_images import EvaluationSet, describe_left_out, label_detections
from tasks.evaluation.matching import match
from tasks.evaluation.version_evaluation import compare_images, require_classes, require_task
from tasks.merge import steps as merge_steps
from tasks.merge.class_mapping import match_class_ids
from tasks.merge.fingerprint import plan_digest
from tasks.merge.folds import Fold, plan_folds
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.flow_runs import OwnershipGuard
from tasks.orchestration.step import step
from tasks.parameters import LabelErrorParams, MergePolicy, TrainingParams
from tasks.tracked_evaluation.subjects import Subject
from tasks.tracked_training.inputs import BaseModel, fetch_base_model
from tasks.tracking import registry
from tasks.tracking.trained_versions import read_policies
from tasks.training import steps as training_steps
from tasks.training.attempts import EpochListener
from tasks.training.checkpoint_store import CheckpointStore
from tasks.training.checkpoints import fingerprint
from tasks.training.progress import EpochProgress
from tasks.vision.detections import Detections


@dataclass(frozen=True, kw_only=True)
class PredictedSet:
    """Images, and what models with these classes found in each, in order; `folds` is 0 if the version itself did.

    `remarks` are sentences on what the models have learnt, and on labels that they cannot judge.
    """

    data: EvaluationSet
    task: str
    class_names: tuple[str, ...]
    predictions: Iterable[Detections]
    remarks: tuple[str, ...]
    folds: int = 0


def predict_unseen(
    subject: Subject, archive: merge_steps.ValidArchive, data: EvaluationSet, params: LabelErrorParams, folder: Path
) -> PredictedSet:
    """Have each image of an archive judged: by the version, or by models of its kind if it was trained on the archive.

    These are trained as the version was, each on the folds that it does not judge. A run that is tried again goes on
    after the last finished epoch.

    Raises:
        StudioError: The version cannot predict, or a training stopped.
    """
    require_task(subject.version.version, subject.version.task, data)
    if params.out_of_fold == "never" or (params.out_of_fold == "auto" and not subject.trained_on(data)):
        return _predict_by_version(subject, data, params, folder)
    return _predict_by_folds(subject, archive, data, params, folder)


def _predict_by_version(subject: Subject, data: EvaluationSet, params: LabelErrorParams, folder: Path) -> PredictedSet:
    version = subject.version
    require_classes(version.version, version.class_names, data, ())
    weights = registry.fetch_weights(version, folder / "weights")
    found = evaluation_steps.predict(data, version, weights, params.device, "predictions", folder / "version")
    learnt = subject.remarks(data, "it agrees with labels that it has learnt, wrong ones too")
    return PredictedSet(
        data=data,
        task=version.task,
        class_names=version.class_names,
        predictions=found,
        remarks=(*learnt, *_describe_unjudged(version.class_names, data), *describe_left_out(data)),
    )


def _predict_by_folds(
    subject: Subject, archive: merge_steps.ValidArchive, data: EvaluationSet, params: LabelErrorParams, folder: Path
) -> PredictedSet:
    version = subject.version
    training, _ = read_policies(version)
    training = training.model_copy(update={"device": params.device, "epochs": params.epochs or training.epochs})
    base = fetch_base_model(find_unlearnt_base(subject), folder / "base")
    remarks = (
        *(f"Out of fold, because {clause}." for clause in subject.describe_trained_on(data)),
        *_describe_base(subject, base),
        *subject.describe_unknown_images(),
        *describe_left_out(data),
    )
    policy = MergePolicy(boxes_from_polygons=version.task != data.task)
    plan = merge_steps.plan_archives([archive], policy)
    folds = plan_folds(archive, plan, shown_classes(data), params.groups, params.folds, params.seed)
    parts = [replace(data, images=tuple(each for each in data.images if each.name in fold.images)) for fold in folds]
    parts_found = []
    for number, (fold, part) in enumerate(zip(folds, parts, strict=True)):
        log_step("fold %d of %d: training on all others", number + 1, len(folds))
        own = folder / f"fold-{number}"
        weights = _train(archive, fold, base, training, own, number)
        parts_found.append(
            evaluation_steps.predict(part, version, weights, params.device, "predictions", own / "predictions")
        )
    return PredictedSet(
        data=replace(data, images=tuple(image for part in parts for image in part.images)),
        task=version.task,
        class_names=plan.classes.class_names,
        predictions=chain.from_iterable(parts_found),
        remarks=remarks,
        folds=len(folds),
    )


def find_unlearnt_base(subject: Subject) -> str:
    """Return the base model of the first version: any later one has learnt archives, maybe this one.

    Raises:
        StudioError: Nobody knows it.
    """
    base = subject.ancestry.base_model
    if not base or registry.ADDRESS.fullmatch(base):
        version = f"{subject.version.name} version {subject.version.version}"
        found = f"{base or 'nothing'}, of which nobody knows what it has learnt"
        fix = "Judge with a version that began with weights or a .yaml, or set label_errors.out_of_fold to never."
        raise StudioError(expected_found_fix(f"a base model of {version} that has seen no archive", found, fix))
    return base


def _describe_base(subject: Subject, base: BaseModel) -> list[str]:
    """What the judges may have learnt before: nothing of an architecture or official weights, which are no file yet."""
    digest, begun = base.digest, subject.ancestry.base_digest
    if digest is None:
        return []
    replaced = " It is another file than the version began with." if begun not in {"", digest} else ""
    consequence = "the judges agree with labels that it has learnt, wrong ones too"
    return [f"Nobody knows what {safe_repr(base.name)} of bucket base-models has learnt: {consequence}.{replaced}"]


def shown_classes(data: EvaluationSet) -> dict[str, Counter[str | None]]:
    """Return for each image how many objects of each class it shows, as `plan_folds` takes it."""
    names = data.class_names
    return {
        image.name: Counter(names[row.class_id] for row in image.rows)
        if image.class_id is None
        else Counter([names[image.class_id]])
        for image in data.images
    }


def _train(
    archive: merge_steps.ValidArchive, fold: Fold, base: BaseModel, training: TrainingParams, folder: Path, number: int
) -> Path:
    """Weights that were trained on the other folds; their dataset is there only as long."""
    folder.mkdir()
    dataset = merge_steps.write_merge([archive], fold.plan, folder / "dataset")
    job = training_steps.training_job(dataset.data, dataset.task, base.source, training, folder / "training")
    trained = fingerprint(plan_digest(fold.plan), base.name, training)
    checkpoints = CheckpointStore(f"{flow_run_id()}/folds/{number}", trained)
    owner = OwnershipGuard()
    listeners: list[EpochListener] = [EpochProgress("training-progress"), owner.stop_if_suspended]
    weights = training_steps.train(job, checkpoints, listeners, owner).weights
    shutil.rmtree(folder / "dataset")
    return weights


@step
def judge_labels(predicted: PredictedSet, params: LabelErrorParams) -> JudgedLabels:
    """Return the labels of a predicted set that look wrong.

    Raises:
        StudioError: The models and the archive share no class.
    """
    data = predicted.data
    images = compare_images(predicted.task, predicted.class_names, data, predicted.predictions)
    matching = match(images)
    unjudged = _unjudged_classes(predicted.class_names, data)
    boxes = []
    for image, compared in zip(data.images, images, strict=True):
        labels = label_detections(image, data, "detect", compared.labels.width, compared.labels.height)
        boxes.append(labels.xyxy[np.isin(labels.class_id, unjudged)])
    errors = find_label_errors(images, matching, params.min_score, boxes)
    return JudgedLabels(data=data, images=images, errors=errors, most=params.most, map50=mean_ap(matching))


def _unjudged_classes(class_names: Sequence[str], data: EvaluationSet) -> list[int]:
    """The classes of the set that a model with these classes does not know."""
    known = match_class_ids(class_names, data.class_names)
    return [number for number in range(len(data.class_names)) if number not in known]


def _describe_unjudged(class_names: Sequence[str], data: EvaluationSet) -> list[str]:
    names = [data.class_names[number] for number in _unjudged_classes(class_names, data)]
    return [f"Labels of {safe_repr(names, 200)} are not judged: the version does not know these classes."] * bool(names)
