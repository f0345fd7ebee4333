"""How much of the worth of fully labelled data a loop reaches in which a person draws a part of the boxes.

`python -m tests.benchmarks.bench_loop --record results.jsonl`: drawn shapes, or `--archives` of boxes. Of a pool of
images the first few are labelled by hand, the others have no labels. An oracle that knows the true boxes reviews as a
person does: it leaves a suggested box of the right class that overlaps the true one by at least `ACCEPT` (IoU), names
another class where the box lies right, draws a box anew that lies elsewhere or is missing, and deletes the rest.

- `full`: the whole pool, labelled by hand.
- `first`: the first images alone.
- `random`: images drawn by lot and labelled by hand without suggestions, as many boxes as `BUDGET` allows with those of
  the images that thresholds are set by, which count as drawn by hand in each arm.
- `pseudo`: the model of the first images labels what it is sure of, and nobody looks.
- `loop`: what it is sure of it labels, and of the rest the oracle reviews what `choose` chooses; round after round.
- `loop-random`: the same, but what is reviewed is drawn by lot.

Each arm trains from the same weights with the same seed for about as many epochs of as many steps: of a small set each
image is seen so much more often. It is measured on the same images, which no arm learns or sets a threshold by. A
result is a line of `--record`, and a bench that is started again goes on after them.
"""

import argparse
import io
import json
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from prefect.logging import disable_run_logger

from infra import demo_data
from tasks.dataset.label_origins import LABEL_ORIGINS, LabelOrigin, Origin, pack_label_origins
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.coco_metrics import coco_metrics
from tasks.evaluation.labelled_images import EvaluationSet, unpack_split
from tasks.evaluation.overlaps import ComparedImage
from tasks.evaluation.prediction_file import read_predictions
from tasks.evaluation.validation_matching import match_validation
from tasks.evaluation.version_evaluation import compare_images
from tasks.importing.annotations import Box
from tasks.inference.work_plan import MediaSource
from tasks.labelling.thresholds import LabelThreshold, compute_thresholds, sort_labels
from tasks.media.file_type import MediaKind
from tasks.merge.manifest import ImageCounts, read_manifest, write_manifest
from tasks.merge.steps import plan_archives, write_merge
from tasks.parameters import MergePolicy, SelectionParams, TrainingParams
from tasks.review.changes import Change, ReviewTotals, compare_shapes
from tasks.selection.choice import choose
from tasks.selection.pool import LearntImages, Pool, PoolImage, keep_counted
from tasks.selection.uncertainty import measure_doubt
from tasks.training.process import run_job
from tests.benchmarks.bench_label_errors import train
from tests.tasks.merge.archives import checked

GOAL = 0.95  # of the mAP50 of `full`
BUDGET = 0.4  # of the boxes of the pool
ROUNDS = 2
REVIEWED = 30  # images a round
VALIDATED, MEASURED = 30, 90  # images of archives that are in no pool
BLUR = 1.5  # pixels, the mean of the exponential distribution that drawn images are blurred by
SHOWN = 0.25  # confidence from which a box is suggested, as review-images does
ACCEPT = 0.7
PRECISION = 0.95
RECALL = 0.95
BATCH = 16
ARMS = ("full", "first", "random", "pseudo", "loop", "loop-random")

Rows = NDArray[np.float64]  # [m, 5] class, centre x and y, width, height; shares of the image


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """An image and its true boxes."""

    name: str
    jpeg: bytes
    rows: Rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """The images of a study: those to label, those that thresholds are set by, and those that arms are measured on."""

    classes: tuple[str, ...]
    pool: Sequence[Sample]
    val: Sequence[Sample]
    test: Sequence[Sample]

    @property
    def boxes(self) -> int:
        """The boxes of the pool."""
        return sum(len(sample.rows) for sample in self.pool)


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """What a model found in each image of a part of the data, beside what is there, and the features of each."""

    data: EvaluationSet
    images: Sequence[ComparedImage]
    embeddings: NDArray[np.float32]


def draw_shapes(seed: int, pool: int) -> Data:
    """Return drawn shapes; the images of `test` are the same for each seed."""

    def draw(count: int, own_seed: int) -> list[Sample]:
        rng = np.random.default_rng(own_seed)
        return [draw_image(rng, f"{number:05d}") for number in range(count)]

    return Data(
        classes=demo_data.CLASSES, pool=draw(pool, 1000 + seed), val=draw(VALIDATED, 2000 + seed), test=draw(150, 3000)
    )


