"""Other datasets of the same images: for a model with other classes, or of a few images for a rehearsal.

Images are linked one by one, in folders of their own. Ultralytics follows a link to a folder before it looks for the
labels, and would find those of the original; it keeps label caches beside the labels, so none is used twice.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, islice
from math import ceil
from pathlib import Path

from tasks.merge.class_mapping import match_class_ids
from tasks.merge.manifest import ImageCounts, count_rows, write_manifest
from tasks.merge.pseudo_labelled_file import read_pseudo_labelled, write_pseudo_labelled
from tasks.merge.remap import remap_labels
from tasks.merge.subset_selection import select_diverse
from tasks.merge.vocabularies import read_vocabularies, write_vocabularies
from tasks.merge.written_files import label_path, list_images
from tasks.merge.yolo_writer import read_class_names, read_keypoint_keys, split_folders, write_data_yaml

# A smoke test chooses among so many images of each split at most.
MAX_CANDIDATES = 200


def relabel_val_split(
    data: Path, task: str, own_names: Sequence[str], other_names: Sequence[str], folder: Path
) -> Path | None:
    """Link split `val` of `data` under the ids of `other_names`; None if no class or no image is left.

    Labels of classes that the others lack are dropped; in a tree that is the image. The new dataset has val as train
    too, since Ultralytics needs one.
    """
    ids = match_class_ids(own_names, other_names)
    if all(place is None for place in ids):
        return None
    val = _link({"val": list_images(data, task, "val")}, task, ids, folder)["val"]
    if not val.images:
        return None
    described = write_data_yaml(
        folder, task, other_names, {"train": "val", "val": "val"}, read_keypoint_keys(data, task)
    )
    write_manifest(described, {"train": val, "val": val})
    _copy_vocabularies(data, ids, described)
    return described


def make_smoke_test_subset(data: Path, task: str, names: Sequence[str], folder: Path, images: int) -> Path:
    """Link `images` images of train and half as many of val: those first that show classes not shown yet.

    Half of train are images whose labels a model has made, if there are as many.
    """
    pseudo_labelled = read_pseudo_labelled(data)
    train = list_images(data, task, "train")
    made = _select([image for image in train if image in pseudo_labelled], task, images // 2)
    drawn = _select([image for image in train if image not in pseudo_labelled], task, images - len(made))
    val = _select(list_images(data, task, "val"), task, max(1, images // 2))
    chosen = {"train": [*drawn, *made], "val": val}
    linked = _link(chosen, task, range(len(names)), folder)
    described = write_data_yaml(folder, task, names, {"train": "train", "val": "val"}, read_keypoint_keys(data, task))
    write_manifest(described, linked)
    _copy_vocabularies(data, range(len(names)), described)
    write_pseudo_labelled(described, pseudo_labelled)
    return described


def _select(images: Sequence[Path], task: str, count: int) -> list[Path]:
    if task == "classify":
        classes = groupby(images, lambda image: image.parent)
        candidates = [image for _, own in classes for image in islice(own, count)]
    else:
        candidates = list(images[:: ceil(len(images) / MAX_CANDIDATES) or 1])
    return select_diverse({image: read_class_names(image, task) for image in candidates}, count)


def _copy_vocabularies(data: Path, ids: Sequence[int | None], described: Path) -> None:
    if vocabularies := read_vocabularies(data):
        write_vocabularies(described, vocabularies.remap(ids))


def _link(
    images: Mapping[str, Sequence[Path]], task: str, ids: Sequence[int | None], folder: Path
) -> dict[str, ImageCounts]:
    """Link the images of each split and write their labels under other ids; return what each split got."""
    link = _link_classified if task == "classify" else _link_labelled
    linked = {split: ImageCounts() for split in images}
    for split, paths in images.items():
        for image in paths:
            rows = link(image, split, ids, folder)
            if rows is not None:
                linked[split].add(1, rows)
    return linked


def _link_classified(image: Path, split: str, ids: Sequence[int | None], folder: Path) -> Counter[int] | None:
    """Return the rows of each class; None if the image was left out."""
    class_id = ids[int(image.parent.name)]
    if class_id is None:
        return None
    _link_file(image, split_folders(folder, split, class_id)[0])
    return Counter([class_id])


def _link_labelled(image: Path, split: str, ids: Sequence[int | None], folder: Path) -> Counter[int]:
    linked, labels = split_folders(folder, split, None)
    _link_file(image, linked)
    label = label_path(image)
    if not label.exists():
        return Counter()
    labels.mkdir(parents=True, exist_ok=True)
    text = remap_labels(label.read_text(encoding="utf-8"), ids)
    (labels / label.name).write_text(text, encoding="utf-8")
    return count_rows(text)


def _link_file(image: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / image.name).symlink_to(image)
