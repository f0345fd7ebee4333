"""The validation pictures in which most goes wrong: which they are is known from the last evaluation, for nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.media.annotate import annotate_image
from tasks.media.images import read_image, shrink_to_fit, write_jpeg
from tasks.training.report.worst_images import LISTING, MIN_CONFIDENCE, SHOWN, SIDE, WorstImage
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb, enclosing_boxes, xywhr_to_corners

_RIGHT = {"segment": "tp_m", "pose": "tp_p"}


class Mistakes(NamedTuple):
    """A picture by its place in the data set: `missed` labels, and `extra` of the `sure` detections, which fit none."""

    place: int
    missed: int
    extra: int
    sure: int


def find_mistakes(validator: Any, task: str) -> list[Mistakes]:  # noqa: ANN401 - ultralytics ships no types
    """Return the pictures in which something is wrong, most first, `SHOWN` of them, before a validator forgets them."""
    found = _misnamed(validator) if task == "classify" else _mismatched(validator, task)
    return sorted(found, key=lambda each: -(each.missed + each.extra))[:SHOWN]


def _mismatched(validator: Any, task: str) -> list[Mistakes]:  # noqa: ANN401
    stats, metrics = validator.metrics.stats, validator.metrics.box.image_metrics
    places = {Path(file).name: place for place, file in enumerate(validator.dataloader.dataset.im_files)}
    found = []
    rows = zip(metrics, stats[_RIGHT.get(task, "tp")], stats["conf"], stats["target_cls"], strict=True)
    for name, right, confidence, targets in rows:
        sure = np.asarray(confidence) >= MIN_CONFIDENCE
        hits, count = int(np.asarray(right)[sure, 0].sum()) if sure.any() else 0, int(sure.sum())
        missed, extra = len(targets) - hits, count - hits
        if missed or extra:
            found.append(Mistakes(places[name], missed, extra, count))
    return found


def _misnamed(validator: Any) -> list[Mistakes]:  # noqa: ANN401
    said = [int(row[0]) for batch in validator.pred for row in batch]
    true = [int(number) for batch in validator.targets for number in batch]
    return [Mistakes(place, 1, 1, 1) for place, (one, other) in enumerate(zip(said, true, strict=True)) if one != other]


def draw_worst(
    wrong: Sequence[Mistakes],
    dataset: Any,  # noqa: ANN401
    weights: Path,
    job: tuple[str, int, str | None],
    folder: Path,
) -> None:
    """Draw, for each picture, what its labels say and what the weights find, below `folder`, beside a list of them.

    `dataset` is Ultralytics' own, `job` the task, the image size and the device.
    """
    task, image_size, device = job
    model = load_model(str(weights), task)
    named = model.model.names  # those of the merge; `model.names` has ImageNet's words for its identifiers
    names = [named[number] for number in sorted(named)]
    folder.mkdir(exist_ok=True)
    listed = []
    for number, each in enumerate(wrong):
        path = Path(dataset.samples[each.place][0] if task == "classify" else dataset.im_files[each.place])
        # Evaluation pads pictures otherwise, which moves a confidence a little: what was counted there is drawn here.
        how = {"imgsz": image_size, "device": device, "conf": MIN_CONFIDENCE / 2, "project": str(folder)}
        (result,) = model.predict(str(path), verbose=False, save=False, **how)
        image = shrink_to_fit(read_image(path), SIDE)
        if task == "classify":
            words = [names[int(dataset.samples[each.place][1])], names[int(result.probs.top1)]]
            write_jpeg(folder / f"{number}-truth.jpg", image)
            files = [f"{number}-truth.jpg"] * 2
        else:
            words = ["", ""]
            files = [f"{number}-truth.jpg", f"{number}-found.jpg"]
            sides = (
                _labelled(dataset.labels[each.place], task, result.orig_shape),
                _detected(result[: each.sure].cpu().numpy()),
            )
            for file, side, said in zip(files, sides, (False, True), strict=True):
                write_jpeg(folder / file, _drawn(image, side, names, labels=said))
        listed.append(WorstImage(path.name, each.missed, each.extra, *files, *words)._asdict())
    (folder / LISTING).write_text(json.dumps(listed), encoding="utf-8")


def _drawn(image: Rgb, found: Detections, names: Sequence[str], *, labels: bool) -> Rgb:
    return annotate_image(image, found.rescale(image.shape[1], image.shape[0]), names, labels=labels)


def _labelled(label: Any, task: str, shape: tuple[int, int]) -> Detections:  # noqa: ANN401
    height, width = shape
    sides = np.array([width, height], np.float32)
    centres, spans = np.split(np.asarray(label["bboxes"], np.float32).reshape(-1, 4), 2, axis=1)
    boxes = np.concatenate([(centres - spans / 2) * sides, (centres + spans / 2) * sides], axis=1)
    own: dict[str, Any] = {}
    if task in {"segment", "obb"} and len(label["segments"]) == len(boxes):
        own["polygons"] = tuple(np.asarray(ring, np.float32) * sides for ring in label["segments"])
    if task == "pose":
        points = np.asarray(label["keypoints"], np.float32)
        seen = points[..., 2:] > 0 if points.shape[2] == 3 else np.ones_like(points[..., :1])
        own["keypoints"] = np.concatenate([points[..., :2] * sides, seen.astype(np.float32)], axis=2)
    classes = np.asarray(label["cls"]).reshape(-1).astype(np.int32)
    return Detections(
        width=width, height=height, xyxy=boxes, confidence=np.ones(len(boxes), np.float32), class_id=classes, **own
    )


def _detected(result: Any) -> Detections:  # noqa: ANN401
    height, width = result.orig_shape
    boxes = result.boxes if result.obb is None else result.obb
    own: dict[str, Any] = {}
    corner = np.asarray(boxes.xyxy, np.float32)
    if result.obb is not None:
        own["xywhr"] = np.asarray(result.obb.xywhr, np.float32)
        own["polygons"] = tuple(xywhr_to_corners(own["xywhr"]))
        corner = enclosing_boxes(own["xywhr"])
    if result.masks is not None:
        own["polygons"] = tuple(np.asarray(ring, np.float32).reshape(-1, 2) for ring in result.masks.xy)
    if result.keypoints is not None and result.keypoints.data.shape[2] == 3:
        own["keypoints"] = np.asarray(result.keypoints.data, np.float32)
    return Detections(
        width=width,
        height=height,
        xyxy=corner,
        confidence=np.asarray(boxes.conf, np.float32),
        class_id=np.asarray(boxes.cls).astype(np.int32),
        **own,
    )
