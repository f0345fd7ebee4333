"""How much images count whose labels a model has made: of a weight below 1 they are seen so much more rarely.

An image of a person is seen in the place of one that is left out, so an epoch stays as long as it is. Images that are
mixed (mosaic, mixup, cutmix, copy-paste) are of one kind.
"""

import random
from pathlib import Path
from typing import Any

from tasks.errors import StudioError, expected_found_fix
from tasks.merge.pseudo_labelled_file import PseudoLabelled, read_pseudo_labelled
from tasks.merge.written_files import list_images
from tasks.training.trainer.image_groups import group_images


class PseudoWeightError(StudioError):
    """Images that a model has labelled cannot have this weight."""


def weigh_pseudo_labels(model: Any, trainer: type[Any] | None, data: Path, weight: float) -> type[Any] | None:  # noqa: ANN401 - ultralytics ships no types
    """Return a trainer of a `YOLO` object that weighs the images of `data`, else as `trainer` (None: Ultralytics' own).

    Raises:
        PseudoWeightError: At weight 0 no image is left.
    """
    pseudo_labelled = read_pseudo_labelled(data)
    if weight == 1 or not pseudo_labelled.prefixes:
        return trainer
    if weight == 0 and all(image in pseudo_labelled for image in list_images(data, model.task, "train")):
        fix = "Set a training.pseudo_weight above 0, or add an archive that a person has labelled."
        expected = "images for training that a person has labelled, as training.pseudo_weight is 0"
        raise PseudoWeightError(expected_found_fix(expected, "labels of a model alone", fix))
    own = trainer or model.task_map[model.task]["trainer"]
    return type("PseudoWeightTrainer", (_PseudoWeightTrainer, own), {"pseudo_weight": weight})


class _PseudoWeightTrainer:
    """What a trainer does otherwise; it is put before one of Ultralytics."""

    args: Any
    pseudo_weight: float

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:  # noqa: ANN401
        dataset = super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        if mode == "train":
            # The file is read in the process of each GPU.
            weigh_images(dataset, read_pseudo_labelled(Path(self.args.data)), self.pseudo_weight)
        return dataset


def weigh_images(dataset: Any, pseudo_labelled: PseudoLabelled, weight: float) -> None:  # noqa: ANN401
    """Have a dataset of Ultralytics show an image of a model `weight` times as often as one of a person.

    Raises:
        PseudoWeightError: Its images have no places of their own, as in rectangular batches.
    """
    if getattr(dataset, "rect", False):
        fix = "Leave overrides.rect out, or set training.pseudo_weight to 1."
        raise PseudoWeightError(expected_found_fix("square images for training.pseudo_weight", "overrides.rect", fix))
    is_tree = hasattr(dataset, "samples")
    files = [sample[0] for sample in dataset.samples] if is_tree else dataset.im_files
    dataset.made = [Path(file) in pseudo_labelled for file in files]
    dataset.drawn = [index for index, made in enumerate(dataset.made) if not made]
    dataset.kept_share = kept_share(len(dataset.drawn), len(files) - len(dataset.drawn), weight)
    if not is_tree:
        group_images(dataset, dataset.made)
    dataset.__class__ = _weighed(type(dataset))


def kept_share(drawn: int, made: int, weight: float) -> float:
    """Return how much of its turns an image of a model keeps, if one of a person has the others.

    Of `drawn` images of people and `made` ones of a model, that makes it seen `weight` times as often: these gain what
    those lose.
    """
    return weight * (drawn + made) / (drawn + weight * made)


def _weighed(base: type[Any]) -> type[Any]:
    """`made` says of each image whether a model has labelled it, `drawn` are the others."""

    class WeighedImages(base):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:  # noqa: ANN401
            if self.made[index] and random.random() >= self.kept_share:  # noqa: S311 - as Ultralytics' own choices
                index = random.choice(self.drawn)  # noqa: S311
            return super().__getitem__(index)

    return WeighedImages
