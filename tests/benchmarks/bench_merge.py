"""What writing a merge costs beside plain `unzip` of the same archives onto the same disk, in one run.

`python -m tests.benchmarks.bench_merge [IMAGES]`, two archives of 1500 images of 640x480 each if not told otherwise;
once with stored entries, once with deflated ones. The plan is made before, as a merge is planned long before it is
written.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
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
from tests.benchmarks.results import Measure, processor_s, record, take_turns, work_a_yardstick

ROUNDS, PLAN_ROUNDS = 7, 3
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


def measure(what: str, archives: Sequence[ValidArchive], folder: Path) -> None:
    """Record images a second of both, each into a fresh folder, with nothing left to be written by an earlier one."""
    plan, paths, out = plan_archives.fn(archives, MergePolicy()), [each.path for each in archives], folder / "out"

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        os.sync()

    ways = {"merge": lambda: write_merge.fn(archives, plan, out), "unpack": lambda: unpack(paths, out)}
    taken = take_turns(ways, ROUNDS, prepare=prepare)
    prepare()
    images = sum(len(each.images) for each in archives)
    merge, plain = ([images / seconds for seconds in taken[way]] for way in ways)
    beside = "`unzip -q`" if UNZIP else "zipfile.extractall, as there is no unzip here"
    record(
        Measure(
            name=f"merge of {what} archives, {images:,} JPEGs of 640x480",
            unit="images/s",
            better="more",
            ours=merge,
            beside=beside,
            theirs=plain,
            goal=GOAL,
        )
    )


def measure_plan() -> None:
    """Record the processor time in which two archives of many classes and images are planned, without a file."""
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
    ways = {"plan": lambda: plan_merge(sources, MergePolicy()), "yardstick": work_a_yardstick}
    taken = take_turns(ways, PLAN_ROUNDS, processor_s)
    record(
        Measure(
            name=f"plan of 2 x {LARGE:,} images with {CLASSES:,} classes each",
            unit="s",
            better="less",
            ours=taken["plan"],
            yardstick=taken["yardstick"],
        )
    )


def main() -> None:
    """Record the ratio for stored and for deflated archives, and the plan."""
    parser = argparse.ArgumentParser(description="What writing a merge costs beside unzip.")
    parser.add_argument("images", type=int, nargs="?", default=1500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = [folder / "a.zip", folder / "b.zip"]
        for path in stored:
            write_dataset(path, options.images)
        archives = [checked(path) for path in stored]
        measure("stored", archives, folder)
        for path in stored:
            packed = path.with_suffix(".packed")
            deflate(path, packed)
            packed.replace(path)
        measure("deflated", archives, folder)
    measure_plan()


if __name__ == "__main__":
    main()
