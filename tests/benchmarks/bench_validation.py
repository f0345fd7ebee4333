"""What the whole check of an archive costs beside the bare decoding of its images, in one run.

`python -m tests.benchmarks.bench_validation [IMAGES]`; a stored zip of drawn 640x480 JPEGs is made for it.
"""

import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import yaml

from tasks.core.parameters import ValidationPolicy
from tasks.core.validation.check import check_dataset

ROUNDS = 3


def make_archive(path: Path, images: int) -> None:
    """Noise on a gradient, compressed as cameras do; ten boxes an image."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 200, 640)[None, :, None] + np.zeros((480, 640, 3))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.yaml", yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["a"]}))
        for index in range(images):
            split = "val" if index % 10 == 0 else "train"
            picture = np.clip(ramp + rng.normal(0, 25, (480, 640, 1)), 0, 255).astype(np.uint8)
            archive.writestr(f"images/{split}/{index}.jpg", cv2.imencode(".jpg", picture)[1].tobytes())
            boxes = np.column_stack([rng.uniform(0.2, 0.8, (10, 2)), rng.uniform(0.05, 0.3, (10, 2))])
            rows = (" ".join(f"{value:.6f}" for value in box) for box in boxes)
            archive.writestr(f"labels/{split}/{index}.txt", "".join(f"0 {row}\n" for row in rows))


def decode_all(path: Path) -> None:
    """Read and decode every image with a thread a core: the least that any check has to do."""

    def decode_some(names: list[str]) -> None:
        with zipfile.ZipFile(path) as own:
            for name in names:
                cv2.imdecode(np.frombuffer(own.read(name), np.uint8), cv2.IMREAD_COLOR)

    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode_some, [names[start::threads] for start in range(threads)]))


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Print both rates and their ratio; the rounds alternate, so that both meet the same machine."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.zip"
        make_archive(path, images)
        policy = ValidationPolicy()
        pairs = [
            (seconds(lambda: decode_all(path)), seconds(lambda: check_dataset(path, path.name, "", policy)))
            for _ in range(ROUNDS)
        ]
    decode, check = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"bare decode     {images / decode:8.0f} images/s")
    print(f"whole check     {images / check:8.0f} images/s")
    print(f"check / decode  {statistics.median(b / a for a, b in pairs):8.2f} times the seconds")


if __name__ == "__main__":
    main()
