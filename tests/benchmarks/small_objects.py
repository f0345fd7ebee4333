"""Streets from above with many small objects, as a drone sees them, drawn; and a YOLO11n that has learnt them.

Four of five objects are 6 to 30 pixels long, many of them in rows and crowds, and a few are larger than a tile. Roofs,
trees and lane marks look a little like them. The same seed draws the same picture.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from tasks.inference.tiling import Tile
from tasks.vision.detections import Detections
from tasks.vision.geometry import Floats, Rgb

WIDTH, HEIGHT = 1920, 1080
CLASSES = ("person", "bicycle", "car", "van", "truck")
IMAGE_SIZE = 320
SCENES = 30  # that are learnt, each as tiles, and as a whole and quarters of it in a smaller size
EPOCHS = 12
_SHIFT = 4  # OpenCV's: coordinates are sixteenths of a pixel
_MOST_COVERED = 0.35  # of an object's box by another's
_LEAST_SEEN = 0.4  # of an object in a crop: of less nothing is learnt
_LEAST_SIDE = 2  # of an object, in pixels of the model: of less nothing is learnt

Draw = Callable[[Rgb, "Frame", np.random.Generator], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """A picture [H,W,3], the boxes [n,4] in it in pixels, and the classes [n]."""

    image: Rgb
    xyxy: Floats
    class_id: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where an object lies: centre, length and width in pixels, and its angle in radians."""

    x: float
    y: float
    length: float
    width: float
    angle: float

    def points(self, *shares: tuple[float, float]) -> Floats:
        """Points [k,2] of the picture; shares of length and width, -0.5 to 0.5."""
        along, across = np.array(shares, np.float32).T * [[self.length], [self.width]]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.stack([self.x + along * cos - across * sin, self.y + along * sin + across * cos], axis=1)

    def box(self, outline: Sequence[tuple[float, float]]) -> Floats:
        """The box [4] around an outline of such shares."""
        corners = self.points(*outline)
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32)


def draw_scene(seed: int) -> Scene:
    """Draw one picture of WIDTH x HEIGHT pixels with some 150 objects."""
    rng = np.random.default_rng(seed)
    image = _ground(rng)
    frames: list[Frame] = []
    classes: list[int] = []
    boxes = np.zeros((0, 4), np.float32)
    for class_id, frame in sorted(_places(rng), key=lambda each: -each[1].length):
        box = frame.box(_OUTLINES[class_id])
        inside = (box[:2] >= 0).all() and (box[2:] <= [WIDTH, HEIGHT]).all()
        if inside and not (_covered(box, boxes) > _MOST_COVERED).any():
            frames.append(frame)
            classes.append(class_id)
            boxes = np.concatenate([boxes, box[None]])
    for class_id, frame in zip(classes, frames, strict=True):
        _DRAWN[class_id](image, frame, rng)
    noisy = cv2.GaussianBlur(image, (0, 0), 0.7) + rng.normal(0, 5, (HEIGHT, WIDTH))[..., None]
    return Scene(image=np.clip(noisy, 0, 255).astype(np.uint8), xyxy=boxes, class_id=np.array(classes, np.int32))


def see_perfectly(scene: Scene, tile: Tile) -> Detections:
    """Return what a model without faults finds in a tile: in pixels of the tile, of each object the part that it sees.

    Of objects that are cut to less than `_LEAST_SEEN`, or that are below two pixels of the model's, it finds nothing.
    """
    width, height = tile.right - tile.left, tile.bottom - tile.top
    clipped, kept = _seen(scene, tile.left, tile.top, width, height)
    return Detections(
        width=width,
        height=height,
        xyxy=clipped[kept],
        confidence=np.linspace(0.9, 0.3, kept.sum(), dtype=np.float32),
        class_id=scene.class_id[kept],
    )


def write_training_set(folder: Path, scenes: int = SCENES) -> Path:
    """Write crops of scenes as a YOLO dataset; return its data.yaml."""
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            (folder / kind / split).mkdir(parents=True)
    for number in range(scenes):
        scene = draw_scene(1000 + number)
        rng = np.random.default_rng(number)
        crops = [(int(rng.integers(WIDTH - side)), int(rng.integers(HEIGHT - side)), side)
                 for side in [IMAGE_SIZE] * 14 + [IMAGE_SIZE * 2] * 2 + [HEIGHT - 1] * 2]  # fmt: skip
        for at, (left, top, side) in enumerate(crops):
            split = "train" if number or at else "val"  # nobody looks at its scores
            _write_crop(folder, split, f"{number:03d}-{at:02d}.jpg", scene, (left, top, side))
    path = folder / "data.yaml"
    path.write_text(
        yaml.safe_dump({"path": str(folder), "train": "images/train", "val": "images/val", "names": list(CLASSES)})
    )
    return path


