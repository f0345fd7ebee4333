"""The labelled images of archives that versions are evaluated on, unpacked."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.image_stats import ImageStats, check_image
from tasks.dataset.labels import MAX_LABEL_BYTES, LabelRow, LabelSpec, parse_labels
from tasks.dataset.layout import Dataset, LabelledImage, class_folder
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.merge.class_mapping import Renames, find_unknown_renames, plan_classes
from tasks.merge.manifest import find_origin
from tasks.merge.steps import ValidArchive
from tasks.merge.vocabularies import read_vocabularies
from tasks.merge.written_files import label_path, list_images
from tasks.merge.yolo_writer import read_keypoint_keys
from tasks.validation.dataset_check import open_dataset
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

ALL_SPLITS = "all"


class NoLabelledImagesError(StudioError):
    """A split of an archive has no images, or none that a person has labelled."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationImage:
    """An image: its entry `name` in its archive, a split, its file here, its label rows, and of classify the class.

    `vocabulary` are the classes that its archive labels: of others nobody knows whether they are in the image.
    """

    archive: str
    name: str
    split: str
    path: Path
    rows: tuple[LabelRow, ...]
    stats: ImageStats
    vocabulary: frozenset[int]
    class_id: int | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether it shows an object, or is of a class."""
        return bool(self.rows) or self.class_id is not None


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationSet:
    """The images of a `split` of archives; class ids are places in `class_names`.

    `digests` are the SHA-256 in hex of the archives by name, and `checksums` the CRC-32 and the size of all images of
    each, of all splits, by their entries; of a merged dataset both are empty, so nobody can tell who has learnt it.
    `keypoints` is `kpt_shape`: the number of keypoints, and the numbers of each; `flip_idx` is the keypoint that each
    becomes in a mirrored image, if that is known. `pseudo_labelled` counts images of the split that are left out, as a
    model has labelled them.
    """

    digests: Mapping[str, str]
    checksums: Mapping[str, Mapping[str, tuple[int, int]]]
    split: str
    task: str
    class_names: tuple[str, ...]
    keypoints: tuple[int, int]
    images: tuple[EvaluationImage, ...]
    flip_idx: tuple[int, ...] | None = None
    pseudo_labelled: int = 0

    @property
    def title(self) -> str:
        """The archives and the split, in words."""
        archives = dict.fromkeys(image.archive for image in self.images)
        return f"{', '.join(archives)}, {'all splits' if self.split == ALL_SPLITS else f'split {self.split}'}"


def describe_left_out(data: EvaluationSet) -> list[str]:
    """Return a sentence if images of the split are left out."""
    told = f"{data.pseudo_labelled:,} images are left out, because a model has made labels of them."
    return [told] if data.pseudo_labelled else []


def unpack_split(archive: ValidArchive, split: str, folder: Path) -> EvaluationSet:
    """Write the images of a split, or of `ALL_SPLITS`, into the fresh `folder`: under numbers, no name becomes a path.

    Images whose labels a model has made are left out: they say nothing of what is right.

    Raises:
        NoLabelledImagesError: The archive lacks the split, or has no label of a person in it.
        StudioError: It cannot be read.
    """
    folder.mkdir(parents=True)
    try:
        with open_dataset(archive.path, task=archive.task) as (entries, dataset):
            found = list(_samples(dataset, split, archive.name))
            samples = [each for each in found if each[1].image not in dataset.origins.pseudo_labelled]
            everything = {each.image for own in dataset.splits.values() for each in own}
            checksums = entries.checksums(everything)
            images = tuple(
                _unpack(entries, dataset, archive, own, each, folder / f"{at:06d}")
                for at, (own, each) in enumerate(samples)
            )
    except (ArchiveError, OSError) as error:
        raise StudioError(f"Unpacking {safe_repr(archive.name)} stopped: {error}") from error
    task = dataset.task
    if task is None or not any(image.is_labelled for image in images):
        fix = "Name a split with labels, or label its images."
        expected = f"labels of a person in split {split} of {safe_repr(archive.name)}"
        raise NoLabelledImagesError(expected_found_fix(expected, "none", fix))
    return EvaluationSet(
        digests={archive.name: archive.digest},
        checksums={archive.name: checksums},
        split=split,
        task=task,
        class_names=dataset.class_names,
        keypoints=dataset.keypoints or (0, 0),
        images=images,
        flip_idx=dataset.flip_idx,
        pseudo_labelled=len(found) - len(samples),
    )


def join_sets(sets: Sequence[EvaluationSet], renames: Renames) -> EvaluationSet:
    """Return the images of sets of one archive each as one set; classes meet by name, by the rules of merging.

    Labels of classes that `renames` drops go; images of such a class go in a tree.

    Raises:
        StudioError: The archives are labelled for different tasks or with different keypoints, or lack a renamed class.
    """
    first = sets[0]
    for each in sets[1:]:
        if (each.task, each.keypoints) != (first.task, first.keypoints):
            found = f"{first.task} in {first.title} and {each.task} in {each.title}"
            fix = "Evaluate on them one after another."
            raise StudioError(expected_found_fix("archives of one task with the same keypoints", found, fix))
    digests = {name: digest for each in sets for name, digest in each.digests.items()}
    checksums = {name: own for each in sets for name, own in each.checksums.items()}
    archives, names = [", ".join(each.digests) for each in sets], [each.class_names for each in sets]
    if unknown := find_unknown_renames(archives, names, renames):
        fix = "Write each as a data.yaml does."
        found = safe_repr(unknown, 200)
        raise StudioError(expected_found_fix("classes of the archives in evaluation.classes", found, fix))
    plan = plan_classes(archives, names, renames)
    images = tuple(
        _with_class_ids(image, ids)
        for each, ids in zip(sets, plan.class_ids, strict=True)
        for image in each.images
        if image.class_id is None or ids[image.class_id] is not None
    )
    made = sum(each.pseudo_labelled for each in sets)
    joined = replace(first, digests=digests, checksums=checksums, class_names=plan.class_names, images=images)
    return replace(joined, pseudo_labelled=made)


def _with_class_ids(image: EvaluationImage, ids: Sequence[int | None]) -> EvaluationImage:
    rows = tuple(row._replace(class_id=own) for row in image.rows if (own := ids[row.class_id]) is not None)
    vocabulary = frozenset(own for own in ids if own is not None)
    class_id = None if image.class_id is None else ids[image.class_id]
    return replace(image, rows=rows, vocabulary=vocabulary, class_id=class_id)


def read_val_split(data: Path, task: str, class_names: Sequence[str]) -> EvaluationSet:
    """Return the images of split `val` of a merged dataset, where they lie; nothing is known of what they are like."""
    shape: Any = read_keypoint_keys(data, task).get("kpt_shape", (0, 0))
    keypoints = (int(shape[0]), int(shape[1]))
    rules = LabelSpec(class_count=len(class_names), task=task, keypoints=keypoints)
    vocabularies = read_vocabularies(data)
    everything = frozenset(range(len(class_names)))
    images = []
    for path in list_images(data, task, "val"):
        archive, entry = find_origin(path)
        label = label_path(path)
        known = task != "classify" and label.exists()
        images.append(
            EvaluationImage(
                archive=archive,
                name=entry,
                split="val",
                path=path,
                rows=parse_labels(label.read_bytes(), label.name, rules)[0].rows if known else (),
                stats=ImageStats(0, 0),
                vocabulary=vocabularies.of_image(path) if vocabularies else everything,
                class_id=int(path.parent.name) if task == "classify" else None,
            )
        )
    return EvaluationSet(
        digests={},
        checksums={},
        split="val",
        task=task,
        class_names=tuple(class_names),
        keypoints=keypoints,
        images=tuple(images),
    )


def measure_images(data: EvaluationSet) -> EvaluationSet:
    """Return the same set with what is known of each image as it was checked."""

    def measure(image: EvaluationImage) -> EvaluationImage:
        stats, _ = check_image(image.path.read_bytes(), image.path.name)
        return replace(image, stats=stats or image.stats)

    with ThreadPoolExecutor() as pool:
        return replace(data, images=tuple(pool.map(measure, data.images)))


def _samples(dataset: Dataset, split: str, archive: str) -> Collection[tuple[str, LabelledImage]]:
    """Each image once, with the last split that has it."""
    splits = {name: samples for name, samples in dataset.splits.items() if samples}
    chosen = splits if split == ALL_SPLITS else {split: splits.get(split, ())}
    samples = {sample.image: (name, sample) for name, each in chosen.items() for sample in each}
    if not samples:
        fix = f"Name one of those, or {ALL_SPLITS}."
        raise NoLabelledImagesError(
            expected_found_fix(f"images in split {split} of {safe_repr(archive)}", str([*splits]), fix)
        )
    return samples.values()


def _unpack(
    entries: Archive, dataset: Dataset, archive: ValidArchive, split: str, sample: LabelledImage, path: Path
) -> EvaluationImage:
    file = path.with_suffix(f".{sample.image.rpartition('.')[2].lower()}")
    file.write_bytes(entries.read(sample.image))
    rows: tuple[LabelRow, ...] = ()
    if sample.label is not None:
        rows = parse_labels(entries.read(sample.label, MAX_LABEL_BYTES), sample.label, dataset.rules)[0].rows
    of_tree = dataset.task == "classify"
    return EvaluationImage(
        archive=archive.name,
        name=sample.image,
        split=split,
        path=file,
        rows=rows,
        stats=archive.images[sample.image],
        vocabulary=frozenset(range(len(dataset.class_names))),
        class_id=dataset.class_names.index(class_folder(sample.image)) if of_tree else None,
    )


def label_detections(image: EvaluationImage, data: EvaluationSet, task: str, width: int, height: int) -> Detections:
    """Return the labels of an image of `width` x `height` pixels as detections with confidence 1, for a model's `task`.

    A model for detect gets the boxes around outlines.
    """
    size = np.array([width, height], np.float32)
    if image.class_id is not None:
        return _labels(np.array([[0, 0, width, height]], np.float32), [image.class_id], width, height)
    classes = [row.class_id for row in image.rows]
    fields: dict[str, Any] = {}
    if data.task in {"segment", "obb"}:
        rings = tuple(row.coordinates.reshape(-1, 2).astype(np.float32) * size for row in image.rows)
        boxes = [np.concatenate([ring.min(axis=0), ring.max(axis=0)]) for ring in rings]
        if task == "segment":
            fields["polygons"] = rings
        if task == "obb":
            fields |= {"xywhr": _rotated(rings), "polygons": rings}
    else:
        boxes = [_corners(row.coordinates[:4]) * np.tile(size, 2) for row in image.rows]
    if task == "pose":
        count, numbers = data.keypoints
        points = np.array([row.coordinates[4:] for row in image.rows], np.float32).reshape(-1, count, numbers)
        seen = points[..., 2:] if numbers == 3 else np.ones_like(points[..., :1])
        fields["keypoints"] = np.concatenate([points[..., :2] * size, seen], axis=2)
    return _labels(np.array(boxes, np.float32).reshape(-1, 4), classes, width, height, **fields)


def _labels(boxes: Floats, classes: Sequence[int], width: int, height: int, **fields: Any) -> Detections:  # noqa: ANN401
    return Detections(
        width=width,
        height=height,
        xyxy=boxes,
        confidence=np.ones(len(boxes), np.float32),
        class_id=np.array(classes, np.int32),
        **fields,
    )


def _corners(box: NDArray[np.float64]) -> Floats:
    centre, span = box[:2], box[2:4]
    return np.concatenate([centre - span / 2, centre + span / 2]).astype(np.float32)


def _rotated(rings: Sequence[Floats]) -> Floats:
    boxes = [cv2.minAreaRect(ring) for ring in rings]
    return np.array([(*centre, *sides, np.deg2rad(angle)) for centre, sides, angle in boxes], np.float32).reshape(-1, 5)