def draw_image(rng: np.random.Generator, name: str) -> Sample:
    """Return an image of up to nine small grey shapes, each blurred as it comes: those of the demo are too easy."""
    image = demo_data.background(rng)
    shapes: list[demo_data.Shape] = []
    for _ in range(9):
        r = int(rng.integers(7, 18))
        x, y = int(rng.integers(r, demo_data.WIDTH - r)), int(rng.integers(r, demo_data.HEIGHT - r))
        if all(np.hypot(x - x2, y - y2) > 1.3 * (r + r2) for _, x2, y2, r2 in shapes):
            shapes.append((str(rng.choice(demo_data.CLASSES)), x, y, r))
            demo_data.draw_shape(image, shapes[-1])
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 0.1 + rng.exponential(BLUR))
    jpeg = cv2.imencode(".jpg", grey)[1].tobytes()
    return Sample(name=name, jpeg=jpeg, rows=read_rows(demo_data.label_text(shapes, demo_data.CLASSES)))


def read_archives(paths: Sequence[Path], seed: int) -> Data:
    """Return the images of archives of boxes, dealt anew for each seed: chance is in what is measured too."""
    samples: list[Sample] = []
    classes: tuple[str, ...] = ()
    for number, path in enumerate(paths):
        with zipfile.ZipFile(path) as file:
            described = yaml.safe_load(file.read(next(name for name in file.namelist() if name.endswith("data.yaml"))))
            names = described["names"]
            names = [*names.values()] if isinstance(names, dict) else names
            classes = classes or tuple(names)
            ids = np.array([classes.index(name) for name in names])
            for entry in sorted(file.namelist()):
                if "images/" not in entry or entry.endswith("/"):
                    continue
                label = entry.replace("images/", "labels/").rpartition(".")[0] + ".txt"
                rows = read_rows(file.read(label).decode() if label in file.namelist() else "")
                rows[:, 0] = ids[rows[:, 0].astype(int)]
                samples.append(Sample(name=f"{number}-{Path(entry).stem}", jpeg=file.read(entry), rows=rows))
    dealt = [samples[at] for at in np.random.default_rng(seed).permutation(len(samples))]
    held = VALIDATED + MEASURED
    return Data(classes=classes, pool=dealt[held:], val=dealt[:VALIDATED], test=dealt[VALIDATED:held])


def read_rows(text: str) -> Rows:
    """Return the rows of a label file."""
    return np.array([[float(value) for value in line.split()[:5]] for line in text.splitlines()]).reshape(-1, 5)


def write_rows(rows: Rows) -> str:
    """Return the label file of rows."""
    return "".join(f"{int(row[0])} {' '.join(f'{value:.6f}' for value in row[1:])}\n" for row in rows)


