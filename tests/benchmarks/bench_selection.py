"""What it costs to look at images for a selection, beside plain prediction, in processor time of one process."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.training.job import PredictionJob
from tasks.training.trainer.reference import predict_chunks
from tasks.vision.views import View
from tests.benchmarks.results import Measure, processor_s, record, take_turns
from tests.tasks.export.finders import finder

IMAGES = 16
SIDE = 640
ROUNDS = 7
PLAIN = "plain prediction"


def main() -> None:
    """Record what each way takes, and how many times that of plain prediction."""
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
            PLAIN: plain,
            "with embeddings": embedded,
            "with embeddings, in three views": replace(embedded, views=tuple(View)),
        }

        def predict(job: PredictionJob) -> None:
            for path in job.files(0):
                path.unlink(missing_ok=True)
            list(predict_chunks(job))

        for job in ways.values():
            predict(job)  # the first warms up
        taken = take_turns({way: partial(predict, job) for way, job in ways.items()}, ROUNDS, processor_s)
        for way in ways:
            if way != PLAIN:
                record(
                    Measure(
                        name=f"{IMAGES} images of 640 px, yolo11n, {way}",
                        unit="s",
                        better="less",
                        ours=taken[way],
                        beside=PLAIN,
                        theirs=taken[PLAIN],
                    )
                )


if __name__ == "__main__":
    main()
