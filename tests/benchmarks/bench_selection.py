"""What it costs to look at images for a selection, beside plain prediction; all in one process, turn by turn."""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.training.job import PredictionJob
from tasks.training.trainer.reference import predict_chunks
from tasks.vision.views import View
from tests.tasks.export.finders import finder

IMAGES = 16
SIDE = 640
ROUNDS = 3


def main() -> None:
    """Print images/s of each way, and its share of those of plain prediction."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = []
        for seed in range(IMAGES):
            coarse = np.random.default_rng(seed).integers(0, 255, (15, 20, 3), dtype=np.uint8)
            files.append(folder / f"{seed}.jpg")
            Image.fromarray(coarse).resize((SIDE, SIDE * 3 // 4), Image.Resampling.BICUBIC).save(files[-1])
        shown = [np.asarray(Image.open(path).resize((SIDE, SIDE))) for path in files[:4]]
        plain = PredictionJob(
            weights=finder(folder, "yolo11n", shown, bias=-7.0),
            task="detect",
            image_size=SIDE,
            chunks=(tuple(files),),
            predictions=(folder / "found.zip",),
            folder=folder,
        )
        embedded = replace(plain, embeddings=(folder / "found.npy",))
        ways = {
            "plain prediction": plain,
            "with embeddings": embedded,
            "with embeddings, in three views": replace(embedded, views=tuple(View)),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(ROUNDS + 1):
            for way, job in ways.items():
                for path in job.files(0):
                    path.unlink(missing_ok=True)
                began = time.perf_counter()
                list(predict_chunks(job))
                if number:  # the first warms up
                    seconds[way].append(time.perf_counter() - began)
        first = statistics.median(seconds["plain prediction"])
        for way, each in seconds.items():
            median = statistics.median(each)
            print(f"{way}: {IMAGES / median:.1f} images/s, {first / median:.2f} of plain prediction")


if __name__ == "__main__":
    main()
