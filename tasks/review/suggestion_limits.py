"""What of a model's detections a round cannot suggest, as the run of inference that it uses has not kept it."""

from collections.abc import Iterator, Sequence

from tasks.inference.kept_detections import KeptDetections
from tasks.parameters import InferenceParams

_SHOWN_CLASSES = 10
_FIX = "To see it, start the round with the images themselves, not with `run:`."


def suggestion_limits(
    inference: InferenceParams | None, class_names: Sequence[str], confidence: float
) -> tuple[str, ...]:
    """Return sentences, none if all is there that `review.confidence` lets through.

    Args:
        inference: The parameters of the run; None if it does not tell them.
        class_names: Of the model.
        confidence: `review.confidence`.
    """
    unknown = "The run of inference does not tell what it has kept: some suggestions may be missing."
    if inference is None:
        return (unknown,)
    try:
        kept = KeptDetections.of(inference, class_names, [confidence] * len(class_names))
    except ValueError:  # of a class that the model does not have
        return (unknown,)
    return tuple(_sentences(kept, confidence))


def _sentences(kept: KeptDetections, confidence: float) -> Iterator[str]:
    if kept.lost:
        shown = [f"{name} {own:.3g}" for name, own in [*kept.lost.items()][:_SHOWN_CLASSES]]
        more = f" and {len(kept.lost) - _SHOWN_CLASSES:,} more classes" if len(kept.lost) > _SHOWN_CLASSES else ""
        yield (
            f"The run of inference has kept less than review.confidence ({confidence:g}) asks for: {', '.join(shown)}"
            f"{more}. What it saw below that is not suggested, and must be drawn. {_FIX}"
        )
    if kept.overlap is not None:
        yield (
            f"Of two boxes of a class that overlap by more than {kept.overlap:g} (IoU) the run of inference has kept "
            f"one: objects close together may lack a suggestion. {_FIX}"
        )
    if kept.tiled:
        yield "The run of inference has looked in tiles as well: its confidences are not those of validation."
