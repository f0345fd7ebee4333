"""What MLflow shows of a training, under names by which two runs or two versions compare side by side."""

import json
from collections.abc import Iterable, Mapping

from tasks.promotion.rules import Decision
from tasks.rendering.markdown import escape_markdown, table
from tasks.training.events import TrainedModel
from tasks.vision.metrics import PRIMARY_METRIC, Scores

# The longest that MLflow and its database keep, in characters.
MAX_TAG, MAX_RUN_TAG, MAX_PARAMETER, MAX_DESCRIPTION = 100_000, 8_000, 6_000, 5_000
_SHOWN_CLASSES, _SHOWN_NAME = 30, 40
_ORIGIN = ("base_model", "archives", "git_commit", "flow_run_id")


def truncate(text: object, most: int) -> str:
    """Text of `most` characters at most, with a mark where its end is missing."""
    whole = str(text)
    return whole if len(whole) <= most else whole[: most - 1] + "…"


def run_parameters(
    model_name: str, training: Mapping[str, object], base_model: str, digests: Mapping[str, str]
) -> dict[str, object]:
    """Parameters of a run: the model, those of the training, what it began from, its archives with 8 digits of a hash.

    Archives are here as well as in the tags because MLflow compares versions by parameters and metrics alone.
    """
    return {"model_name": model_name, **training, "base_model": base_model, "archives": _archives(digests)}


def _archives(digests: Mapping[str, str]) -> str:
    return ", ".join(f"{archive}@{digest[:8]}" for archive, digest in digests.items())


def mlflow_metrics(model: TrainedModel) -> dict[str, float]:
    """Metrics of a run: `best/<name>`, `best/<name>/<class>`, and how many epochs there were."""
    metrics = {f"best/{name}": value for name, value in model.scores.metrics.items()}
    names = _safe_names(model.scores.classes)
    for found, values in model.scores.classes.items():
        metrics |= {f"best/{name}/{names[found]}": value for name, value in values.items()}
    return {**metrics, "epochs": float(model.epochs), "best_epoch": float(model.best_epoch)}


def _safe_names(classes: Iterable[str]) -> dict[str, str]:
    """Each class in characters that MLflow takes, no two alike."""
    names: dict[str, str] = {}
    for found in classes:
        safe = "".join(sign if sign.isalnum() or sign in "_-. :" else "_" for sign in found)[:200]
        safe = safe if safe.strip(".") else f"_{safe}"  # MLflow takes names for paths, in which dots lead elsewhere
        number, free = 1, safe
        while free in names.values():
            number, free = number + 1, f"{safe}_{number + 1}"
        names[found] = free
    return names


def version_tags(model: TrainedModel, image_size: int, lineage: Mapping[str, str]) -> dict[str, str]:
    """Tags of a version: what serving needs of it (task, image size, class names), its scores, and where it is from."""
    return {
        "task": model.task,
        "image_size": str(image_size),
        "metrics": json.dumps(_rounded(model.scores.metrics)),
        "class_metrics": _class_metrics(model.scores),
        "epochs": str(model.epochs),
        "best_epoch": str(model.best_epoch),
        **{name: truncate(value, MAX_TAG) for name, value in lineage.items()},
        "class_names": json.dumps(model.class_names),
    }


def _class_metrics(scores: Scores) -> str:
    """JSON of the metrics of each class; where that is too long the main one, and then of the weakest classes alone."""
    text = json.dumps({name: _rounded(values) for name, values in scores.classes.items()})
    weakest = sorted(scores.by_class.items(), key=lambda found: found[1])
    while len(text) > MAX_TAG:
        text = json.dumps({name: {PRIMARY_METRIC[scores.task]: round(value, 4)} for name, value in weakest})
        weakest = weakest[: len(weakest) * 9 // 10]
    return text


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}


def decision_metrics(decision: Decision) -> dict[str, float]:
    """Metrics of a run about the promotion of its version: 1 or 0, and what both versions reached on each data."""
    metrics = {"promotion/promoted": float(decision.promoted)}
    for mean in decision.means:
        metrics[f"promotion/{mean.data}/challenger"] = mean.challenger
        if mean.champion is not None:
            metrics[f"promotion/{mean.data}/champion"] = mean.champion
    return metrics


def version_description(model: TrainedModel, image_size: int, lineage: Mapping[str, str], links: str = "") -> str:
    """A version on a page of markdown: its scores, its weakest classes first, and where it comes from.

    It begins with the score, because a list of versions shows no more of it than that; `links`, in markdown, follow.
    """
    scores = model.scores
    known = {**lineage, "archives": _archives(json.loads(lineage.get("archives", "{}")))}
    origin = [(name, truncate(known[name], 800)) for name in _ORIGIN if known.get(name)]
    sentence = (
        f"{PRIMARY_METRIC[scores.task]} {scores.primary:.4f} on {scores.images} validation images. "
        f"{escape_markdown(model.task)} at {image_size} px, {len(model.class_names)} classes, "
        f"best epoch {model.best_epoch} of {model.epochs}."
    )
    parts = [
        sentence,
        *([links] if links else []),
        table(("metric", "value"), [(name, f"{value:.4f}") for name, value in scores.metrics.items()]),
        _weakest(model),
        table(("trained from", ""), origin, room=None),  # MLflow's cells wrap
    ]
    return truncate("\n\n".join(parts), MAX_DESCRIPTION)


def _weakest(model: TrainedModel) -> str:
    values = sorted(model.scores.by_class.items(), key=lambda found: found[1])
    rows: list[tuple[str, str]] = [
        (truncate(name, _SHOWN_NAME), f"{value:.4f}") for name, value in values[:_SHOWN_CLASSES]
    ]
    unseen = [name for name in model.class_names if name not in model.scores.classes]
    notes = [f"And {len(values) - _SHOWN_CLASSES} classes above these."] if len(values) > _SHOWN_CLASSES else []
    if unseen:
        notes.append(f"Not in validation: {truncate(', '.join(map(escape_markdown, unseen)), 200)}.")
    return "\n\n".join([table(("class", PRIMARY_METRIC[model.scores.task]), rows), *notes])