def train(data: Path, start: str, folder: Path) -> Path:
    """Train on the CPU for some minutes, from weights or an architecture; return the weights."""
    from tasks.training.trainer.ultralytics_setup import load_model

    model = load_model(start, "detect")
    model.train(
        data=str(data), epochs=EPOCHS, imgsz=IMAGE_SIZE, batch=16, seed=0, device="cpu", workers=0, val=False,
        plots=False, verbose=False, project=str(folder), name="run", close_mosaic=4, scale=0.3, lr0=0.002,
        optimizer="AdamW", warmup_epochs=1, cos_lr=True, amp=False,
    )  # fmt: skip
    return Path(model.trainer.last)


def _write_crop(folder: Path, split: str, name: str, scene: Scene, place: tuple[int, int, int]) -> None:
    left, top, side = place
    crop = scene.image[top : top + side, left : left + side]
    if side > IMAGE_SIZE:
        crop = np.asarray(cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)
    cv2.imwrite(str(folder / "images" / split / name), crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    clipped, kept = _seen(scene, left, top, side, side)
    corners = clipped[kept] / side
    shapes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    rows = [
        f"{kind} {' '.join(f'{each:.6f}' for each in shape)}"
        for kind, shape in zip(scene.class_id[kept].tolist(), shapes.tolist(), strict=True)
    ]
    (folder / "labels" / split / name).with_suffix(".txt").write_text("\n".join(rows))


def _seen(scene: Scene, left: int, top: int, width: int, height: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The boxes [n,4] within a part of the picture, and which of them are large enough to be found."""
    clipped = np.clip(scene.xyxy - np.array([left, top] * 2), 0, [width, height] * 2).astype(np.float32)
    sides = clipped[:, 2:] - clipped[:, :2]
    enough = sides.prod(axis=1) > _LEAST_SEEN * (scene.xyxy[:, 2:] - scene.xyxy[:, :2]).prod(axis=1)
    return clipped, enough & (sides.min(axis=1) * IMAGE_SIZE / max(width, height) > _LEAST_SIDE)


def _places(rng: np.random.Generator) -> Iterator[tuple[int, Frame]]:
    """What may lie where, with its class; what covers too much of another is left out later."""
    for _ in range(45):
        yield _placed(rng, rng.integers(len(CLASSES)), *_somewhere(rng), rng.uniform(6, 30))
    for _ in range(6):  # rows, as in a car park
        x, y = _somewhere(rng)
        angle, size = rng.uniform(0, np.pi), rng.uniform(14, 30)
        for place in range(int(rng.integers(5, 14))):
            step = place * size * 0.62
            moved = x - step * math.sin(angle), y + step * math.cos(angle)
            class_id, frame = _placed(rng, rng.choice([2, 2, 3]), *moved, size)
            yield class_id, replace(frame, angle=angle)
    for _ in range(5):  # crowds
        x, y = _somewhere(rng)
        for _ in range(int(rng.integers(5, 14))):
            dx, dy = rng.normal(0, 22, 2)
            yield _placed(rng, rng.choice([0, 0, 1]), x + dx, y + dy, rng.uniform(8, 18))
    for _ in range(12):
        yield _placed(rng, rng.integers(len(CLASSES)), *_somewhere(rng), rng.uniform(30, 100))
    for _ in range(3):  # larger than a tile, some of them
        yield _placed(rng, rng.integers(2, len(CLASSES)), *_somewhere(rng), rng.uniform(100, 520))


def _somewhere(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.uniform(0, WIDTH)), float(rng.uniform(0, HEIGHT))


_RECTANGLE = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
_OUTLINES = (  # of each class
    ((-0.5, 0), (-0.2, -0.5), (0.2, -0.5), (0.5, 0), (0.2, 0.5), (-0.2, 0.5)),
    ((-0.5, -0.2), (-0.32, -0.43), (0.1, -0.5), (0.2, -0.5), (0.32, -0.43), (0.5, -0.2),
     (0.5, 0.2), (0.32, 0.43), (0.2, 0.5), (0.1, 0.5), (-0.32, 0.43), (-0.5, 0.2)),
    ((-0.5, -0.35), (-0.42, -0.5), (0.42, -0.5), (0.5, -0.35), (0.5, 0.35), (0.42, 0.5), (-0.42, 0.5), (-0.5, 0.35)),
    _RECTANGLE,
    ((-0.5, -0.5), (0.22, -0.5), (0.5, -0.42), (0.5, 0.42), (0.22, 0.5), (-0.5, 0.5)),
)  # fmt: skip
_WIDTHS = (0.62, 0.42, 0.48, 0.52, 0.36)  # of each class, as shares of its length


def _placed(rng: np.random.Generator, kind: Any, x: float, y: float, length: float) -> tuple[int, Frame]:
    width = length * _WIDTHS[kind] * rng.uniform(0.9, 1.1)
    return int(kind), Frame(x=x, y=y, length=length, width=max(width, 3.0), angle=rng.uniform(0, 2 * np.pi))


def _ground(rng: np.random.Generator) -> Rgb:
    """Fields, streets with marks, roofs and trees."""
    coarse = rng.normal(0, 1, (9, 16, 3)) * 14 + rng.uniform(80, 130, 3)
    image = np.clip(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    for _ in range(4):
        street = Frame(
            x=rng.uniform(0, WIDTH), y=rng.uniform(0, HEIGHT), length=4000, width=rng.uniform(40, 130),
            angle=rng.uniform(0, np.pi),
        )  # fmt: skip
        grey = rng.uniform(70, 110)
        _fill(image, street.points(*_RECTANGLE), (grey, grey, grey))
        for place in np.arange(-0.5, 0.5, 0.012):
            mark = street.points((place, -0.02), (place + 0.004, -0.02), (place + 0.004, 0.02), (place, 0.02))
            _fill(image, mark, (200, 200, 195))
    for _ in range(14):
        roof = Frame(
            x=rng.uniform(0, WIDTH), y=rng.uniform(0, HEIGHT), length=rng.uniform(12, 220), width=rng.uniform(12, 130),
            angle=rng.uniform(0, np.pi),
        )  # fmt: skip
        colour = rng.uniform(60, 190, 3)
        _fill(image, roof.points(*_RECTANGLE), colour)
        _fill(image, roof.points((-0.5, 0.0), (0.5, 0.0), (0.5, 0.5), (-0.5, 0.5)), colour * 0.85)
    for _ in range(120):
        centre, radius = _somewhere(rng), rng.uniform(3, 22)
        _disc(image, np.array(centre), radius, (rng.uniform(20, 70), rng.uniform(60, 120), rng.uniform(20, 60)))
    return image


def _person(image: Rgb, frame: Frame, rng: np.random.Generator) -> None:
    _fill(image, frame.points(*_OUTLINES[0]), rng.uniform(30, 230, 3))
    _disc(image, frame.points((0, 0))[0], 0.22 * frame.length, (225, 180, 150))


def _bicycle(image: Rgb, frame: Frame, rng: np.random.Generator) -> None:
    colour = rng.uniform(10, 90, 3)
    for end in (-0.32, 0.32):
        _disc(image, frame.points((end, 0))[0], 0.18 * frame.length, colour)
    _fill(image, frame.points((-0.5, -0.12), (0.5, -0.12), (0.5, 0.12), (-0.5, 0.12)), colour)
    _fill(image, frame.points((0.1, -0.5), (0.2, -0.5), (0.2, 0.5), (0.1, 0.5)), rng.uniform(120, 250, 3))


def _car(image: Rgb, frame: Frame, rng: np.random.Generator) -> None:
    colour = rng.uniform(30, 250, 3)
    _fill(image, frame.points(*_OUTLINES[2]), colour)
    _fill(image, frame.points((0.12, -0.4), (0.26, -0.36), (0.26, 0.36), (0.12, 0.4)), (30, 35, 45))
    _fill(image, frame.points((-0.36, -0.36), (-0.28, -0.4), (-0.28, 0.4), (-0.36, 0.36)), (30, 35, 45))


def _van(image: Rgb, frame: Frame, rng: np.random.Generator) -> None:
    colour = rng.uniform(120, 250, 3)
    _fill(image, frame.points(*_OUTLINES[3]), colour)
    _fill(image, frame.points((0.3, -0.42), (0.42, -0.42), (0.42, 0.42), (0.3, 0.42)), (30, 35, 45))


def _truck(image: Rgb, frame: Frame, rng: np.random.Generator) -> None:
    _fill(image, frame.points((-0.5, -0.5), (0.22, -0.5), (0.22, 0.5), (-0.5, 0.5)), rng.uniform(60, 250, 3))
    _fill(image, frame.points((0.28, -0.42), (0.5, -0.42), (0.5, 0.42), (0.28, 0.42)), rng.uniform(30, 250, 3))
    _fill(image, frame.points((0.18, -0.15), (0.3, -0.15), (0.3, 0.15), (0.18, 0.15)), (40, 40, 40))


_DRAWN: tuple[Draw, ...] = (_person, _bicycle, _car, _van, _truck)


def _fill(image: Rgb, points: Floats, colour: Sequence[float] | NDArray[Any]) -> None:
    fixed = np.round(points * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(image, [fixed], [float(each) for each in colour], cv2.LINE_AA, _SHIFT)


def _disc(image: Rgb, centre: NDArray[Any], radius: float, colour: Sequence[float] | NDArray[Any]) -> None:
    x, y, r = (round(float(each) * 2**_SHIFT) for each in (*centre, radius))
    cv2.circle(image, (x, y), r, [float(each) for each in colour], -1, cv2.LINE_AA, _SHIFT)


def _covered(box: Floats, others: Floats) -> Floats:
    """The shares [n] of the smaller of `box` and each of `others` that both have."""
    shared = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    smaller = np.minimum((box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1))
    return np.asarray(shared / smaller, np.float32)
