"""A finished training as a page of markdown."""

from collections.abc import Mapping

from tasks.core.epochs import TrainedModel
from tasks.core.markdown import plain, table
from tasks.core.promotion import Decision


def training_markdown(
    model_name: str, version: int, model: TrainedModel, images: Mapping[str, int], decision: Decision
) -> str:
    """What was learned, class by class, and whether the version was promoted."""
    metrics = [(name.removeprefix("metrics/"), f"{value:.4f}") for name, value in model.metrics.items()]
    classes = [
        (number, name, f"{model.class_map50[name]:.4f}" if name in model.class_map50 else "not in validation")
        for number, name in enumerate(model.class_names)
    ]
    counts = ", ".join(f"{count} {split}" for split, count in images.items())
    return "\n\n".join(
        [
            f"# {plain(model_name)} version {version}",
            f"{plain(decision.reason)}. Images: {counts}.",
            table(("metric", "value"), metrics),
            table(("id", "class", "mAP50"), classes),
        ]
    )
