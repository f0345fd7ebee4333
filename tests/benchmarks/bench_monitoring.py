"""How well monitor-model estimates mAP50 without labels, and tells its falls, on drawn shapes and on blood cells.

`python -m tests.benchmarks.bench_monitoring FOLDER --cells a.zip b.zip`: for each of the two data sets a model is
trained, and predicts its validation images and held-out ones, clean, under 15 corruptions, and in darkness, each of 5
strengths. All of it stays in FOLDER, set by set, so a run that was stopped goes on. A window of a corruption is
estimated by what was learnt of the others, at three of the five strengths.
"""

import argparse
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from prefect.logging import disable_run_logger

from infra import demo_data
from tasks.dataset.image_stats import check_image
from tasks.evaluation.corruption import CORRUPTIONS, DARKNESS, WITH_DARKNESS, Corruption, corrupt_image
from tasks.evaluation.labelled_images import EvaluationSet, join_sets, unpack_split
from tasks.evaluation.prediction_file import read_predictions, write_predictions
from tasks.evaluation.version_evaluation import compare_images
from tasks.files import write_atomically
from tasks.media.images import read_image, shrink_to_fit
from tasks.merge.steps import ValidArchive, plan_archives, write_merge
from tasks.monitoring.drift import compare_profiles
from tasks.monitoring.judged_images import JudgedImages, judge_images
from tasks.monitoring.profiles import looks_of, profile_images
from tasks.monitoring.score_estimate import ScoreEstimate, ScoreEstimator
from tasks.parameters import MergePolicy, TrainingParams
from tasks.vision.detections import Detections
from tests.benchmarks.bench_label_errors import train
from tests.tasks.merge.archives import checked

SEED = 7
WINDOW, CLEAN_WINDOWS, CORRUPTED_WINDOWS = 50, 200, 8
FALL, MAX_FALL, SIGNIFICANCE = 0.1, 0.05, 0.01
LEARNT = (None, *WITH_DARKNESS)
NAMES = (*CORRUPTIONS, DARKNESS)
LEARNT_DARKNESS = "darkness, learnt"
SETS = (None, *(Corruption(*each) for each in product(NAMES, range(1, 6))))


class Subject(NamedTuple):
    """A data set, the image size of its model in pixels, and how many epochs that learns.

    `validated` and `held_out` are how many images are predicted.
    """

    name: str
    size: int
    epochs: int
    validated: int
    held_out: int


SHAPES = Subject("shapes", 192, 20, 60, 75)
CELLS = Subject("cells", 320, 40, 60, 75)


class Data(NamedTuple):
    """What a version learns, what it is validated on, and images that nobody has seen."""

    learnt: ValidArchive
    class_names: tuple[str, ...]
    validated: EvaluationSet
    held_out: EvaluationSet


def open_data(subject: Subject, cells: Sequence[Path], folder: Path) -> Data:
    """Return the images of a data set, unpacked into the fresh `folder`."""
    folder.mkdir(parents=True)
    sources = draw_archives(folder) if subject is SHAPES else cells
    entries = []
    for path in sources:
        with zipfile.ZipFile(path) as file:
            entries.append({name: file.read(name) for name in file.namelist() if not name.endswith("/")})
    first, second = checked(folder, *entries)
    val = [unpack_split(each, "val", folder / f"val-{at}") for at, each in enumerate((first, second))]
    validated = join_sets(val, {})
    joined = join_sets([val[0], unpack_split(second, "train", folder / "held-out")], {})  # of the same class ids
    return Data(first, val[0].class_names, validated, replace(joined, images=joined.images[len(val[0].images) :]))


def draw_archives(folder: Path) -> list[Path]:
    plans = (("first", 200, 50), ("second", 150, 50))
    return [
        demo_data.write_archive(
            demo_data.ArchivePlan(name=f"{name}.zip", classes=demo_data.CLASSES, train=train, val=val, seed=SEED + at),
            folder,
        )
        for at, (name, train, val) in enumerate(plans)
    ]


