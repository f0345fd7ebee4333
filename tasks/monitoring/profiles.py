"""What images look like and what a model finds in them: by this, images are compared with those of the validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.dataset.image_stats import ImageStats
from tasks.vision.detections import Detections

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

PICTURE_TRAITS = ("brightness", "contrast", "sharpness", "image size")
OBJECT_TRAITS = ("image", "class_id", "confidence", "size")


class Looks(NamedTuple):
    """What an image looks like: the values of `PICTURE_TRAITS`, as `Profile.pictures` has them."""

    brightness: float
    contrast: float
    sharpness: float
    image_size: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Profile:
    """What N images look like, and the M objects that a model found in them.

    Attributes:
        pictures: `PICTURE_TRAITS` by name, each [N]: mean and span of the grey levels (0 to 255), sharpness as
            `ImageStats` has it, and the root of the number of pixels. NaN for an image that was not looked at.
        embeddings: [N, d] of the model, NaN for an image that has none; d may be 0.
        image: [M] the number of the image of each object.
        class_id: [M] the class of each object.
        confidence: [M] 0 to 1.
        size: [M] the root of the share of its image that the box of each object has, 0 to 1.
    """

    pictures: Mapping[str, Doubles]
    embeddings: Doubles
    image: Ints
    class_id: Ints
    confidence: Doubles
    size: Doubles

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def objects(self) -> Doubles:
        """[N] the number of objects in each image."""
        return np.bincount(self.image, minlength=len(self)).astype(np.float64)

    def mean_of_objects(self, values: Doubles) -> Doubles:
        """Return [N] the mean of the `values` [M] of the objects of each image, NaN where there is none.

        The objects of one image resemble each other, so it is images that a test may count, not objects.
        """
        sums = np.bincount(self.image, values, minlength=len(self))
        return np.asarray(np.divide(sums, self.objects, out=np.full(len(self), np.nan), where=self.objects > 0))

    def from_confidence(self, least: Doubles) -> "Profile":
        """Return the same with the objects whose confidence reaches that of their class in `least` [classes]."""
        kept = self.confidence >= least[self.class_id]
        return replace(self, **{name: getattr(self, name)[kept] for name in OBJECT_TRAITS})

    def rows_of(self, images: Ints) -> list[Ints]:
        """Return the rows of the objects of each of some images, by number."""
        order = np.argsort(self.image, kind="stable")
        counts = np.bincount(self.image, minlength=len(self))
        ends = np.cumsum(counts)
        return [order[ends[number] - counts[number] : ends[number]] for number in images]

    def select(self, images: Ints) -> "Profile":
        """Return the profile of some of the images, by number; one that is named twice counts twice."""
        rows = self.rows_of(images)
        objects = np.concatenate([np.zeros(0, np.int64), *rows])
        return Profile(
            pictures={name: values[images] for name, values in self.pictures.items()},
            embeddings=self.embeddings[images],
            image=np.repeat(np.arange(len(images)), [len(own) for own in rows]),
            class_id=self.class_id[objects],
            confidence=self.confidence[objects],
            size=self.size[objects],
        )


def profile_images(
    looks: Sequence[Looks | None], found: Sequence[Detections], embeddings: Doubles | None = None
) -> Profile:
    """Return the profile of images.

    Args:
        looks: What each image looks like; None if it was not looked at.
        found: What a model found in each, of classify its best class.
        embeddings: [N, d], or None if there are none.
    """
    counts = [len(own) for own in found]
    return Profile(
        pictures=picture_traits(looks),
        embeddings=np.zeros((len(found), 0)) if embeddings is None else embeddings,
        image=np.repeat(np.arange(len(found)), counts),
        class_id=np.concatenate([np.zeros(0, np.int64), *(own.class_id for own in found)]).astype(np.int64),
        confidence=np.concatenate([np.zeros(0), *(own.confidence for own in found)]),
        size=np.concatenate([np.zeros(0), *map(_box_sizes, found)]),
    )


def picture_traits(looks: Sequence[Looks | None]) -> dict[str, Doubles]:
    """Return `PICTURE_TRAITS` by name, [N] each, NaN for an image that was not looked at."""
    seen = [own or (np.nan,) * len(PICTURE_TRAITS) for own in looks]
    columns = np.array(seen, np.float64).reshape(-1, len(PICTURE_TRAITS)).T
    return dict(zip(PICTURE_TRAITS, columns, strict=True))


def looks_of(stats: ImageStats) -> Looks:
    """Return what an image looks like that was decoded."""
    grey = stats.grey
    return Looks(grey.brightness, grey.contrast, grey.sharpness, (stats.width * stats.height) ** 0.5)


def _box_sizes(found: Detections) -> Doubles:
    sides = np.maximum(found.xyxy[:, 2:] - found.xyxy[:, :2], 0).astype(np.float64)
    return np.asarray(np.sqrt(sides.prod(axis=1) / (found.width * found.height)))
