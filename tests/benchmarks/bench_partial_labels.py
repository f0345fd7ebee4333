"""What a model learns of archives that label different classes: with the mask, as a naive merge, and fully labelled.

`python -m tests.benchmarks.bench_partial_labels`: drawn shapes, every image with four of all classes. Archive a is
labelled for circles and squares, b for triangles and crosses. The same images, arguments and seed train each time; all
models are measured on the same other images, fully labelled: mAP50-95, and recall at a confidence of 0.5, since mAP
looks at the order of scores and not at how high they are. Each round begins with another kind; the time is that of the
processor, as the machine may have other work, and the naive merge is bare Ultralytics.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml

from infra.demo_data import CLASSES, HEIGHT, WIDTH, Shape, background, draw_shape, label_text
from tests.benchmarks.results import Measure, record
from tests.tasks.merge.archives import Entries, merge

LEARNED = 0.90
GOAL = 1.03
ROUNDS = 3
IMAGES = 120
ARGUMENTS = {"epochs": 40, "imgsz": 160, "batch": 16, "workers": 0, "device": "cpu", "plots": False, "verbose": False}
MODEL = "yolo11n.yaml"
HALVES = (CLASSES[:2], CLASSES[2:])


def draw(rng: np.random.Generator) -> tuple[bytes, list[Shape]]:
    """Return a JPEG that shows each class once, and its shapes."""
    image = background(rng)
    columns = rng.permutation(len(CLASSES))
    step = WIDTH // len(CLASSES)
    shapes = []
    for name, column in zip(CLASSES, columns, strict=True):
        r = int(rng.integers(18, step // 2 - 2))
        x, y = int(column * step + step // 2), int(rng.integers(r, HEIGHT - r))
        shapes.append((name, x, y, r))
        draw_shape(image, shapes[-1])
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return jpeg.tobytes(), shapes


def draw_archive(seed: int, labelled: Sequence[str]) -> Entries:
    """Return the entries of an archive with rows of the classes `labelled` only."""
    rng = np.random.default_rng(seed)
    described = {"train": "images/train", "val": "images/val", "names": list(labelled)}
    entries: Entries = {"data.yaml": yaml.safe_dump(described)}
    for split, count in (("train", IMAGES), ("val", IMAGES // 4)):
        for index in range(count):
            jpeg, shapes = draw(rng)
            entries[f"images/{split}/{index}.jpg"] = jpeg
            known = [shape for shape in shapes if shape[0] in labelled]
            entries[f"labels/{split}/{index}.txt"] = label_text(known, labelled)
    return entries


def prepare(folder: Path, labelled: Sequence[Sequence[str]], partial_labels: str, seed: int) -> Path:
    """Merge two archives by the steps of train-model, and return their data.yaml."""
    folder.mkdir(parents=True)
    archives = [draw_archive(10 * seed + number, own) for number, own in enumerate(labelled)]
    return merge(folder, *archives, partial_labels=partial_labels)[1].data


def train(data: Path, seed: int, folder: Path, truth: Path) -> tuple[float, float, float]:
    """Train in this process; return mAP50-95 and recall on split val of `truth`, and the processor's seconds."""
    from tasks.training.trainer.partial_labels import choose_trainer
    from tasks.training.trainer.ultralytics_setup import load_model

    model = load_model(MODEL, "detect")
    seconds: list[float] = []
    for moment in ("on_train_start", "on_train_end"):
        model.add_callback(moment, lambda _: seconds.append(time.process_time()))
    model.train(choose_trainer(model, data), data=str(data), seed=seed, save_dir=str(folder), **ARGUMENTS)
    best = load_model(str(folder / "weights" / "best.pt"), "detect")
    scores = best.val(data=str(truth), imgsz=ARGUMENTS["imgsz"], workers=0, device="cpu", plots=False, verbose=False)
    at_half = scores.box.r_curve[:, scores.box.r_curve.shape[1] // 2]  # confidences from 0 to 1
    return float(scores.box.map), float(at_half.mean()), seconds[1] - seconds[0]


def main() -> None:
    """Record what is learned and what it takes, and fail if a goal is missed.

    Raises:
        SystemExit: A goal is missed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    kinds = {"full": ((CLASSES, CLASSES), "warn"), "naive": (HALVES, "warn"), "mask": (HALVES, "mask")}
    results: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as place:
        for seed in range(rounds):
            folder = Path(place) / str(seed)
            datas = {kind: prepare(folder / kind, *how, seed) for kind, how in kinds.items()}
            turn = seed % len(kinds)
            for kind in (*list(kinds)[turn:], *list(kinds)[:turn]):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    arguments = (datas[kind], seed, folder / kind / "training", datas["full"])
                    results[kind].append(pool.apply(train, arguments))
                score, recall, seconds = results[kind][-1]
                print(f"seed {seed} {kind}: mAP50-95 {score:.3f}, recall {recall:.3f}, {seconds:.1f} s", flush=True)
    met = []
    for what, at, kind, beside, goal in (
        ("mAP50-95", 0, "mask", "full", LEARNED),
        ("mAP50-95", 0, "naive", "full", None),
        ("recall", 1, "mask", "full", None),
        ("recall", 1, "naive", "full", None),
        ("training", 2, "mask", "naive", GOAL),
    ):
        measure = record(
            Measure(
                name=f"{what}: {kind}",
                unit="s of processor time" if at == 2 else "of 1",
                better="less" if at == 2 else "more",
                ours=[each[at] for each in results[kind]],
                beside=beside,
                theirs=[each[at] for each in results[beside]],
                goal=goal,
            )
        )
        met.append(measure.is_met)
    if not all(met):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
