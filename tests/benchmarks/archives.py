"""Generated datasets for benches and tests: the same bytes each time, and pictures that differ as real ones do."""

import functools
import io
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
CLASSES = ("plate", "ball", "cone")
YAML = f"train: images/train\nval: images/val\nnames: [{', '.join(CLASSES)}]\n"
_NOISE = 5.0


def draw(seed: int, width: int = 640, height: int = 480, objects: int = 10) -> tuple[Pixels, str]:
    """Return a picture (height, width, 3, BGR) of plates, balls and cones under camera noise, and its YOLO labels."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 215, (6, 8, 3), dtype=np.uint8)
    pixels: Any = cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC)
    classes = rng.integers(0, len(CLASSES), objects)
    sizes = rng.uniform(0.08, 0.3, (objects, 2))
    centres = sizes / 2 + rng.uniform(0, 1, (objects, 2)) * (1 - sizes)
    for class_id, centre, size in zip(classes, centres, sizes, strict=True):
        low, high = ((centre + side * size / 2) * (width, height) for side in (-1, 1))
        _draw_object(pixels, int(class_id), (low.astype(int), high.astype(int)), rng.integers(20, 235, 3).tolist())
    x, y = rng.integers(0, 256, 2)
    noise = _noise(width, height)[y : y + height, x : x + width]
    boxes = np.column_stack([centres, sizes])
    rows = (f"{kind} {row(box)}" for kind, box in zip(classes, boxes, strict=True))
    pixels = cv2.add(pixels, noise, dtype=cv2.CV_8U)
    return pixels, "".join(rows)


def row(numbers: Iterable[float]) -> str:
    """Write numbers as a line of a label file does."""
    return " ".join(f"{number:.6f}" for number in numbers) + "\n"


def _draw_object(pixels: Any, class_id: int, box: tuple[Any, Any], colour: list[int]) -> None:
    low, high = box
    if class_id == 0:
        cv2.rectangle(pixels, low.tolist(), high.tolist(), colour, cv2.FILLED)
    elif class_id == 1:
        cv2.ellipse(pixels, ((low + high) / 2).astype(int).tolist(), (high - low) // 2, 0, 0, 360, colour, cv2.FILLED)
    else:
        corners = np.array([[low[0], high[1]], high, [(low[0] + high[0]) // 2, low[1]]])
        cv2.fillPoly(pixels, [corners], colour)


@functools.cache
def _noise(width: int, height: int) -> Any:
    """Noise of a sensor, 256 pixels larger than a picture: each takes a piece of its own."""
    return np.random.default_rng(0).normal(0, _NOISE, (height + 256, width + 256, 3)).round().astype(np.int16)


def encode(pixels: Pixels, ending: str = ".jpg", *options: int) -> bytes:
    """Return the bytes of a file; `options` are OpenCV's."""
    return cv2.imencode(ending, pixels, options)[1].tobytes()


def zipped(entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of the entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


@functools.cache
def layouts() -> dict[str, dict[str, bytes]]:
    """Return a small good dataset of each task and of each layout, with images of every format."""
    lists = {"data.yaml": b"train: train.txt\nval: [val.txt]\nnames: {0: plate, 1: ball, 2: cone}\n"}
    lists |= _small("images/{split}{name}.tif", "labels/{split}{name}.txt")
    for split in ("train", "val"):
        names = [name for name in lists if name.startswith(f"images/{split}")]
        lists[f"{split}.txt"] = "".join(f"./{name}\n" for name in names).encode()
    roboflow = YAML.replace("images/train", "../train/images").replace("images/val", "../valid/images")
    plain = ("images/{split}/{name}.jpg", "labels/{split}/{name}.txt")
    return {
        "detect": {"data.yaml": YAML.encode(), **_small(*plain)},
        "roboflow": {
            "my set/data.yaml": f"{roboflow}nc: 3\n".encode().replace(b"val:", b"valid:"),
            **_small("my set/{split}/images/{name}.png", "my set/{split}/labels/{name}.txt", val="valid"),
        },
        "segment": {
            "data.yaml": b"train: train\nval: val\nnames: [a, b, c]",
            **_small("{split}/{name}.webp", "{split}/{name}.txt", "segment"),
        },
        "lists": lists,
        "classify": _small("{split}/{kind}/{name}.bmp", None),
        "pose": {"data.yaml": f"{YAML}kpt_shape: [2, 3]\n".encode(), **_small(*plain, "pose")},
        "obb": {"data.yaml": f"{YAML}task: obb\n".encode(), **_small(*plain, "obb")},
    }


def _small(image: str, label: str | None, task: str = "detect", val: str = "val") -> dict[str, bytes]:
    """Five images under the names that the patterns make, and their labels."""
    entries = {}
    for index in range(5):
        pixels, boxes = draw(index, 64, 48, 4)
        place = {"split": val if index > 2 else "train", "name": f"img {index}", "kind": CLASSES[index % 3]}
        entries[image.format(**place)] = encode(pixels, image[image.rindex(".") :])
        if label:
            entries[label.format(**place)] = "".join(convert(task, line) for line in boxes.splitlines()).encode()
    return entries


def convert(task: str, line: str) -> str:
    """Turn the line of a box into one of the task, with the same box."""
    kind, *box = line.split()
    x, y, width, height = map(float, box)
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    numbers = {
        "detect": [x, y, width, height],
        "declared": [x, y, width, height],
        "pose of two": [x, y, width, height, left, top, right, bottom],
        "pose": [x, y, width, height, left, top, 2, right, bottom, 0],
    }.get(task, [left, top, right, top, right, bottom, left, bottom])
    return f"{kind} {row(numbers)}"


def write_dataset(path: Path, images: int, width: int = 640, height: int = 480) -> None:
    """Write a stored zip of JPEGs with about 10 boxes each, every tenth of them in val."""

    def make(index: int) -> tuple[str, bytes, str]:
        pixels, labels = draw(index, width, height)
        return f"{'val' if index % 10 == 0 else 'train'}/{index:06}", encode(pixels, ".jpg"), labels

    with zipfile.ZipFile(path, "w") as archive, ThreadPoolExecutor() as pool:
        archive.writestr("data.yaml", YAML)
        for name, image, labels in _in_portions(pool, make, range(images)):
            archive.writestr(f"images/{name}.jpg", image)
            archive.writestr(f"labels/{name}.txt", labels)


def _in_portions(pool: ThreadPoolExecutor, make: Any, indices: Iterable[int]) -> Iterator[Any]:
    """Map in order without queueing all of it: the archive need not fit into memory."""
    rest = iter(indices)
    while portion := list(islice(rest, 64 * (os.cpu_count() or 1))):
        yield from pool.map(make, portion)