def learn(subject: Subject, data: Data, base: str, folder: Path) -> Path:
    """Return the weights of a training on what is learnt, made once."""
    weights = folder / "weights.pt"
    if not weights.exists():
        shutil.rmtree(folder / "training", ignore_errors=True)
        shutil.rmtree(folder / "merged", ignore_errors=True)
        params = TrainingParams(epochs=subject.epochs, imgsz=subject.size, batch=16, device="cpu", patience=0)
        merged = write_merge.fn([data.learnt], plan_archives.fn([data.learnt], MergePolicy()), folder / "merged")
        with write_atomically(weights) as unfinished:
            shutil.copy(train(merged.data, folder / "training", base, params), unfinished)
    return weights


def predictor(subject: Subject, weights: Path) -> Callable[[Any], tuple[Detections, Any]]:
    """Return what finds objects in an RGB image, and its embedding."""
    from tasks.training.trainer import reference
    from tasks.training.trainer.head_inputs import HeadInputs
    from tasks.training.trainer.ultralytics_setup import load_model

    model = load_model(str(weights), "detect")
    head_inputs = HeadInputs(model)
    options: dict[str, Any] = {**reference._LIKE_SERVED, **reference._QUIET, "imgsz": subject.size, "device": "cpu"}

    def predict(image: Any) -> tuple[Detections, Any]:
        (result,) = model.predict(np.ascontiguousarray(image[..., ::-1]), **options, project=str(weights.parent))
        return reference.to_detections(result.cpu().numpy(), 0), head_inputs.embedding()

    return predict


def predict_sets(subject: Subject, data: Data, weights: Path, folder: Path) -> None:
    """Write what the model finds in each set of images, and what these look like, but for those that are there."""
    predict = None
    parts = (
        ("validated", data.validated.images[: subject.validated]),
        ("held-out", data.held_out.images[: subject.held_out]),
    )
    for number, corruption in enumerate(SETS):
        for part, images in parts:
            found, seen = (folder / f"{part}-{number:02d}.{ending}" for ending in ("zip", "npz"))
            if seen.exists() or (part == "validated" and corruption not in LEARNT):
                continue
            predict = predict or predictor(subject, weights)
            pixels = [shrink_to_fit(read_image(image.path), subject.size) for image in images]
            if corruption is not None:
                pixels = [corrupt_image(each, corruption, SEED + at) for at, each in enumerate(pixels)]
            detections, embeddings = zip(*map(predict, pixels), strict=True)
            write_predictions(found, detections)
            files = [cv2.imencode(".bmp", each[..., ::-1])[1].tobytes() for each in pixels]
            stats = [check_image(each, "x.bmp")[0] for each in files]
            profile = profile_images([each and looks_of(each) for each in stats], detections)
            with write_atomically(seen) as unfinished, unfinished.open("wb") as file:
                values: dict[str, Any] = {"embeddings": np.array(embeddings, np.float32), **profile.pictures}
                np.savez_compressed(file, **values)
            print(subject.name, part, corruption, flush=True)


def read_sets(part: str, images: EvaluationSet, names: Sequence[str], folder: Path) -> Iterator[JudgedImages]:
    """Yield the sets of a part that were predicted, in their order, with what of them is right."""
    for number in range(len(SETS)):
        seen = folder / f"{part}-{number:02d}.npz"
        if not seen.exists():
            continue
        found = list(read_predictions(seen.with_suffix(".zip")))
        shown = replace(images, images=images.images[: len(found)])
        compared = compare_images("detect", names, shown, found)
        judged = judge_images(compared, [None] * len(found), len(images.class_names))
        with np.load(seen) as known:
            values = {name: known[name].astype(np.float64) for name in known.files}
        embeddings = values.pop("embeddings")
        yield replace(judged, profile=replace(judged.profile, pictures=values, embeddings=embeddings))


class Trial(NamedTuple):
    """What was estimated of a window, what is true, and whether a trait of it has drifted."""

    corruption: str
    estimate: ScoreEstimate
    true: float
    drifted: bool


