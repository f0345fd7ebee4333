"""Training and evaluation on images of which each is labelled for some of the classes only.

A class outside an image's vocabulary (`tasks.merge.vocabularies`) is unknown there: its classification loss is 0,
images that are mixed (mosaic, mixup, cutmix, copy-paste) are of one vocabulary, and detections of it are not counted.
The assignment of labels to anchors looks at labelled classes alone, so it stays as it is.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ultralytics.models import yolo
from ultralytics.utils.torch_utils import unwrap_model

from tasks.errors import StudioError, expected_found_fix
from tasks.merge.vocabularies import Vocabularies, Vocabulary, read_vocabularies, require_vocabularies
from tasks.training.trainer.image_groups import group_images

# A logit whose sigmoid is 0 for a class that is not there: neither its value nor its gradient counts.
_ABSENT = -30.0
# Those whose loss takes weights of classes, an image at a time.
_TRAINERS = (
    yolo.detect.DetectionTrainer,
    yolo.segment.SegmentationTrainer,
    yolo.pose.PoseTrainer,
    yolo.obb.OBBTrainer,
)


class PartialLabelsError(StudioError):
    """A model cannot be trained on images that are labelled for some of the classes only."""


def choose_trainer(model: Any, data: Path) -> type[Any] | None:  # noqa: ANN401 - ultralytics ships no types
    """Return the trainer of a `YOLO` object for `data`; None, Ultralytics' own, if every image knows every class.

    Raises:
        PartialLabelsError: The loss of such a model cannot leave out a class of an image.
    """
    if read_vocabularies(data) is None:
        return None
    own = model.task_map[model.task]["trainer"]
    if own not in _TRAINERS:
        fix = "Take a YOLO model, or set merge.partial_labels to warn: what is not labelled is background then."
        found = f"a {type(model).__name__} and archives that label different classes"
        raise PartialLabelsError(expected_found_fix("a model whose loss can leave out classes of an image", found, fix))
    return type("PartialLabelsTrainer", (_PartialLabelsTrainer, own), {})


def choose_validator(model: Any, data: Path) -> type[Any] | None:  # noqa: ANN401
    """Return the validator of a `YOLO` object for `data`; None, Ultralytics' own, if every image knows every class."""
    vocabularies = read_vocabularies(data)
    return masked_validator(model.task_map[model.task]["validator"], vocabularies) if vocabularies else None


def masked_validator(base: type[Any], vocabularies: Vocabularies) -> type[Any]:
    """Return a validator that leaves out what is found of a class that its image does not know."""
    return type("PartialLabelsValidator", (_PartialLabelsValidator, base), {"vocabularies": vocabularies})


class _PartialLabelsTrainer:
    """What a trainer does otherwise; it is put before one of Ultralytics."""

    args: Any
    model: Any

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:  # noqa: ANN401
        dataset = super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        if mode == "train":
            group_images(dataset, [self._vocabularies.of_image(Path(path)) for path in dataset.im_files])
        return dataset

    def get_validator(self) -> Any:  # noqa: ANN401
        validator = super().get_validator()  # type: ignore[misc]
        validator.__class__ = masked_validator(type(validator), self._vocabularies)
        return validator

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)  # type: ignore[misc]
        model: Any = unwrap_model(self.model)
        if getattr(model, "criterion", None) is None:
            model.criterion = model.init_criterion()
        known = [self._vocabularies.of_image(Path(path)) for path in batch["im_file"]]
        mask_loss(model.criterion, known, len(model.names))
        return batch

    @cached_property
    def _vocabularies(self) -> Vocabularies:  # read in the process of each GPU
        return require_vocabularies(Path(self.args.data))


class _PartialLabelsValidator:
    """A validator that leaves out what it cannot know to be wrong; it is put before one of Ultralytics."""

    vocabularies: Vocabularies

    def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        known = [
            _keep(found, self.vocabularies.of_image(Path(path)))
            for found, path in zip(preds, batch["im_file"], strict=True)
        ]
        super().update_metrics(known, batch)  # type: ignore[misc]


def _keep(found: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    kept = torch.isin(found["cls"], torch.tensor(sorted(vocabulary), device=found["cls"].device))
    return {name: values[kept] for name, values in found.items()}


def mask_loss(criterion: Any, known: list[Vocabulary], classes: int) -> None:  # noqa: ANN401
    """Set the classes of each image of the next batch whose loss counts, in a criterion of Ultralytics.

    Raises:
        TypeError: The criterion has no weights for classes.
    """
    for part in (criterion.one2many, criterion.one2one) if hasattr(criterion, "one2many") else (criterion,):
        if not hasattr(part, "class_weights"):
            raise TypeError(f"expected a loss with class weights, found {type(part).__name__}")
        if not hasattr(part, "complete_class_weights"):
            part.complete_class_weights = 1.0 if part.class_weights is None else part.class_weights
            if hasattr(part, "bcedice_loss"):
                part.bcedice_loss.register_forward_pre_hook(_mask_pixels)
        mask = torch.zeros(len(known), classes, device=part.device)
        for row, vocabulary in zip(mask, known, strict=True):
            row[sorted(vocabulary)] = 1
        part.class_weights = mask[:, None] * part.complete_class_weights
        if hasattr(part, "bcedice_loss"):
            part.bcedice_loss.mask = mask[:, :, None, None]


def _mask_pixels(module: Any, tensors: tuple[Any, Any]) -> tuple[Any, Any]:  # noqa: ANN401
    logits, targets = tensors
    return torch.where(module.mask > 0, logits, _ABSENT), targets
