"""A YOLO archive as we write it: images byte for byte, labels, data.yaml and where all of it comes from."""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from tasks.dataset.label_origins import LABEL_ORIGINS, LabelOrigin, pack_label_origins
from tasks.dataset.zip_names import normalize_unicode

PROVENANCE = "provenance.json"
_TIME = (1980, 1, 1, 0, 0, 0)  # the same source and parameters give the same bytes
_UNSAFE = re.compile(r"[^\w. ()-]+")
_MAX_STEM = 120
# The first two tell a YOLO dataset from a tree of classes; readers skip what macOS packs beside the files.
_TAKEN_FOLDERS = frozenset({"images", "labels", "__macosx"})


def class_folder(class_name: str) -> str:
    """Return the folder of a class of whole images, unless another class has it."""
    name = _safe(class_name).strip(". ") or "_"
    return f"{name}_" if name.lower() in _TAKEN_FOLDERS else name


def _safe(name: str) -> str:
    """Return a part of a path that every reader takes as it is: no hidden file, and letters as readers compose them."""
    return _UNSAFE.sub("_", normalize_unicode(name))[:_MAX_STEM].lstrip(".")


def add_label_origins(path: Path, origins: Iterable[LabelOrigin]) -> None:
    """Add `label-origins.parquet` to an archive of ours that has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_entry(LABEL_ORIGINS), pack_label_origins(origins), zipfile.ZIP_DEFLATED)


@dataclass
class YoloArchive(AbstractContextManager["YoloArchive"]):
    """A zip that is written an image at a time.

    `origins` are the entries of the source by those of the zip, `folders` those of the classes of whole images.
    """

    path: Path
    task: str
    origins: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    _taken: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Open the file, which must not exist."""
        self._zip = zipfile.ZipFile(self.path, "x", zipfile.ZIP_DEFLATED)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        """Close it; what is written stays, complete or not."""
        self._zip.close()

    def add(self, source: str, data: bytes, split: str, rows: Sequence[str]) -> str:
        """Write the image of the source entry and its label file, which is empty for background; return its entry."""
        name = self._free_name(source, f"images/{split}")
        self._write(name, data, zipfile.ZIP_STORED)
        label = f"labels/{split}/{name.rpartition('/')[2].rpartition('.')[0]}.txt"
        self._write(label, "".join(f"{row}\n" for row in rows).encode())
        return name

    def add_classified(self, source: str, data: bytes, split: str, class_name: str) -> str:
        """Write an image into the folder of its class, which no other class has; return its entry."""
        if class_name not in self.folders:
            self.folders[class_name] = self._take(class_folder(class_name))
        name = self._free_name(source, f"{split}/{self.folders[class_name]}")
        self._write(name, data, zipfile.ZIP_STORED)
        return name

    def describe(self, names: Sequence[str], splits: Sequence[str], keypoints: Mapping[str, object]) -> None:
        """Write data.yaml; a tree of classes needs none."""
        if self.task == "classify":
            return
        data = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(names))}
        if self.task != "segment":
            data["task"] = self.task
        text = yaml.safe_dump(data | dict(keypoints), sort_keys=False, allow_unicode=True)
        self._write("data.yaml", text.encode())

    def tell_label_origins(self, origins: Iterable[LabelOrigin]) -> None:
        """Write `label-origins.parquet`: which labels a model has made."""
        self._write(LABEL_ORIGINS, pack_label_origins(origins))

    def tell_provenance(self, facts: Mapping[str, object]) -> None:
        """Write `provenance.json`: these facts, and the entry of the source that each image was."""
        text = json.dumps({**facts, "images": self.origins}, indent=1, ensure_ascii=False)
        self._write(PROVENANCE, text.encode())

    def _free_name(self, source: str, folder: str) -> str:
        """Return an entry that is not taken; two labels of images that differ in their ending would be one file."""
        stem, _, ending = source.rpartition("/")[2].rpartition(".")
        stem = _safe(stem) or "_"
        entry = f"{self._take(f'{folder}/{stem}')}.{ending.lower()}"
        self.origins[entry] = source
        return entry

    def _take(self, name: str) -> str:
        """Return the name with a number if it is taken; file systems may not tell large letters from small ones."""
        key = name.lower()
        number = self._taken.get(key, 1)
        free = name
        while free.lower() in self._taken:
            number += 1
            free = f"{name}-{number}"
        self._taken[key] = number  # the next one of this name begins here
        self._taken[free.lower()] = 1
        return free

    def _write(self, name: str, data: bytes, packing: int = zipfile.ZIP_DEFLATED) -> None:
        self._zip.writestr(_entry(name), data, packing)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = 0o644 << 16
    return entry
