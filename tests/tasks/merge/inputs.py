"""Sources built by hand: what a plan is made of, without a file."""

from collections.abc import Mapping

import cv2
import numpy as np

from tasks.dataset.image_stats import ImageStats
from tasks.dataset.label_origins import LabelOrigin, Origin, pack_label_origins, unpack_label_origins
from tasks.dataset.layout import Dataset, LabelledImage
from tasks.merge.inputs import MergeInput
from tasks.merge.plan import MergePlan, plan_merge
from tasks.parameters import MergePolicy

TRAIN_VAL: Mapping[str, str] = {"train": "ab", "val": "c"}


def source(
    archive: str = "a.zip",
    names: str = "cat dog",
    splits: Mapping[str, str] = TRAIN_VAL,
    task: str | None = "detect",
    keypoints: tuple[int, int] | None = None,
    flip_idx: tuple[int, ...] | None = None,
    *,
    made: str = "",
) -> MergeInput:
    """An archive of pictures that are letters: the same letter is the same picture, in whatever archive.

    In a classification tree capitals are of the second class. A model has labelled the pictures `made`.
    """
    samples: dict[str, tuple[LabelledImage, ...]] = {}
    images: dict[str, ImageStats] = {}
    entries: dict[str, tuple[int, int]] = {}
    classes = names.split()
    for split, letters in splits.items():
        folder = {letter: f"/{classes[letter.isupper()]}" if task == "classify" else "" for letter in letters}
        paths = {f"images/{split}{folder[letter]}/{letter}.jpg": letter for letter in letters}
        samples[split] = tuple(LabelledImage(path, None) for path in paths)
        images |= {path: picture(letter) for path, letter in paths.items()}
        entries |= {path: (ord(letter), 1) for path, letter in paths.items()}
    told = [LabelOrigin(image=path, row=None, origin=Origin.MODEL) for path in images if path[-5] in made]
    dataset = Dataset(
        class_names=tuple(classes),
        splits=samples,
        task=task,
        keypoints=keypoints,
        flip_idx=flip_idx,
        origins=unpack_label_origins(pack_label_origins(told)),
    )
    return MergeInput(
        archive=archive, dataset=dataset, images=images, entries=entries, read=lambda path: path[-5].encode()
    )


def picture(letter: str) -> ImageStats:
    """Traits of a picture of its own."""
    noise = np.random.default_rng(ord(letter)).integers(0, 255, (4, 4), dtype=np.uint8)
    return ImageStats(64, 64, thumbnail=np.asarray(cv2.resize(noise, (16, 16))).tobytes())


def merged(*sources: MergeInput, gold: MergeInput | None = None, **policy: object) -> MergePlan:
    return plan_merge(sources, MergePolicy.model_validate(policy), gold)


def staying(plan: MergePlan) -> list[dict[str, str]]:
    """The letters that are left of each archive, by split."""
    return [
        {split: "".join(sample.image[-5] for sample in samples) for split, samples in own.items()}
        for own in plan.splits
    ]


def codes(plan: MergePlan) -> dict[str, bool]:
    """Whether each code that was found is fatal."""
    return {conflict.code.value: conflict.fatal for conflict in plan.conflicts}
