"""Tags, parameters, metrics and descriptions of runs and versions in MLflow."""

import json
from collections.abc import Iterable, Mapping
from itertools import chain, count

from tasks.promotion.rules import Decision
from tasks.rendering.markdown import escape_markdown, table
from tasks.training.events import TrainedModel
from tasks.vision.metrics import PRIMARY_METRIC, Scores

# The longest texts that MLflow and its database keep, in characters.
MAX_TAG = 100_000
MAX_RUN_TAG = 8_000
MAX_PARAMETER = 6_000
MAX_DESCRIPTION = 5_000
_SHOWN_CLASSES = 30
_SHOWN_NAME = 40
_ORIGIN = ("base_model", "archives", "git_commit", "flow_run_id")


def truncate(text: object, most: int) -> str:
    """Return a text of at most `most` characters; a cut one ends with `…`."""
    whole = str(text)
    return whole if len(whole) <= most else whole[: most - 1] + "…"


def run_parameters(
    model_name: str, training: Mapping[str, object], base_model: str, digests: Mapping[str, str]
) -> dict[str, object]:
    """Return the parameters of a run; the archives are among them because MLflow compares versions by parameters."""
    return {"model_name": model_name, **training, "base_model": base_model, "archives": _archives(digests)}


def _archives(digests: Mapping[str, str]) -> str:
    return ", ".join(f"{archive}@{digest[:8]}" for archive, digest in digests.items())


def mlflow_metrics(model: TrainedModel) -> dict[str, float]:
    """Return the metrics of a run: `best/<name>` and `best/<name>/<class>`; of a training `epochs` and `best_epoch`."""
    metrics = {f"best/{name}": value for name, value in model.scores.metrics.items()}
    names = _safe_names(model.scores.classes)
    for class_name, values in model.scores.classes.items():
        metrics |= {f"best/{name}/{names[class_name]}": value for name, value in values.items()}
    trained = {"epochs": float(model.epochs), "best_epoch": float(model.best_epoch)} if model.epochs else {}
    return metrics | trained


def _safe_names(classes: Iterable[str]) -> dict[str, str]:
    """Each class in characters that MLflow accepts, no two alike."""
    names: dict[str, str] = {}
    for class_name in classes:
        safe = "".join(sign if sign.isalnum() or sign in "_-. :" else "_" for sign in class_name)[:200]
        safe = safe if safe.strip(".") else f"_{safe}"  # MLflow reads names as paths, in which dots lead elsewhere
        variants = chain([safe], (f"{safe}_{number}" for number in count(2)))
        names[class_name] = next(name for name in variants if name not in names.values())
    return names


def version_tags(model: TrainedModel, image_size: int, lineage: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a version: task, image size and class names, which serving needs, scores and lineage."""
    return {
        "task": model.task,
        "image_size": str(image_size),
        "metrics": json.dumps(_rounded(model.scores.metrics)),
        "class_metrics": _class_metrics(model.scores),
        **({"epochs": str(model.epochs), "best_epoch": str(model.best_epoch)} if model.epochs else {}),
        **{name: truncate(value, MAX_TAG) for name, value in lineage.items()},
        "class_names": json.dumps(model.class_names),
    }


def _class_metrics(scores: Scores) -> str:
    """JSON of the metrics of each class; if it is too long, of the main metric, and then of the weakest classes."""
    text = json.dumps({name: _rounded(values) for name, values in scores.classes.items()})
    weakest = sorted(scores.by_class.items(), key=lambda each: each[1])
    while len(text) > MAX_TAG:
        text = json.dumps({name: {PRIMARY_METRIC[scores.task]: round(value, 4)} for name, value in weakest})
        weakest = weakest[: len(weakest) * 9 // 10]
    return text


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in metrics.items()}


def decision_metrics(decision: Decision) -> dict[str, float]:
    """Return the metrics of a promotion: 1 or 0, and the means of both versions on each set of images."""
    metrics = {"promotion/promoted": float(decision.promoted)}
    for mean in decision.means:
        metrics[f"promotion/{mean.data}/challenger"] = mean.challenger
        if mean.champion is not None:
            metrics[f"promotion/{mean.data}/champion"] = mean.champion
    return metrics


def version_description(model: TrainedModel, image_size: int, lineage: Mapping[str, str], links: str = "") -> str:
    """Return a page of markdown: scores, weakest classes and origin of a version, with `links` in markdown.

    A list of versions shows only the beginning, so the main score comes first.
    """
    scores = model.scores
    values = {**lineage, "archives": _archives(json.loads(lineage.get("archives", "{}")))}
    origin = [(name, truncate(values[name], 800)) for name in _ORIGIN if values.get(name)]
    measured = f"{PRIMARY_METRIC[scores.task]} {scores.primary:.4f} on {scores.images} validation images."
    made = f"best epoch {model.best_epoch} of {model.epochs}" if model.epochs else "imported"
    sentence = (
        f"{measured if scores.images else 'Not measured.'} {escape_markdown(model.task)} at {image_size} px, "
        f"{len(model.class_names)} classes, {made}."
    )
    parts = [
        sentence,
        *([links] if links else []),
        *(_measurements(model) if scores.images else []),
        table(("made from", ""), origin, room=None),  # MLflow wraps cells
    ]
    return truncate("\n\n".join(parts), MAX_DESCRIPTION)


def _measurements(model: TrainedModel) -> list[str]:
    metrics = [(name, f"{value:.4f}") for name, value in model.scores.metrics.items()]
    return [table(("metric", "value"), metrics), _weakest(model)]


def _weakest(model: TrainedModel) -> str:
    values = sorted(model.scores.by_class.items(), key=lambda each: each[1])
    rows: list[tuple[str, str]] = [
        (truncate(name, _SHOWN_NAME), f"{value:.4f}") for name, value in values[:_SHOWN_CLASSES]
    ]
    unseen = [name for name in model.class_names if name not in model.scores.classes]
    notes = [f"And {len(values) - _SHOWN_CLASSES} classes above these."] if len(values) > _SHOWN_CLASSES else []
    if unseen:
        notes.append(f"Not in validation: {truncate(', '.join(map(escape_markdown, unseen)), 200)}.")
    return "\n\n".join([table(("class", PRIMARY_METRIC[model.scores.task]), rows), *notes])
