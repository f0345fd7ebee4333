"""A few validation images with their labels as a zip that anybody can open: a deployment is compared on them."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from tasks.merge.subset_selection import select_diverse
from tasks.merge.written_files import label_path, list_images
from tasks.merge.yolo_writer import read_class_names, read_keypoint_keys, split_folders

# The first moment that a zip knows: the same files give the same bytes whenever they are written.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_MODE = 0o644 << 16


def pack_sample(data: Path, task: str, names: Sequence[str], path: Path, images: int) -> None:
    """Write at most so many images of split `val` of `data` to the zip `path`, byte for byte, with their labels.

    First those that show classes not shown yet. The layout is that of a YOLO dataset, of classify that of a tree with
    the ids of classes as folders; data.yaml names the classes. The same data gives the same bytes.
    """
    candidates = list_images(data, task, "val")
    chosen = sorted(select_diverse({image: read_class_names(image, task) for image in candidates}, images))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        splits = {} if task == "classify" else {"train": "images/val", "val": "images/val"}
        described = {**splits, "names": dict(enumerate(names)), **read_keypoint_keys(data, task)}
        _add(archive, "data.yaml", yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode())
        for name, file in _entries(chosen, task):
            _add(archive, name.as_posix(), file.read_bytes())


def _entries(images: Sequence[Path], task: str) -> Iterator[tuple[Path, Path]]:
    """Yield the name in the zip and the file, of images and labels."""
    for image in images:
        class_id = int(image.parent.name) if task == "classify" else None
        own, labels = split_folders(Path(), "val", class_id)
        yield own / image.name, image
        if class_id is None and (label := label_path(image)).exists():
            yield labels / label.name, label


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _MOMENT)
    entry.create_system = _UNIX
    entry.external_attr = _MODE
    archive.writestr(entry, content)
