"""The validation images with the most mistakes, as the last evaluation counted them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.media.annotate import annotate_image
from tasks.media.images import read_image, shrink_to_fit, write_jpeg
from tasks.merge.vocabularies import read_vocabularies
from tasks.training.report.worst_images import LISTING, MIN_CONFIDENCE, SHOWN, SIDE, WorstImage
from tasks.training.trainer.reference import to_detections
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb, xywhr_to_corners

_TRUE_POSITIVES = {"segment": "tp_m", "pose": "tp_p"}


class Mistakes(NamedTuple):
    """An image by its number in the data set: `missed` labels, and of its `sure` detections `extra` ones."""

    image: int
    missed: int
    extra: int
    sure: int


def find_mistakes(validator: Any, task: str) -> list[Mistakes]:  # noqa: ANN401 - ultralytics ships no types
    """Return the images with mistakes, most mistakes first, at most `SHOWN`, before a validator forgets them."""
    mistakes = _misclassified(validator) if task == "classify" else _mismatched(validator, task)
    return sorted(mistakes, key=lambda each: -(each.missed + each.extra))[:SHOWN]


def _mismatched(validator: Any, task: str) -> list[Mistakes]:  # noqa: ANN401
    stats = validator.metrics.stats
    indices = {Path(file).name: index for index, file in enumerate(validator.dataloader.dataset.im_files)}
    mistakes = []
    rows = zip(
        validator.metrics.box.image_metrics,
        stats[_TRUE_POSITIVES.get(task, "tp")],
        stats["conf"],
        stats["target_cls"],
        strict=True,
    )
    for name, correct, confidence, targets in rows:
        sure = np.asarray(confidence) >= MIN_CONFIDENCE
        hits = int(np.asarray(correct)[sure, 0].sum()) if sure.any() else 0
        count = int(sure.sum())
        if len(targets) > hits or count > hits:
            mistakes.append(Mistakes(indices[name], missed=len(targets) - hits, extra=count - hits, sure=count))
    return mistakes


def _misclassified(validator: Any) -> list[Mistakes]:  # noqa: ANN401
    predicted = [int(row[0]) for batch in validator.pred for row in batch]
    true = [int(number) for batch in validator.targets for number in batch]
    pairs = enumerate(zip(predicted, true, strict=True))
    return [Mistakes(index, 1, 1, 1) for index, (one, other) in pairs if one != other]


def draw_worst(
    mistakes: Sequence[Mistakes],
    validator: Any,  # noqa: ANN401
    weights: Path,
    job: tuple[str, str | None],
    folder: Path,
) -> None:
    """Draw the labels and the detections of each image into `folder`, beside a list of them.

    `validator` is Ultralytics' own, which has run, `job` the task and the device.
    """
    task, device = job
    dataset = validator.dataloader.dataset
    vocabularies = read_vocabularies(Path(validator.args.data))
    model = load_model(str(weights), task)
    class_names = model.model.names  # those of the merge; `model.names` has ImageNet's words for its identifiers
    names = [class_names[number] for number in sorted(class_names)]
    folder.mkdir(exist_ok=True)
    listed = []
    # Evaluation pads images in another way, which moves a confidence a little: the images below are drawn with as many
    # detections as were counted.
    options = {"imgsz": validator.args.imgsz, "device": device, "conf": MIN_CONFIDENCE / 2, "project": str(folder)}
    for number, each in enumerate(mistakes):
        path = Path(dataset.samples[each.image][0] if task == "classify" else dataset.im_files[each.image])
        known = sorted(vocabularies.of_image(path)) if vocabularies else None
        (result,) = model.predict(str(path), classes=known, verbose=False, save=False, **options)
        image = shrink_to_fit(read_image(path), SIDE)
        truth = detected = f"{number}-truth.jpg"
        truth_class = detected_class = ""
        if task == "classify":
            truth_class = names[int(dataset.samples[each.image][1])]
            detected_class = names[int(result.probs.top1)]
            write_jpeg(folder / truth, image)
        else:
            detected = f"{number}-found.jpg"
            labels = _labels(dataset.labels[each.image], task, result.orig_shape)
            write_jpeg(folder / truth, _draw(image, labels, names, labels=False))
            write_jpeg(
                folder / detected, _draw(image, _outlined(result[: each.sure].cpu().numpy()), names, labels=True)
            )
        worst = WorstImage(
            name=path.name,
            missed=each.missed,
            extra=each.extra,
            truth=truth,
            found=detected,
            truth_class=truth_class,
            found_class=detected_class,
        )
        listed.append(worst._asdict())
    (folder / LISTING).write_text(json.dumps(listed), encoding="utf-8")


def _draw(image: Rgb, detections: Detections, names: Sequence[str], *, labels: bool) -> Rgb:
    return annotate_image(image, detections.rescale(image.shape[1], image.shape[0]), names, labels=labels)


def _labels(label: Any, task: str, shape: tuple[int, int]) -> Detections:  # noqa: ANN401
    height, width = shape
    size = np.array([width, height], np.float32)
    centres, spans = np.split(np.asarray(label["bboxes"], np.float32).reshape(-1, 4), 2, axis=1)
    boxes = np.concatenate([(centres - spans / 2) * size, (centres + spans / 2) * size], axis=1)
    fields: dict[str, Any] = {}
    if task in {"segment", "obb"} and len(label["segments"]) == len(boxes):
        fields["polygons"] = tuple(np.asarray(ring, np.float32) * size for ring in label["segments"])
    if task == "pose":
        points = np.asarray(label["keypoints"], np.float32)
        seen = points[..., 2:] > 0 if points.shape[2] == 3 else np.ones_like(points[..., :1])
        fields["keypoints"] = np.concatenate([points[..., :2] * size, seen.astype(np.float32)], axis=2)
    classes = np.asarray(label["cls"]).reshape(-1).astype(np.int32)
    return Detections(
        width=width, height=height, xyxy=boxes, confidence=np.ones(len(boxes), np.float32), class_id=classes, **fields
    )


def _outlined(result: Any) -> Detections:  # noqa: ANN401
    """Detections with polygons in place of masks."""
    detections = to_detections(result, masks=0)
    polygons = None
    if detections.xywhr is not None:
        polygons = tuple(xywhr_to_corners(detections.xywhr))
    elif result.masks is not None:
        polygons = tuple(np.asarray(ring, np.float32).reshape(-1, 2) for ring in result.masks.xy)
    return replace(detections, polygons=polygons)
