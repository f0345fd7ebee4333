"""A dataset without a single finding, in every layout and task, and the ways in which the table of codes changes it."""

import functools
import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tasks.dataset.label_origins import LABEL_ORIGINS, LabelOrigin, Origin, pack_label_origins
from tests.benchmarks.archives import Pixels, convert, draw, encode
from tests.tasks.dataset.archives import Content, zipped

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
LABEL = "labels/train/0.txt"
# A new image in train, and its label.
NEW, NEW_LABEL = "images/train/new.jpg", "labels/train/new.txt"
TASKS = {"detect": "", "segment": "", "pose": "kpt_shape: [2, 3]\n", "obb": "task: obb\n"}
# Of the same labels as detect, and of poses without visibility.
_VARIANTS = {"declared": "task: detect\n", "pose of two": "kpt_shape: [2, 2]\n"}
Entries = dict[str, Content]


@functools.cache
def picture(seed: int, width: int = 96, height: int = 72) -> Pixels:
    return draw(seed, width, height)[0]


@functools.cache
def jpeg(seed: int = 50, quality: int = 95) -> bytes:
    return encode(picture(seed), ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


def large() -> bytes:
    """A picture so large that what its lost bytes do to the rest of it is beyond doubt."""
    return encode(picture(52, 640, 480))


def png(seed: int, compression: int) -> bytes:
    return encode(picture(seed), ".png", cv2.IMWRITE_PNG_COMPRESSION, compression)


def rows(seed: int, task: str = "detect", classes: str = "0011") -> str:
    """Four labels, two of each class."""
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.uniform(0.2, 0.8, (4, 2)), rng.uniform(0.2, 0.3, (4, 2))])
    lines = (f"{kind} {' '.join(map(str, box.round(4)))}" for kind, box in zip(classes, boxes, strict=True))
    return "".join(convert(task, line) for line in lines)


def sound(changes: Mapping[str, Content] | None = None, task: str = "detect", label: str = "") -> Entries:
    """Five images in train and three in val with ten labels of each class in train; `label` is one line more."""
    entries: Entries = {"data.yaml": YAML + (TASKS | _VARIANTS)[task]}
    for seed in range(8):
        name = f"{'train' if seed < 5 else 'val'}/{seed}"
        entries |= {f"images/{name}.jpg": jpeg(seed), f"labels/{name}.txt": rows(seed, task)}
    return {**entries, LABEL: f"{entries[LABEL]}{label}", **(changes or {})}  # type: ignore[str-bytes-safe]


def by_model(image: str, row: int | None = 0, **changes: Any) -> LabelOrigin:
    """What a run of label-images says of a label, or without a row of an image."""
    run = "01234567-89ab-cdef-0123-456789abcdef"
    told: dict[str, Any] = {
        "origin": Origin.MODEL,
        "model_name": "cells",
        "model_version": 3,
        "flow_run_id": run,
        "confidence": 0.5,
    }
    return LabelOrigin(image=image, row=row, **(told | changes))


def made(origins: Iterable[LabelOrigin], changes: Mapping[str, Content] | None = None) -> Entries:
    """The sound dataset with the origins of its labels."""
    return sound({LABEL_ORIGINS: pack_label_origins(origins), **(changes or {})})


def described(yaml: str) -> Entries:
    return sound({"data.yaml": yaml})


def tree(changes: Mapping[str, Content] | None = None) -> Entries:
    """A classification tree with ten images of each class in train."""
    entries: Entries = {
        f"{'train' if seed < 20 else 'val'}/{'cat' if seed % 2 else 'dog'}/{seed}.jpg": jpeg(seed) for seed in range(24)
    }
    return {**entries, **(changes or {})}


def listed(more: str = "") -> Entries:
    names = "".join(f"images/train/{seed}.jpg\n" for seed in range(5))
    return sound({"data.yaml": YAML.replace("images/train", "train.txt"), "train.txt": names + more})


def renamed(entries: Entries, old: str, new: str) -> Entries:
    return {name.replace(old, new, 1): content for name, content in entries.items()}


def new(train: bytes, other: bytes | None = None) -> Entries:
    """One image more in train, and perhaps another one in val."""
    return sound({NEW: train, "images/val/other.jpg": other})


