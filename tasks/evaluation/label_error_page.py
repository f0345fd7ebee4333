"""Labels that look wrong, as a page with a picture of each, as plain values, and as an archive for review."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.dataset.yolo_archive import YoloArchive
from tasks.evaluation.label_errors import KINDS, LabelError
from tasks.evaluation.labelled_images import EvaluationImage, EvaluationSet
from tasks.evaluation.overlaps import ComparedImage
from tasks.media.annotate import annotate_image
from tasks.media.images import encode_jpeg, read_image, resize_to_fit
from tasks.rendering.html import DOCUMENT, PICTURES, jpeg_data_uri, render_page
from tasks.rendering.markdown import escape_markdown, table
from tasks.rendering.palette import ABSENT, OTHERS
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats

WORDS = {
    "missing": "missing label",
    "spurious": "spurious label",
    "swapped": "wrong class",
    "misplaced": "badly placed label",
}
_SIDE = 240  # pixels of a picture
_LEAST_WINDOW = 96
_AROUND = 1.0  # of the larger side of the object, on each side of it
_WIDEST = 2.0  # times that, to show neighbours as a whole
_MARGIN = 4  # pixels around these, for the lines
_SHOWN = 0.3  # confidence of the other detections in a picture
_MARKDOWN_ROWS = 30
_TRUSTED = 0.5  # mAP50 from which a judge is believed without a word
_QUALITY = 80


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedLabels:
    """The images of an archive, compared with what was found there, and the labels that look wrong, surest first.

    The first `most` of these are shown. `map50` is the mAP50 of what was found, by these labels.
    """

    data: EvaluationSet
    images: Sequence[ComparedImage]
    errors: Sequence[LabelError]
    most: int
    map50: float

    @property
    def doubt(self) -> str:
        """Why the suspicions say little, as a sentence; empty if they do not."""
        if self.map50 >= _TRUSTED:
            return ""
        return (
            f"The judges find little of what is labelled (mAP50 {self.map50:.2f}), so they say little of the labels: "
            "train longer (label_errors.epochs), or judge with a better version."
        )

    @property
    def shown(self) -> Sequence[LabelError]:
        """The surest suspicions."""
        return self.errors[: self.most]

    def facts(self, error: LabelError) -> dict[str, Any]:
        """Return what is suspected, as plain values; boxes are x1, y1, x2, y2 in pixels, lines count from 1."""
        image, compared = self.data.images[error.image], self.images[error.image]
        label, found = self.sides(error)
        return {
            "kind": error.kind,
            "score": round(error.score, 4),
            "image": image.name,
            "split": image.split,
            "line": None if error.label is None else self._line(image, compared, error.label),
            "label": label and _object(label, self.data.class_names),
            "found": found
            and {**_object(found, self.data.class_names), "confidence": round(float(found.confidence[0]), 4)},
            "overlap": None
            if error.label is None or error.detection is None
            else round(float(compared.overlaps[error.detection, error.label]), 4),
        }

    def sides(self, error: LabelError) -> tuple[Detections | None, Detections | None]:
        """Return the label and the detection of a suspicion, each by itself, or None."""
        compared = self.images[error.image]
        label, found = error.label, error.detection
        return (
            None if label is None else compared.labels.select(np.array([label])),
            None if found is None else compared.predictions.select(np.array([found])),
        )

    def _line(self, image: EvaluationImage, compared: ComparedImage, label: int) -> int | None:
        """The line of a label in its file; the labels that are compared are those of classes that the model knows."""
        if image.class_id is not None:
            return None
        class_id = int(compared.labels.class_id[label])
        place = int((compared.labels.class_id[:label] == class_id).sum())
        return [row.line for row in image.rows if row.class_id == class_id][place]


def _object(one: Detections, names: Sequence[str]) -> dict[str, Any]:
    box = [round(side, 1) for side in one.xyxy[0].tolist()]
    return {"class": names[int(one.class_id[0])], "box": box}


def label_error_page(title: str, judged: JudgedLabels, folds: int, remarks: Sequence[str]) -> str:
    """Return the page: each suspicion with what is labelled there and what was found; `remarks` are of the judges."""
    counts = Counter(each.kind for each in judged.shown)
    return render_page(
        "label_errors",
        DOCUMENT,
        PICTURES,
        title=title,
        data=judged.data.title,
        folds=folds,
        totals=[
            ("images", f"{len(judged.data.images):,}"),
            ("labels", f"{_label_count(judged):,}"),
            ("mAP50 of the judges", f"{judged.map50:.2f}"),
        ],
        doubt=judged.doubt,
        remarks=remarks,
        kinds=[(kind, WORDS[kind], counts[kind]) for kind in KINDS],
        exhibits=[_exhibit(judged, error) for error in judged.shown],
        count=len(judged.errors),
    )


def label_error_markdown(judged: JudgedLabels, remarks: Sequence[str]) -> str:
    """Return the count of each kind, and the surest suspicions; `remarks` are of the judges."""
    counts = Counter(each.kind for each in judged.errors)
    kinds = table(("suspected", "labels"), [(WORDS[kind], counts[kind]) for kind in KINDS])
    rows = []
    for error in judged.shown[:_MARKDOWN_ROWS]:
        facts = judged.facts(error)
        place = facts["image"] + (f", line {facts['line']}" if facts["line"] else "")
        rows.append((f"{error.score:.2f}", _sentence(facts), place))
    surest = table(("score", "suspicion", "image"), rows) if rows else ""
    return "\n\n".join(filter(None, [judged.doubt, *map(escape_markdown, remarks), kinds, surest]))


def label_error_sentence(judged: JudgedLabels) -> str:
    """Return what was found, as one sentence."""
    counts = Counter(each.kind for each in judged.errors)
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in KINDS)
    archive = ", ".join(judged.data.digests)
    cut = f" The surest {judged.most:,} are shown." if len(judged.errors) > judged.most else ""
    count = f"{len(judged.errors):,} suspicion{'s' if len(judged.errors) != 1 else ''}"
    return " ".join(
        filter(None, [f"{archive}: {count} about {_label_count(judged):,} labels: {kinds}.{cut}", judged.doubt])
    )


def write_review_archive(judged: JudgedLabels, path: Path, facts: Mapping[str, object]) -> None:
    """Write the images with a suspicion and their labels, as they are, as a valid YOLO archive that does not exist.

    Each is in its split. Its provenance.json has `facts`, and every suspicion under `label_errors`.
    """
    data = judged.data
    chosen = [data.images[number] for number in dict.fromkeys(error.image for error in judged.shown)]
    chosen += _completing(chosen, data.images)
    with YoloArchive(path, data.task) as archive:
        for image in chosen:
            content = image.path.read_bytes()
            if image.class_id is not None:
                archive.add_classified(image.name, content, image.split, data.class_names[image.class_id])
                continue
            rows = [" ".join([str(row.class_id), *map(repr, row.coordinates.tolist())]) for row in image.rows]
            archive.add(image.name, content, image.split, rows)
        keypoints = {"kpt_shape": list(data.keypoints)} if data.task == "pose" else {}
        if data.flip_idx:
            keypoints["flip_idx"] = list(data.flip_idx)
        archive.describe(data.class_names, list(dict.fromkeys(image.split for image in chosen)), keypoints)
        archive.tell_provenance({**facts, "label_errors": [judged.facts(error) for error in judged.shown]})


def _completing(chosen: Sequence[EvaluationImage], images: Sequence[EvaluationImage]) -> list[EvaluationImage]:
    """The first labelled image of each split that has none among the chosen ones: without, no archive is valid."""
    first = {image.split: image for image in reversed(images) if image.is_labelled}
    wanted = {"train", "val", *(image.split for image in chosen)} - {each.split for each in chosen if each.is_labelled}
    return [image for split, image in first.items() if split in wanted]


def _label_count(judged: JudgedLabels) -> int:
    return sum(len(image.labels) for image in judged.images)


def _exhibit(judged: JudgedLabels, error: LabelError) -> dict[str, Any]:
    facts = judged.facts(error)
    labelled, found = _draw_sides(judged, error)
    return {
        "kind": error.kind,
        "score": f"{error.score:.2f}",
        "words": _sentence(facts),
        "name": facts["image"],
        "place": ", ".join(filter(None, [facts["split"], f"line {facts['line']}" if facts["line"] else ""])),
        "labelled": labelled,
        "found": found,
    }


def _sentence(facts: Mapping[str, Any]) -> str:
    label, found = facts["label"], facts["found"]
    if found is None:
        return f"labelled {label['class']}, nothing found"
    seen = f"found {found['class']} ({found['confidence']:.2f})"
    if label is None:
        return f"{seen}, not labelled"
    if facts["kind"] == "spurious":
        return f"labelled {label['class']}, {seen} at most"
    if facts["kind"] == "misplaced":
        return f"labelled {label['class']}, {seen} elsewhere: overlap {facts['overlap']:.2f}"
    return f"labelled {label['class']}, {seen}"


def _draw_sides(judged: JudgedLabels, error: LabelError) -> tuple[str, str]:
    """The surroundings of an object twice, as data URIs: with the labels, and with what was found.

    What only one of the two has is dashed in the other.
    """
    compared, names = judged.images[error.image], judged.data.class_names
    image = read_image(judged.data.images[error.image].path)
    label, found = judged.sides(error)
    seen = compared.predictions.select(compared.predictions.confidence >= _SHOWN)
    boxes = np.concatenate([each.xyxy for each in (label, found) if each is not None])
    around = np.concatenate([compared.labels.xyxy, seen.xyxy])
    left, top, right, bottom = window(boxes, around, image.shape[1], image.shape[0])
    part = resize_to_fit(image[top:bottom, left:right], _SIDE)

    def draw(others: Detections, one: Detections | None, absent: Detections | None) -> str:
        canvas = part
        for each, colour in ((others, OTHERS), (one or absent, None if one else ABSENT)):
            if each is not None and len(each):
                shown = each.crop(left, top, right - left, bottom - top).rescale(part.shape[1], part.shape[0])
                canvas = annotate_image(canvas, shown, names, labels=False, colour=colour, dashed=each is absent)
        return jpeg_data_uri(encode_jpeg(canvas, _QUALITY))

    return draw(compared.labels, label, found), draw(seen, found, label)


def window(boxes: Floats, around: Floats, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a part of the image with all boxes and some of their surroundings.

    It grows to hold as a whole those of `around` that it would cut, if they are not far larger.
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(float((high - low).max()) * (1 + 2 * _AROUND), _LEAST_WINDOW)
    size = np.array([width, height])
    begin = np.clip((low + high - side) / 2, 0, np.maximum(size - side, 0))
    end = np.minimum(begin + side, size)
    cut = around[((around[:, :2] < end) & (around[:, 2:] > begin)).all(axis=1)]
    whole = np.minimum(begin, cut[:, :2].min(axis=0, initial=np.inf) - _MARGIN).clip(0)
    wide = np.maximum(end, cut[:, 2:].max(axis=0, initial=-np.inf) + _MARGIN).clip(max=size)
    if (wide - whole).max() <= _WIDEST * side:
        begin, end = whole, wide
    (left, top), (right, bottom) = np.floor(begin).astype(int).tolist(), np.ceil(end).astype(int).tolist()
    return left, top, right, bottom
