"""What writing a merge costs beside plain `unzip` of the same archives onto the same disk, in one run.

`python -m tests.benchmarks.bench_merge [IMAGES]`, two archives of 1500 images of 640x480 each if not told otherwise;
once with stored entries, once with deflated ones. Rounds alternate and take turns at being first, so that all meet the
same machine; figures are medians. The plan is made before, as a merge is planned long before it is written.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tasks.dataset.image_stats import ImageStats
from tasks.dataset.layout import Dataset, LabelledImage
from tasks.merge.inputs import MergeInput
from tasks.merge.plan import plan_merge
from tasks.merge.steps import ValidArchive, plan_archives, write_merge
from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tests.benchmarks.archives import write_dataset

ROUNDS = 5
GOAL = 0.8
LARGE = 50_000
CLASSES = 1000
UNZIP = shutil.which("unzip")


def deflate(source: Path, target: Path) -> None:
    """Pack the entries of a stored zip anew."""
    with zipfile.ZipFile(source) as stored, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))


def unpack(paths: Sequence[Path], folder: Path) -> None:
    """Unpack each archive into a folder of its own: with `unzip`, or with zipfile where it is missing."""
    for path in paths:
        place = folder / path.stem
        place.mkdir(parents=True)
        if UNZIP:
            subprocess.run([UNZIP, "-q", str(path), "-d", str(place)], check=True)
        else:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(place)


def checked(path: Path) -> ValidArchive:
    """Check an archive as a training does."""
    seen = inspect_dataset(path, path.name, "", ValidationPolicy.model_validate({}))
    return ValidArchive(name=path.name, path=path, task=seen.report.statistics.task, images=seen.images)


def seconds(work: Callable[[Path], object], folder: Path) -> float:
    """Time of one call into a fresh folder, with nothing left to be written by an earlier one."""
    os.sync()
    began = time.perf_counter()
    work(folder)
    taken = time.perf_counter() - began
    shutil.rmtree(folder)
    return taken


def measure(what: str, archives: Sequence[ValidArchive], folder: Path) -> None:
    """Print the seconds of both, and how many times as fast as unpacking the merge is."""
    plan = plan_archives.fn(archives, MergePolicy())
    runs: list[Callable[[Path], object]] = [
        lambda place: write_merge.fn(archives, plan, place),
        lambda place: unpack([archive.path for archive in archives], place),
    ]
    taken: list[list[float]] = [[], []]
    for number in range(ROUNDS):
        for run in (0, 1) if number % 2 else (1, 0):
            taken[run].append(seconds(runs[run], folder / "out"))
    merge, plain = map(statistics.median, taken)
    ratio = statistics.median(b / a for a, b in zip(*taken, strict=True))
    name = "unzip -q" if UNZIP else "zipfile.extractall (no unzip here)"
    print(f"{what:10} merge {merge:6.2f} s, {name} {plain:6.2f} s, speed {ratio:.2f} of it (goal: at least {GOAL})")


def print_plan() -> None:
    """Print the seconds that two archives of many classes and images take to be planned, without a file."""
    rng = np.random.default_rng(0)
    sources = []
    for number in range(2):
        names = [f"images/{'val' if at % 10 == 0 else 'train'}/{at:06}.jpg" for at in range(LARGE)]
        thumbnails = rng.integers(0, 255, (LARGE, 256), dtype=np.uint8)
        images = {
            name: ImageStats(640, 480, thumbnail=row.tobytes()) for name, row in zip(names, thumbnails, strict=True)
        }
        splits = {
            split: tuple(LabelledImage(name, None) for name in names if f"/{split}/" in name)
            for split in ("train", "val")
        }
        words = ["".join(map(chr, rng.integers(97, 123, 12))) for _ in range(CLASSES)]
        entries = {name: (at + number * LARGE, 40_000) for at, name in enumerate(names)}
        dataset = Dataset(class_names=tuple(words), splits=splits, task="detect")
        sources.append(
            MergeInput(archive=f"{number}.zip", dataset=dataset, images=images, entries=entries, read=lambda _: b"")
        )
    began = time.perf_counter()
    plan_merge(sources, MergePolicy())
    print(f"plan       2 x {LARGE} images, {CLASSES} classes each: {time.perf_counter() - began:.1f} s")


def main() -> None:
    """Print the ratio for stored and for deflated archives."""
    parser = argparse.ArgumentParser(description="What writing a merge costs beside unzip.")
    parser.add_argument("images", type=int, nargs="?", default=1500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = [folder / "a.zip", folder / "b.zip"]
        for path in stored:
            write_dataset(path, options.images)
        archives = [checked(path) for path in stored]
        print(f"2 archives of {options.images} JPEGs of 640x480, medians of {ROUNDS} rounds")
        measure("stored", archives, folder)
        for path in stored:
            packed = path.with_suffix(".packed")
            deflate(path, packed)
            packed.replace(path)
        measure("deflated", archives, folder)
    print_plan()


if __name__ == "__main__":
    main()