class Study:
    """The data of one seed, and the models that are trained on parts of it."""

    def __init__(self, data: Data, model: str, imgsz: int, steps: int, folder: Path) -> None:
        self.data, self._model, self._imgsz, self._steps, self._folder = data, model, imgsz, steps, folder
        folder.mkdir()
        self._number = 0
        self._sets: dict[str, tuple[EvaluationSet, list[int]]] = {}

    def fit(self, labelled: Mapping[int, Rows], pseudo: Mapping[int, Rows] | None = None) -> Path:
        """Return the weights of a training on these labels of images of the pool; those of a model are told as such."""
        labels = {**labelled, **(pseudo or {})}
        entries = self._entries(train=[(self.data.pool[at], labels[at]) for at in sorted(labels)])
        origins = [
            LabelOrigin(image=f"images/train/{self.data.pool[at].name}.jpg", row=row, origin=Origin.MODEL)
            for at, rows in (pseudo or {}).items()
            for row in (None, *range(len(rows)))
        ]
        if origins:
            entries[LABEL_ORIGINS] = pack_label_origins(origins)
        place = self._place()
        (archive,) = checked(place, entries)
        merged = write_merge.fn([archive], plan_archives.fn([archive], MergePolicy()), place / "merged")
        times = max(round(len(self.data.pool) / len(labels)), 1)
        repeat_images(merged.data, times)
        epochs = max(round(self._steps * BATCH / (len(labels) * times)), 1)
        every_step = {"nbs": BATCH}  # Ultralytics sums the gradients of 64 images otherwise: a fourth of the updates
        params = TrainingParams(
            epochs=epochs, imgsz=self._imgsz, batch=BATCH, device="cpu", patience=0, overrides=every_step
        )
        return train(merged.data, place / "run", self._model, params)

    def look(self, weights: Path, part: str) -> Seen:
        """Return what a model finds in the images of a part of the data, in its order."""
        data, order = self._sets.get(part) or self._sets.setdefault(part, self._unpack(part))
        paths = [image.path for image in data.images]
        place = self._place() / "found"
        job = evaluation_steps.prediction_job(paths, weights, "detect", self._imgsz, "cpu", place).with_embeddings()
        if failure := run_job(job, lambda _: None):
            raise SystemExit(f"the prediction stopped: {failure}")
        found = (each for file in job.predictions for each in read_predictions(file))
        images = compare_images("detect", self.data.classes, data, found)
        features = np.concatenate([np.load(path) for path in job.embeddings])
        back = np.argsort(order)
        return Seen(data=data, images=[images[at] for at in back], embeddings=features[back])

    def worth(self, weights: Path) -> float:
        """Return the mAP50 on the images that arms are measured on."""
        metrics = coco_metrics(self.look(weights, "test").images, len(self.data.classes), "detect")
        return metrics.overall.values["mAP50"] or 0.0

    def thresholds(self, weights: Path) -> list[LabelThreshold]:
        """Return between what the model is unsure, by what it did on the images of `val`."""
        seen = self.look(weights, "val")
        matching = match_validation("detect", self.data.classes, seen.data, seen.images)
        return compute_thresholds(matching, PRECISION, RECALL)

    def _unpack(self, part: str) -> tuple[EvaluationSet, list[int]]:
        samples = getattr(self.data, part)
        place = self._place()
        others = self.data.val if part != "val" else self.data.test
        entries = self._entries(
            train=[(each, each.rows) for each in others], val=[(each, each.rows) for each in samples]
        )
        (archive,) = checked(place, entries)
        data = unpack_split(archive, "val", place / "images")
        at = {f"images/val/{sample.name}.jpg": number for number, sample in enumerate(samples)}
        return data, [at[image.name] for image in data.images]

    def _entries(self, **splits: Sequence[tuple[Sample, Rows]]) -> dict[str, bytes | str]:
        splits.setdefault("val", [(each, each.rows) for each in self.data.val])
        described = {split: f"images/{split}" for split in splits} | {"names": list(self.data.classes)}
        entries: dict[str, bytes | str] = {"data.yaml": yaml.safe_dump(described)}
        for split, samples in splits.items():
            for sample, rows in samples:
                entries[f"images/{split}/{sample.name}.jpg"] = sample.jpeg
                entries[f"labels/{split}/{sample.name}.txt"] = write_rows(rows)
        return entries

    def _place(self) -> Path:
        self._number += 1
        place = self._folder / str(self._number)
        place.mkdir()
        return place


def repeat_images(data: Path, times: int) -> None:
    """Have each image for training of a merged dataset there so many times."""
    for kind in ("images", "labels"):
        for path in [*(data.parent / kind / "train").iterdir()]:
            for number in range(1, times):
                path.with_stem(f"{path.stem}-{number}").hardlink_to(path)
    counts = read_manifest(data)
    of_train = counts["train"]
    rows = Counter({class_id: count * times for class_id, count in of_train.rows.items()})
    write_manifest(data, counts | {"train": ImageCounts(of_train.images * times, rows)})


def review(image: ComparedImage, shown: NDArray[np.bool_], totals: ReviewTotals) -> Rows:
    """Return the labels that the oracle leaves in an image of which it is shown some detections."""
    found = image.predictions.select(np.flatnonzero(shown))
    overlaps = image.overlaps[shown]
    suggested = to_boxes(found.xyxy, found.class_id)
    final: list[Box] = []
    used: set[int] = set()
    for label, (corners, class_id) in enumerate(zip(image.labels.xyxy, image.labels.class_id, strict=True)):
        free = [at for at in range(len(found)) if at not in used and overlaps[at, label] >= ACCEPT]
        best = max(free, key=lambda at: (found.class_id[at] == class_id, overlaps[at, label]), default=None)
        if best is None:
            final += to_boxes(corners[None], np.array([class_id]))
        else:
            used.add(best)
            final += to_boxes(found.xyxy[[best]], np.array([class_id]))
    totals.add(compare_shapes(suggested, final), None)
    return to_rows(final, found.width, found.height)


