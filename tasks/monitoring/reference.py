"""What the data of a version look like: its validation images, clean and corrupted, as the version sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StudioError, expected_found_fix
from tasks.evaluation.corruption import WITH_DARKNESS, Corruption
from tasks.monitoring.judged_images import JudgedImages
from tasks.monitoring.profiles import OBJECT_TRAITS, PICTURE_TRAITS, Profile

REFERENCE = "monitoring-reference-2.npz"  # the number is that of its format
_SETS = (None, *WITH_DARKNESS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """The images of a version's validation sample, clean and with each of `WITH_DARKNESS`."""

    clean: JudgedImages
    corrupted: Mapping[Corruption, JudgedImages]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.clean.labels.shape[1])

    def without_embeddings(self) -> "Reference":
        """Return the same for a window that has none."""
        corrupted = {name: _forget_embeddings(images) for name, images in self.corrupted.items()}
        return Reference(clean=_forget_embeddings(self.clean), corrupted=corrupted)


def _forget_embeddings(images: JudgedImages) -> JudgedImages:
    return replace(images, profile=replace(images.profile, embeddings=images.profile.embeddings[:, :0]))


def save_reference(reference: Reference, path: Path) -> None:
    """Write a file whose name ends in .npz."""
    sets = [reference.clean, *(reference.corrupted[corruption] for corruption in WITH_DARKNESS)]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(images.profile, name) for images in sets]) for name in OBJECT_TRAITS
    }
    np.savez_compressed(
        path,
        labels=reference.clean.labels,
        pictures=np.array([[images.profile.pictures[trait] for trait in PICTURE_TRAITS] for images in sets]),
        embeddings=np.array([images.profile.embeddings for images in sets], np.float16),
        counts=np.array([len(images.correct) for images in sets]),
        correct=np.concatenate([images.correct for images in sets]),
        **columns,
    )


def load_reference(path: Path) -> Reference:
    """Read a file of `save_reference`; nothing in the file is ever run.

    Raises:
        StudioError: It is another file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
        sets = [_read_set(values, number) for number in range(len(_SETS))]
    except Exception as error:  # whatever NumPy and zipfile raise over a damaged file
        fix = "Remove it from the MLflow run of the version: the next monitoring makes it again."
        raise StudioError(expected_found_fix(f"a reference in {path.name}", f"another file ({error})", fix)) from error
    return Reference(clean=sets[0], corrupted=dict(zip(WITH_DARKNESS, sets[1:], strict=True)))


def _read_set(values: Mapping[str, Any], number: int) -> JudgedImages:
    last = int(values["counts"][: number + 1].sum())
    rows = slice(last - int(values["counts"][number]), last)
    profile = Profile(
        pictures=dict(zip(PICTURE_TRAITS, values["pictures"][number], strict=True)),
        embeddings=values["embeddings"][number].astype(np.float64),
        **{name: values[name][rows] for name in OBJECT_TRAITS},
    )
    return JudgedImages(profile=profile, correct=values["correct"][rows], labels=values["labels"])
