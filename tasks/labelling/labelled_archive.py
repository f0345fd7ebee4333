"""The YOLO archive of the images that a model has labelled alone, and what became of the others."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from tasks.dataset.findings import Severity
from tasks.dataset.label_origins import LabelOrigin, Origin
from tasks.dataset.labels import LabelSpec, parse_labels
from tasks.dataset.yolo_archive import YoloArchive
from tasks.inference.image_lists import ListedImage
from tasks.inference.results.parquet import Rows
from tasks.inference.results.predicted_images import PredictedImage
from tasks.inference.results.summary import ERROR, WARNING, Failure
from tasks.inference.results.yolo_labels import to_label_lines
from tasks.inference.usable_images import UsableImage
from tasks.inference.work_plan import MediaSource
from tasks.labelling.likeness import mean_confidence
from tasks.labelling.pictures import Doubt, DrawnImage, draw_labels
from tasks.labelling.thresholds import LabelThreshold, sort_labels
from tasks.media.errors import MediaError
from tasks.merge.training_images import Checksum, TrainingImages

EXHIBITS = 12  # pictures of labelled images, and of uncertain ones
NOTHING_LABELLED = "Nothing labelled"  # the state of a run that has made no archive
LABELLED = "labelled"
BACKGROUND = "labelled as background"
UNCERTAIN = "uncertain: listed for review"
NOTHING_FOUND = "nothing was found: listed for review"
UNLISTED = "left out: nothing was found"
LEARNT = "left out: the version was trained on it"
ASKED = "left out: people were asked about it in a loop"
REPEATED = "left out: the same file as another one"
FAILED = "left out: it could not be read"
VIDEO = "left out: a video"
LISTED_EMPTY = 1000


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """Who labels: a version with the thresholds of its classes, in a flow run.

    `learnt` are images that it knows, `asked` those that people were asked about.
    """

    model_name: str
    version: int
    task: str
    class_names: Sequence[str]
    thresholds: Sequence[LabelThreshold]
    learnt: TrainingImages
    asked: frozenset[Checksum]
    flow_run_id: str


@dataclass(kw_only=True)
class Labelling:
    """What became of the images, by kind, and of the labels, by class name; `listed` images wait for a person.

    First the uncertain ones, then some in which nothing was found: objects may be there that the version has never
    seen. `exhibits` are pictures of some that were labelled, and of some that are uncertain. `confidences` has the mean
    of each image in which something was found.
    """

    images: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    unsure: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    listed: list[ListedImage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    exhibits: dict[str, list[DrawnImage]] = field(default_factory=lambda: defaultdict(list))
    confidences: list[float] = field(default_factory=list)

    @property
    def archived(self) -> int:
        """The number of images in the archive: background alone is none, as nothing can be learnt from it."""
        return self.images[LABELLED] and self.images[LABELLED] + self.images[BACKGROUND]

    @property
    def asks(self) -> bool:
        """Whether images wait for a person."""
        return bool(self.images[UNCERTAIN] or self.images[NOTHING_FOUND])

    def fail(self, failures: Iterable[Failure]) -> None:
        """Keep why inputs cannot be labelled; one that is only warned of does not count."""
        for failure in failures:
            self.images.update([FAILED] if failure.severity == ERROR else ())
            self.failures.append(failure)


class LabelledArchive:
    """Writes the archive an image at a time; `labelling` is what became of all."""

    def __init__(self, archive: YoloArchive, labeller: Labeller, *, background: bool) -> None:
        self.labelling = Labelling()
        self._archive = archive
        self._labeller = labeller
        self._background = background and labeller.task != "classify"
        self._origins: list[LabelOrigin] = []
        self._known: set[Checksum] = set()
        self._empty: dict[Checksum, MediaSource] = {}
        self._keypoints = 0

    def add(self, source: MediaSource, image: UsableImage, predicted: PredictedImage) -> None:
        """Take an image with its labels, or say why it is not taken."""
        if image.checksum in self._labeller.learnt:
            self.labelling.images[LEARNT] += 1
        elif image.checksum in self._labeller.asked:
            self.labelling.images[ASKED] += 1
        elif image.checksum in self._known:
            self.labelling.images[REPEATED] += 1
        else:
            self._known.add(image.checksum)
            self._sort(source, image, predicted)

    def finish(self, facts: Mapping[str, object]) -> None:
        """Write the classes, the origins of the labels, and `facts` on how they came about."""
        self._list_empty()
        for class_name, folder in self._archive.folders.items():
            if folder != class_name:
                told = f"expected a class that a folder can be named after, found one that is in folder {folder!r}"
                self.labelling.fail([Failure(source=class_name, reason=told, severity=WARNING)])
        keypoints = {"kpt_shape": [self._keypoints, 3]} if self._keypoints else {}
        self._archive.describe(self._labeller.class_names, ["train"], keypoints)
        self._archive.tell_label_origins(self._origins)
        self._archive.tell_provenance(facts)

    def _list_empty(self) -> None:
        """List images in which nothing was found; of many some, by their checksums, as a selection looks at each."""
        chosen = [self._empty[checksum] for checksum in sorted(self._empty)[:LISTED_EMPTY]]
        self.labelling.listed += [ListedImage(source=source, reason="nothing was found") for source in chosen]
        left = len(self._empty) - len(chosen)
        self.labelling.images += Counter({NOTHING_FOUND: len(chosen), UNLISTED: left})

    def _sort(self, source: MediaSource, image: UsableImage, predicted: PredictedImage) -> None:
        whole = self._labeller.task == "classify"
        named = range(len(self._labeller.class_names))  # a broken graph may say any class
        rows = [row for row in predicted.rows[: 1 if whole else None] if row["class_id"] in named]
        class_id = np.array([row["class_id"] for row in rows], np.int64)
        confidence = np.array([row["confidence"] for row in rows], np.float64)
        if (mean := mean_confidence(confidence)) is not None:
            self.labelling.confidences.append(mean)
        taken, unsure = sort_labels(self._labeller.thresholds, class_id, confidence)
        for counter, own in ((self.labelling.unsure, unsure), (self.labelling.dropped, ~taken & ~unsure)):
            counter.update(self._labeller.class_names[number] for number in class_id[own].tolist())
        if unsure.any() or (whole and not taken.any()):
            sure = [row for row, own in zip(rows, taken, strict=True) if own]
            self._doubt(source, image, predicted, [row for row, own in zip(rows, unsure, strict=True) if own], sure)
        elif taken.any() or self._background:
            self._take(source, image, predicted, [row for row, own in zip(rows, taken, strict=True) if own])
        else:
            self._empty[image.checksum] = source

    def _doubt(
        self, source: MediaSource, image: UsableImage, predicted: PredictedImage, rows: Rows, sure: Rows
    ) -> None:
        surest = max(rows, key=lambda row: float(row["confidence"]), default=None)
        reason = "no class is sure"
        if surest:
            threshold = self._labeller.thresholds[surest["class_id"]]
            doubt = threshold.describe(float(surest["confidence"]))
            reason = f"{self._labeller.class_names[surest['class_id']]} at {doubt}"
        self.labelling.images[UNCERTAIN] += 1
        self.labelling.listed.append(ListedImage(source=source, reason=reason))
        self._exhibit(UNCERTAIN, image, predicted, rows, sure)

    def _take(self, source: MediaSource, image: UsableImage, predicted: PredictedImage, rows: Rows) -> None:
        folder, _, file = source.name.rpartition("/")
        name = f"{folder}/{file.rpartition('.')[0] or file}{image.ending}"
        if self._labeller.task == "classify":
            class_name = self._labeller.class_names[rows[0]["class_id"]]
            entry = self._archive.add_classified(name, image.data, "train", class_name)
        else:
            lines = self._lines(predicted, rows)
            if fault := self._fault(lines):
                self.labelling.fail([Failure(source=source.name, reason=fault)])
                return
            entry = self._archive.add(name, image.data, "train", lines)
        self._archive.origins[entry] = source.name
        self.labelling.images[LABELLED if rows else BACKGROUND] += 1
        self.labelling.taken.update(self._labeller.class_names[row["class_id"]] for row in rows)
        self._origins += [self._origin(entry, place, float(row["confidence"])) for place, row in enumerate(rows)]
        if self._labeller.task != "classify":
            self._origins.append(self._origin(entry, None, None))  # that nothing else is there
        self._exhibit(LABELLED, image, predicted, rows)

    def _origin(self, entry: str, row: int | None, confidence: float | None) -> LabelOrigin:
        return LabelOrigin(
            image=entry,
            row=row,
            origin=Origin.MODEL,
            model_name=self._labeller.model_name,
            model_version=self._labeller.version,
            confidence=confidence,
            flow_run_id=self._labeller.flow_run_id,
        )

    def _fault(self, lines: Sequence[str]) -> str | None:
        """Why the check would refuse these labels; None if it takes them."""
        keypoints = (self._keypoints, 3) if self._keypoints else None
        count = len(self._labeller.class_names)
        rules = LabelSpec(class_count=count, task=self._labeller.task, keypoints=keypoints)
        _, findings = parse_labels("\n".join(lines).encode(), "its labels", rules)
        return next((each.message for each in findings if each.severity is Severity.ERROR), None)

    def _lines(self, predicted: PredictedImage, rows: Rows) -> list[str]:
        if self._labeller.task == "pose" and rows:
            self._keypoints = len(rows[0]["keypoints"]) // 3
        class_ids = [row["class_id"] for row in rows]
        return to_label_lines(self._labeller.task, predicted.width, predicted.height, rows, class_ids)

    def _exhibit(self, kind: str, image: UsableImage, predicted: PredictedImage, rows: Rows, sure: Rows = ()) -> None:
        names = self._labeller.class_names
        if rows and len(self.labelling.exhibits[kind]) < EXHIBITS:
            doubts = [*self._doubts(rows)] if kind == UNCERTAIN else []
            with suppress(MediaError):  # of an image that takes too long to decode
                drawn = draw_labels(image.data, predicted, rows, names, others=sure, doubts=doubts)
                self.labelling.exhibits[kind].append(drawn)

    def _doubts(self, rows: Rows) -> Iterator[Doubt]:
        found: dict[int, list[float]] = {}
        for row in sorted(rows, key=lambda row: float(row["confidence"]), reverse=True):
            found.setdefault(row["class_id"], []).append(float(row["confidence"]))
        for number, confidences in found.items():
            threshold = self._labeller.thresholds[number]
            name = self._labeller.class_names[number]
            yield Doubt(name, confidences, threshold.low, threshold.high, threshold.drops)
