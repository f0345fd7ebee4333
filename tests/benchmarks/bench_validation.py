"""What the whole check of an archive costs beside bare decoding and beside its peers, in one run; and its memory.

`python -m tests.benchmarks.bench_validation [IMAGES] [--large]`, 3000 images of 640x480 if not told otherwise. Threads
are the check's own number everywhere, the peers take what they take by default. Rounds alternate, so that all meet the
same machine; figures are medians. CleanVision takes a minute and runs once.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
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

ROUNDS = 5
THREADS = min(8, os.cpu_count() or 1)
CHECK, DECODE, GREY, SCAN, CLEANVISION = (
    "this check, everything on",
    "bare cv2.imdecode, colour",
    "bare cv2.imdecode, grey",
    "Ultralytics' label scan (headers only)",
    "CleanVision, default issues",
)
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


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(path: Path, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each round of everything that is installed here."""
    runs: dict[str, Callable[[], float]] = {
        DECODE: lambda: seconds(lambda: decode_all(path, cv2.IMREAD_COLOR)),
        CHECK: lambda: seconds(lambda: check(path)),
        GREY: lambda: seconds(lambda: decode_all(path, cv2.IMREAD_GRAYSCALE)),
        SCAN: lambda: seconds_of("label_scan", folder),
    }
    rounds = [{name: run() for name, run in runs.items()} for _ in range(ROUNDS)]
    return {name: [taken[name] for taken in rounds] for name in runs}


def measure_cleanvision(folder: Path) -> list[float]:
    """Return its seconds, or nothing where it cannot be installed or run, with the reason printed."""
    try:
        return [seconds_of("cleanvision", folder, cleanvision_python())]
    except subprocess.CalledProcessError as exc:
        print(f"{CLEANVISION}: skipped, {' '.join(exc.cmd[:5])} ended with\n{exc.stderr.strip()[-500:]}")
        return []


def print_speed(taken: dict[str, list[float]], images: int) -> None:
    """One line each, and the goals beside the two ratios they are about."""
    print(f"\n{images} JPEGs of 640x480, {THREADS} threads, medians of {ROUNDS} rounds")
    print(f"{'':40}{'images/s':>10}{'seconds':>9}{'check / it':>12}")
    for name, rounds in taken.items():
        ratio = statistics.median(a / b for a, b in zip(taken[CHECK], rounds * ROUNDS, strict=False))
        took = statistics.median(rounds)
        print(f"{name:40}{images / took:10.0f}{took:9.2f}{ratio:12.2f}")
        if name == DECODE:
            print(f"  goal: check / decode at most 1.25: {ratio:.2f}")
        elif name == CLEANVISION:
            print(f"  goal: CleanVision / check at least 10: {1 / ratio:.1f}")


def peak_mib() -> float:
    """Return the most memory that this process ever held.

    Not `ru_maxrss`: that of a child starts with its parent's pages, VmHWM with its own.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def check_alone(path: Path | None) -> tuple[float, float]:
    """Return seconds and peak memory of one check, or of none; run in a fresh process."""
    taken = seconds(lambda: check(path)) if path else 0.0
    return taken, peak_mib()


def print_peak(what: str, path: Path | None) -> None:
    """Measure in a process of its own, and say it on one line."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        taken, memory = pool.submit(check_alone, path).result()
    print(f"{what:40}{taken:10.1f} s{memory:8.0f} MiB at most", flush=True)


def main() -> None:
    """Print speed, then memory."""
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
        taken = measure(path, Path(folder))
        if once := measure_cleanvision(Path(folder)):
            taken[CLEANVISION] = once
        print_speed(taken, options.images)
        print("\nmemory")
        print_peak("imports alone", None)
        print_peak("a tenth of the images", few)
        print_peak(f"{options.images} images", path)
        if options.large:
            write_dataset(path, LARGE, 160, 120)
            print_peak(f"{LARGE} images of 160x120", path)


if __name__ == "__main__":
    main()