def to_boxes(corners: NDArray[np.float32], classes: NDArray[np.integer]) -> list[Box]:
    """Return boxes in pixels whose classes are named by their numbers."""
    return [
        Box(class_name=str(number), corners=tuple(box))
        for box, number in zip(corners.astype(np.float64).tolist(), classes.tolist(), strict=True)
    ]


def to_rows(boxes: Sequence[Box], width: int, height: int) -> Rows:
    """Return boxes in pixels as rows of a label file."""
    corners = np.array([box.corners for box in boxes]).reshape(-1, 4) / [width, height, width, height]
    corners = np.clip(corners, 0, 1)
    centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    return np.column_stack([[int(box.class_name) for box in boxes], centres, sides]).reshape(-1, 5)


def label_sure(seen: Seen, thresholds: Sequence[LabelThreshold], left: Iterable[int]) -> dict[int, Rows]:
    """Return the labels of the images in which the model is sure of each, as label-images takes them."""
    labelled = {}
    for at in left:
        found = seen.images[at].predictions
        taken, uncertain = sort_labels(thresholds, found.class_id.astype(np.int64), found.confidence.astype(np.float64))
        if taken.any() and not uncertain.any():
            own = found.select(np.flatnonzero(taken))
            labelled[at] = to_rows(to_boxes(own.xyxy, own.class_id), own.width, own.height)
    return labelled


def choose_images(study: Study, seen: Seen, left: Sequence[int], learnt: Sequence[int], seed: int) -> list[int]:
    """Return the images that select-images would choose among those that are left."""
    images = []
    for at in left:
        found = keep_counted(seen.images[at].predictions)
        source = MediaSource(name=study.data.pool[at].name, bucket="", key="", etag="", size=0, kind=MediaKind.IMAGE)
        images.append(
            PoolImage(
                source=source,
                found=found,
                doubt=measure_doubt(found),
                view_consistency=None,
                version_consistency=None,
                embedding=seen.embeddings[at].astype(np.float32),
                thumbnail=thumbnail(study.data.pool[at].jpeg),
            )
        )
    counts = np.zeros(len(study.data.classes))
    for at in learnt:
        np.add.at(counts, seen.images[at].labels.class_id, 1)
    known = LearntImages(embeddings=seen.embeddings[list(learnt)].astype(np.float32), class_counts=counts)
    pool = Pool(images=tuple(images), learnt=known, class_names=study.data.classes)
    choice = choose(pool, SelectionParams(images=REVIEWED, seed=seed))
    return [left[each.image] for each in choice.chosen]


def thumbnail(jpeg: bytes) -> bytes:
    """Return the 16 x 16 grey levels of an image."""
    return Image.open(io.BytesIO(jpeg)).convert("L").resize((16, 16)).tobytes()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What rounds came to: the weights, what the oracle did, and how many images the model labelled in the last."""

    weights: Path
    totals: ReviewTotals
    sure: int


def go_rounds(study: Study, first: Mapping[int, Rows], weights: Path, seed: int, strategy: str | None) -> Outcome:
    """Return the outcome of the rounds; without a strategy of one in which nobody reviews."""
    rng = np.random.default_rng(seed)
    labelled, totals, sure = dict(first), ReviewTotals(), dict[int, Rows]()
    for _ in range(ROUNDS if strategy else 1):
        seen, thresholds = study.look(weights, "pool"), study.thresholds(weights)
        left = [at for at in range(len(study.data.pool)) if at not in labelled]
        sure = label_sure(seen, thresholds, left)
        unsure = [at for at in left if at not in sure]
        if strategy == "random":
            chosen = rng.permutation(unsure)[:REVIEWED].tolist()
        else:
            chosen = choose_images(study, seen, unsure, sorted(labelled), seed) if strategy and unsure else []
        for at in chosen:
            labelled[at] = review(seen.images[at], seen.images[at].predictions.confidence >= SHOWN, totals)
        weights = study.fit(labelled, sure)
    return Outcome(weights=weights, totals=totals, sure=len(sure))


def main() -> None:
    """Print and keep a line for each arm and seed; fail if the loop misses a goal.

    Raises:
        SystemExit: It does.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archives", type=Path, nargs="*", help="archives of boxes in place of drawn shapes")
    parser.add_argument("--model", default="yolo11n.pt", help="weights or an architecture")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--pool", type=int, default=200, help="drawn images")
    parser.add_argument("--first", type=int, default=10, help="images that are labelled before")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=ARMS, choices=ARMS)
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    data_name = "+".join(path.stem for path in given.archives) if given.archives else "shapes"
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as place, disable_run_logger():
            data = read_archives(given.archives, seed) if given.archives else draw_shapes(seed, given.pool)
            study = Study(data, given.model, given.imgsz, given.steps, Path(place) / "study")
            run_arms(study, data_name, seed, given.first, given.arms, given.record)
    judge(read_record(given.record), data_name)