def try_windows(validated: Sequence[JudgedImages], held_out: Sequence[JudgedImages], least: float) -> list[Trial]:
    """Estimate windows of held-out images, of each corruption by what was learnt of the others."""
    limits = np.full(validated[0].labels.shape[1], least)
    clean, *corrupted = (images.from_confidence(limits) for images in validated)
    learnt = dict(zip(WITH_DARKNESS, corrupted, strict=True))
    estimator = ScoreEstimator(clean, learnt, classify=False)
    without = {
        name: ScoreEstimator(clean, {each: own for each, own in learnt.items() if each.name != name}, classify=False)
        for name in NAMES
    }
    rng = np.random.default_rng(SEED)
    trials = []
    for corruption, images in zip(SETS, held_out, strict=True):
        name = corruption.name if corruption else ""
        for _ in range(CORRUPTED_WINDOWS if corruption else CLEAN_WINDOWS):
            window = images.from_confidence(limits).select(rng.integers(0, len(images.profile), WINDOW))
            found = without.get(name, estimator).estimate(window.profile)
            tests = compare_profiles(
                clean.profile, window.profile, len(limits), min_images=WINDOW, significance=SIGNIFICANCE
            )
            drifted = any(test.drifted for test in tests)
            trials.append(Trial(name, found, estimator.score(window), drifted))
            if name == DARKNESS:
                lit = estimator.estimate(window.profile)
                trials.append(Trial(LEARNT_DARKNESS, lit, estimator.score(window), drifted))
    return trials


def summarize(trials: Sequence[Trial]) -> str:
    """Return the figures as a line; trials without a corruption are those of clean images."""
    name = np.array([trial.corruption for trial in trials])
    true = np.array([trial.true for trial in trials])
    score = np.array([trial.estimate.score for trial in trials])
    held = [trial.estimate.low <= trial.true <= trial.estimate.high for trial in trials]
    told = np.array([trial.estimate.fall >= MAX_FALL for trial in trials])
    sure = told & [trial.estimate.high < trial.estimate.expected for trial in trials]
    drifted = np.array([trial.drifted for trial in trials])
    lost = true[name == ""].mean() - true
    fell, unharmed, clean = lost >= FALL, (lost < MAX_FALL) & (name != ""), name == ""
    missed = dict(Counter(name[fell & ~told].tolist()))
    counts = ", ".join(
        f"{title} {told[own].sum()} ({sure[own].sum()} surely, {drifted[own].sum()} by a trait, "
        f"{(told & ~drifted)[own].sum()} by none) of {own.sum()}"
        for title, own in (("falls", fell), ("clean", clean), ("corrupted without harm", unharmed))
    )
    return (
        f"error {np.abs(score - true).mean():.3f}, {np.mean(held):.1%} in the interval; told to have fallen: {counts}; "
        f"falls that are missed: {missed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=Path, nargs=2)
    parser.add_argument("--base", default="yolo11n.yaml", help="an architecture, or weights by their full path")
    given = parser.parse_args()
    with disable_run_logger():
        for subject in (SHAPES, CELLS):
            folder = given.folder / subject.name
            shutil.rmtree(folder / "data", ignore_errors=True)
            data = open_data(subject, given.cells, folder / "data")
            weights = learn(subject, data, given.base, folder)
            predict_sets(subject, data, weights, folder)
            names = data.class_names
            validated = list(read_sets("validated", data.validated, names, folder))
            held_out = list(read_sets("held-out", data.held_out, names, folder))
            for least, embedded in product((0.25, 0.01), (True, False)):
                trials = try_windows(forget(validated, embedded), forget(held_out, embedded), least)
                about = f"{subject.name}, from confidence {least}, {'with' if embedded else 'without'} embeddings"
                dark = [trial for trial in trials if trial.corruption in {"", DARKNESS}]
                lit = [trial for trial in trials if trial.corruption in {"", LEARNT_DARKNESS}]
                paper = [trial for trial in trials if trial.corruption not in {DARKNESS, LEARNT_DARKNESS}]
                for title, part in (("", paper), (", darkness left out", dark), (", darkness", lit)):
                    print(f"{about}{title}: {summarize(part)}", flush=True)


def forget(images: Sequence[JudgedImages], embedded: bool) -> list[JudgedImages]:
    """Return the same images, without embeddings unless they are `embedded`."""
    if embedded:
        return list(images)
    return [replace(each, profile=replace(each.profile, embeddings=each.profile.embeddings[:, :0])) for each in images]


if __name__ == "__main__":
    main()
