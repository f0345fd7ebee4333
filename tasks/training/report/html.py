"""A finished training as a page of HTML: its curves, then the images with the most mistakes."""

from collections.abc import Mapping, Sequence

from tasks.parameters import TrainingParams
from tasks.promotion.rules import Decision
from tasks.rendering.html import DOCUMENT, JUDGEMENT, render_page
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.report.curves import HEIGHT, WIDTH, charts
from tasks.training.report.markdown import overrides_sentence
from tasks.training.report.worst_images import MIN_CONFIDENCE, embed_worst_images
from tasks.vision.metrics import MAP50_METRIC, PRIMARY_METRIC

SHOWN_CLASSES = 200


def training_page(
    title: str,
    model: TrainedModel,
    epochs: Sequence[EpochResult],
    decision: Decision,
    links: Mapping[str, str],
    training: TrainingParams | None = None,
) -> str:
    """Return the training as one file of HTML.

    `title` names the version, `links` are addresses by their texts, `training` is what a person chose.
    """
    names = list(dict.fromkeys((PRIMARY_METRIC[model.task], MAP50_METRIC[model.task])))
    rows = [
        (name, [metrics.get(metric) for metric in names])
        for name, metrics in sorted(model.scores.classes.items(), key=lambda each: each[1].get(names[0], 0.0))
    ]
    return render_page(
        "training",
        DOCUMENT,
        JUDGEMENT,
        title=title,
        promoted=decision.promoted,
        reasons=(*decision.reasons, *decision.falls),
        links=links,
        totals=[(name, f"{model.scores.metrics.get(name, 0.0):.3f}") for name in names],
        sentence=f"Task {model.task}. Best epoch {model.best_epoch} of {model.epochs}, batch {model.batch}, "
        f"{model.scores.images} validation images.{overrides_sentence(training)}",
        charts=charts(epochs, model.best_epoch),
        sides=(WIDTH, HEIGHT),
        pictures=embed_worst_images(model.folder),
        sure=MIN_CONFIDENCE,
        names=names,
        classes=rows[:SHOWN_CLASSES],
        more_classes=max(len(rows) - SHOWN_CLASSES, 0),
    )