def copied(image: bytes, label: str) -> Entries:
    """An image more in val, with its label."""
    return {"images/val/copy.jpg": image, "labels/val/copy.txt": label}


def twins(one: bytes, other: bytes, ending: str = ".jpg") -> Entries:
    """Two images more in train."""
    return sound({f"images/train/one{ending}": one, f"images/train/other{ending}": other})


def of_mode(mode: int) -> bytes:
    """A zip with an entry of a Unix mode, as links and devices have one."""
    buffer = io.BytesIO(zipped(sound()))
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo("docs/notes.md")
        entry.create_system, entry.external_attr = 3, mode << 16
        archive.writestr(entry, "images/train")
    return buffer.getvalue()


def misnamed(old: bytes, new: bytes) -> bytes:
    """Write names that zipfile would not."""
    return zipped(sound({"docs/one.md": "1", "docs/two.md": "2"})).replace(old, new)


def encrypted(flag: int) -> bytes:
    data = bytearray(zipped(sound()))
    data[data.rindex(b"PK\3\4") + 6] |= flag
    data[data.rindex(b"PK\1\2") + 8] |= flag
    return bytes(data)


def holed(image: bytes, filling: bytes = b"") -> bytes:
    """Take 200 bytes out of the middle, or write over them."""
    half = len(image) // 2
    return image[:half] + filling + image[half + 200 :]


def pillow(image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(cv2.cvtColor(picture(50), cv2.COLOR_BGR2RGB)).save(buffer, image_format, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pillow("JPEG", exif=exif)


def shaded(change: float, towards: int) -> bytes:
    """A picture whose pixels go a share of the way to black (0) or white (255)."""
    return encode(np.clip(picture(50) * (1 - change) + towards * change, 0, 255).astype(np.uint8))


def blurred(sigma: float) -> bytes:
    return encode(np.asarray(cv2.GaussianBlur(picture(50), (0, 0), sigma), np.uint8))


def shrunk(seed: int) -> bytes:
    return encode(np.asarray(cv2.resize(picture(seed), (80, 60), interpolation=cv2.INTER_AREA), np.uint8))


def many(count: int, last: str = "") -> Entries:
    """Boxes of about one size, of class 0 in train."""
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0.2, 0.8, (count, 2)), rng.normal(0.2, 0.005, (count, 2))])
    lines = [f"0 {' '.join(map(str, box.round(5)))}\n" for box in boxes]
    return sound({NEW: jpeg(), NEW_LABEL: "".join(lines) + last})


SQUARE = "0.2 0.2 0.8 0.2 0.8 0.8 0.2 0.8"
BOX = "0 0.5 0.5 0.2 0.3\n"
BARE: Entries = {f"images/train/x{seed}.jpg": jpeg(seed) for seed in range(60, 69)}
PNG, BMP = encode(picture(50), ".png"), encode(picture(50), ".bmp")


def nested(more: Mapping[str, Content]) -> Entries:
    return {**{f"mine/{name}": content for name, content in sound().items()}, **more}


def named(names: str) -> Entries:
    return described(YAML.replace("names: [cat, dog]", names))


def training(split: str) -> Entries:
    return described(YAML.replace("images/train", split))


def with_test(seed: int) -> Entries:
    return sound({"data.yaml": f"{YAML}test: images/test", "images/test/new.jpg": jpeg(seed)})


def val_labels(seeds: tuple[int, ...], content: Content) -> Entries:
    return sound({f"labels/val/{seed}.txt": content for seed in seeds})


def cats_only(seeds: range) -> Entries:
    return sound({f"labels/train/{seed}.txt": rows(seed, classes="0000") for seed in seeds})


def moved(name: str, onto: str) -> bytes:
    """A zip whose directory says that one file begins where another does."""
    data = bytearray(zipped(sound({"one.md": "x", "two.md": "y"}), zipfile.ZIP_STORED))
    begins = {each: data.find(each.encode()) - 30 for each in (name, onto)}
    struct.pack_into("<I", data, data.rfind(name.encode()) - 4, begins[onto])
    return bytes(data)