def run_arms(study: Study, data_name: str, seed: int, begun_with: int, arms: Sequence[str], record: Path) -> None:
    """Run the arms of a seed that are not in the record yet; `begun_with` images are labelled before."""
    done = {line["arm"] for line in read_record(record) if (line["data"], line["seed"]) == (data_name, seed)}
    pool = study.data.pool
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    first = {at: pool[at].rows for at in order[:begun_with]}
    val = sum(len(sample.rows) for sample in study.data.val)  # by hand in each arm
    begun: list[Path] = []

    def first_weights() -> Path:
        begun[:] = begun or [study.fit(first)]
        return begun[0]

    for arm in (each for each in arms if each not in done):
        began = time.time()
        drawn, more = sum(map(len, first.values())), dict[str, int]()
        if arm == "full":
            weights, drawn = study.fit({at: sample.rows for at, sample in enumerate(pool)}), study.data.boxes
        elif arm == "first":
            weights = first_weights()
        elif arm == "random":
            boxes = np.cumsum([len(pool[at].rows) for at in order])
            budget = BUDGET * (study.data.boxes + val) - val
            count = int(np.searchsorted(boxes, budget, side="right"))
            weights, drawn = study.fit({at: pool[at].rows for at in order[:count]}), int(boxes[count - 1])
            more = {"images": count}
        else:
            strategy = None if arm == "pseudo" else arm.removeprefix("loop-")
            outcome = go_rounds(study, first, first_weights(), seed, strategy)
            weights, totals = outcome.weights, outcome.totals
            drawn += totals.drawn
            more = {"images": totals.images + begun_with, "pseudo": outcome.sure}
            more |= {each.value: totals.changes[each] for each in Change}
        line = {"data": data_name, "seed": seed, "arm": arm, "mAP50": round(study.worth(weights), 4)}
        line |= {"drawn": drawn + val, "of": study.data.boxes + val, "val": val}
        line |= {"seconds": round(time.time() - began), **more}
        print(json.dumps(line), flush=True)
        with record.open("a") as file:
            file.write(f"{json.dumps(line)}\n")


def read_record(record: Path) -> list[dict[str, object]]:
    """Return the results that are there."""
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def judge(lines: Sequence[Mapping[str, object]], data_name: str) -> None:
    """Print each arm beside the fully labelled pool.

    Raises:
        SystemExit: The loop reaches less than `GOAL`, or takes more than `BUDGET`.
    """
    own = [line for line in lines if line["data"] == data_name]
    full = {line["seed"]: float(str(line["mAP50"])) for line in own if line["arm"] == "full"}
    failed = False
    for arm in dict.fromkeys(str(line["arm"]) for line in own):
        part = [line for line in own if line["arm"] == arm and line["seed"] in full]
        if not part:
            continue
        scores = [float(str(line["mAP50"])) for line in part]
        drawn = [float(str(line["drawn"])) / float(str(line["of"])) for line in part]
        share = sum(scores) / sum(full[line["seed"]] for line in part)
        told = ", ".join(f"{score:.3f} with {boxes:.0%}" for score, boxes in zip(scores, drawn, strict=True))
        print(f"{arm}: {share:.3f} of full with {np.mean(drawn):.0%} of the boxes drawn ({told})")
        failed |= arm == "loop" and bool(share < GOAL or np.mean(drawn) > BUDGET)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
