"""Scores of a model on a validation split."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.training.events import metric_name
from tasks.training.job import EvaluationJob
from tasks.training.trainer.class_name_override import override_class_names, read_class_names
from tasks.training.trainer.image_cache import read_cached_images
from tasks.training.trainer.loader_check import explain_lost_data, require_all_loaded
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.metrics import Scores

# Ultralytics' attributes with the average precisions of each class, and the suffixes of our names.
_PARTS = {
    "detect": (("box", ""),),
    "obb": (("box", ""),),
    "segment": (("box", ""), ("seg", "_mask")),
    "pose": (("box", ""), ("pose", "_pose")),
}


def evaluate_models(job: EvaluationJob) -> Iterator[Scores]:
    """Yield the scores of each model on the split `val` of its data, as at the end of a training."""
    for subject in job.subjects:
        yield evaluate_split(
            subject.data,
            load_model(str(subject.weights), job.task),
            job.task,
            project=str(job.folder),
            name="scoring",
            exist_ok=True,
            plots=False,
            imgsz=subject.image_size,
            batch=job.batch,
            device=job.device,
            workers=job.workers,
        )


def evaluate_split(data: Path, model: Any, task: str, **arguments: Any) -> Scores:  # noqa: ANN401 - ultralytics has no types
    """Return the scores of a `YOLO` object on the split `val` of `data`, with Ultralytics' own `arguments`."""
    validators: list[Any] = []
    names = read_class_names(data)
    override_class_names(model, names)
    model.add_callback(
        "on_val_start", lambda validator: require_all_loaded(validator.dataloader.dataset, data, task, "val")
    )
    model.add_callback("on_val_end", validators.append)
    from tasks.training.trainer.partial_labels import choose_validator  # imports Ultralytics

    with explain_lost_data(data, task):
        validator = choose_validator(model, data)
        if task != "classify":
            validator = read_cached_images(model, validator)
        model.val(validator, data=str(data), verbose=False, **arguments)
    return to_scores(validators[-1], task, names)


def to_scores(validator: Any, task: str, names: Sequence[str]) -> Scores:  # noqa: ANN401 - ultralytics ships no types
    """Return the scores of an Ultralytics validator that has run; `names` are the classes, by number."""
    metrics = validator.metrics
    overall = {metric_name(name).removeprefix("metrics/"): float(value) for name, value in metrics.results_dict.items()}
    overall.pop("fitness", None)
    classes = _accuracies(metrics, names) if task == "classify" else _average_precisions(metrics, task, names)
    return Scores(task=task, metrics=overall, classes=classes, images=len(validator.dataloader.dataset))


def _average_precisions(metrics: Any, task: str, names: Sequence[str]) -> dict[str, dict[str, float]]:  # noqa: ANN401
    classes: dict[str, dict[str, float]] = {}
    for part, suffix in _PARTS[task]:
        metric = getattr(metrics, part)
        for number, map50, map50_95 in zip(metric.ap_class_index, metric.ap50, metric.ap, strict=True):
            row = classes.setdefault(names[int(number)], {})
            row[f"mAP50{suffix}"] = float(map50)
            row[f"mAP50-95{suffix}"] = float(map50_95)
    return classes


def _accuracies(metrics: Any, names: Sequence[str]) -> dict[str, dict[str, float]]:  # noqa: ANN401
    """The share of a class's images on the diagonal of the confusion matrix (rows are predicted, columns true)."""
    matrix = np.asarray(metrics.confusion_matrix.matrix)
    totals = matrix.sum(axis=0)
    return {
        name: {"accuracy_top1": float(matrix[number, number] / totals[number])}
        for number, name in enumerate(names)
        if totals[number]
    }
