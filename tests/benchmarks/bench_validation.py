"""What the whole check of an archive costs beside bare decoding and beside its peers, in one run; and its memory.

`python -m tests.benchmarks.bench_validation [IMAGES] [--large]`, 3000 images of 640x480 if not told otherwise. Threads
are the check's own number everywhere, the peers take what they take by default. CleanVision takes a minute and runs
once, and so does the check of 50,000 images.
"""

import argparse
import multiprocessing
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tests.benchmarks.archives import write_dataset
from tests.benchmarks.peers import cleanvision_python, seconds_of
from tests.benchmarks.results import Measure, record, take_turns

ROUNDS, MEMORY_ROUNDS = 7, 3
THREADS = min(8, os.cpu_count() or 1)
CHECK, DECODE, GREY, SCAN, CLEANVISION = (
    "check of images",
    "bare `cv2.imdecode` in colour",
    "bare `cv2.imdecode` in grey",
    "Ultralytics' label scan (headers only)",
    "CleanVision, default issues",
)
GOALS = {DECODE: 0.8, CLEANVISION: 10.0}
LARGE = 50_000


def decode_all(path: Path, flags: int) -> None:
    """Read and decode every image of the zip: the least that any check has to do."""

    def decode_some(names: list[str]) -> None:
        with zipfile.ZipFile(path) as own:
            for name in names:
                cv2.imdecode(np.frombuffer(own.read(name), np.uint8), flags)

    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(decode_some, [names[start::THREADS] for start in range(THREADS)]))


def check(path: Path) -> None:
    """Check as a newcomer does."""
    inspect_dataset(path, path.name, "", ValidationPolicy.model_validate({}))


def measure(path: Path, folder: Path, images: int) -> None:
    """Record images a second of the check beside everything that is installed here."""
    scans: list[float] = []
    runs: dict[str, Callable[[], object]] = {
        DECODE: lambda: decode_all(path, cv2.IMREAD_COLOR),
        CHECK: lambda: check(path),
        GREY: lambda: decode_all(path, cv2.IMREAD_GRAYSCALE),
        SCAN: lambda: scans.append(seconds_of("label_scan", folder)),  # without its start
    }
    taken = take_turns(runs, ROUNDS) | {SCAN: scans}
    taken[CLEANVISION] = measure_cleanvision(folder)
    for beside, rounds in taken.items():
        if rounds and beside != CHECK:
            record(
                Measure(
                    name=f"{images:,} JPEGs of 640x480, {THREADS} threads, beside {beside}",
                    unit="images/s",
                    better="more",
                    ours=[images / seconds for seconds in taken[CHECK][-len(rounds) :]],
                    beside=beside,
                    theirs=[images / seconds for seconds in rounds],
                    goal=GOALS.get(beside),
                )
            )


def measure_cleanvision(folder: Path) -> list[float]:
    """Return its seconds, or nothing where it cannot be installed or run, with the reason printed."""
    try:
        return [seconds_of("cleanvision", folder, cleanvision_python())]
    except subprocess.CalledProcessError as exc:
        print(f"{CLEANVISION}: skipped, {' '.join(exc.cmd[:5])} ended with\n{exc.stderr.strip()[-500:]}")
        return []


def peak_mib() -> float:
    """Return the most memory that this process ever held.

    Not `ru_maxrss`: that of a child starts with its parent's pages, VmHWM with its own.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def check_alone(path: Path | None) -> float:
    """Return the peak memory of one check, or of none; run in a fresh process."""
    if path:
        check(path)
    return peak_mib()


def measure_peak(what: str, path: Path | None, rounds: int = MEMORY_ROUNDS) -> None:
    """Record the memory, each time in a process of its own."""
    peaks = []
    for _ in range(rounds):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peaks.append(pool.submit(check_alone, path).result())
    record(Measure(name=f"most memory, {what}", unit="MiB", better="less", ours=peaks))


def main() -> None:
    """Record speed, then memory."""
    parser = argparse.ArgumentParser(description="What the check of an archive costs beside its peers.")
    parser.add_argument("images", type=int, nargs="?", default=3000)
    parser.add_argument("--large", action="store_true", help=f"check {LARGE} small images too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, few = Path(folder) / "bench.zip", Path(folder) / "few.zip"
        write_dataset(path, options.images)
        write_dataset(few, max(options.images // 10, 10))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        measure(path, Path(folder), options.images)
        measure_peak("imports alone", None)
        measure_peak(f"{options.images // 10:,} images", few)
        measure_peak(f"{options.images:,} images", path)
        if options.large:
            write_dataset(path, LARGE, 160, 120)
            measure_peak(f"{LARGE:,} images of 160x120 with {10 * LARGE:,} labels", path, rounds=1)


if __name__ == "__main__":
    main()
