"""A finished training as a page of markdown."""

from collections.abc import Mapping

from tasks.parameters import TrainingParams
from tasks.promotion.report import promotion_markdown
from tasks.promotion.rules import Decision
from tasks.rendering.markdown import escape_markdown, table
from tasks.training.events import TrainedModel
from tasks.vision.metrics import MAP50_METRIC, PRIMARY_METRIC

SHOWN_CLASSES = 1000
_MAX_NAME = 100


def training_markdown(
    model_name: str,
    version: int,
    model: TrainedModel,
    images: Mapping[str, int],
    decision: Decision,
    training: TrainingParams | None = None,
) -> str:
    """Return the decision, the images of each split, and the metrics over all classes and for each.

    `training` is what a person chose; the training may have ended with a smaller batch.
    """
    chosen = "" if training is None or training.batch == model.batch else f" at the end ({training.batch} was set)"
    trained = f"Best epoch {model.best_epoch} of {model.epochs}, batch {model.batch}{chosen}."
    counts = ", ".join(f"{count} {escape_markdown(split)}" for split, count in images.items())
    metrics = [(name, f"{value:.4f}") for name, value in model.scores.metrics.items()]
    return "\n\n".join(
        [
            f"# {escape_markdown(model_name)} version {version}",
            promotion_markdown(decision),
            "## Training",
            f"Task {escape_markdown(model.task)}. Images: {counts}. {trained}{overrides_sentence(training)}",
            f"Scores of the best epoch on the {model.scores.images} validation images:",
            table(("metric", "value"), metrics),
            _classes(model),
        ]
    )


def overrides_sentence(training: TrainingParams | None) -> str:
    """Return which arguments of Ultralytics were set, as a sentence after others; empty if none was."""
    overrides = training.chosen_overrides if training else {}
    return f" Overrides: {', '.join(f'{name} {value}' for name, value in overrides.items())}." if overrides else ""


def _classes(model: TrainedModel) -> str:
    """One column if one metric has both purposes, as in classification."""
    columns = list(dict.fromkeys((MAP50_METRIC[model.task], PRIMARY_METRIC[model.task])))
    rows = []
    for number, name in enumerate(model.class_names[:SHOWN_CLASSES]):
        metrics = model.scores.classes.get(name)
        if metrics is None:
            values = ["not in validation"] * len(columns)
        else:
            values = [f"{metrics[column]:.4f}" if column in metrics else "-" for column in columns]
        rows.append((number, name[:_MAX_NAME], *values))
    left = len(model.class_names) - SHOWN_CLASSES
    return table(("id", "class", *columns), rows) + (f"\n\nAnd {left} more." if left > 0 else "")
