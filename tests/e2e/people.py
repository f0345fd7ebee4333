"""Drawn people who wear masks, hats and glasses: 12 classes with outlines, as an archive and as single pictures."""

import io
import zipfile
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256
MASKS, HATS, GLASSES = ("no mask", "mask on chin", "mask"), ("hat", "no hat"), ("glasses", "no glasses")
CLASSES = tuple(f"{mask}, {hat}, {glasses}" for mask, hat, glasses in product(MASKS, HATS, GLASSES))
SKIN = ((224, 172, 130), (141, 85, 36), (255, 219, 172), (198, 134, 66))

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Person:
    """A class, and an outline [n, 2] in pixels around head, hat and shoulders."""

    class_id: int
    outline: NDArray[np.int32]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in pixels."""
        (x1, y1), (x2, y2) = self.outline.min(axis=0), self.outline.max(axis=0)
        return int(x1), int(y1), int(x2), int(y2)


def draw(rng: np.random.Generator) -> tuple[Picture, list[Person]]:
    """A picture [SIDE, SIDE, 3] RGB with one or two people side by side."""
    low, high = sorted(rng.integers(40, 200, 2))
    ramp = np.linspace(low, high, SIDE, dtype=np.float32)[None, :, None]
    noise = rng.normal(0, 6, (SIDE, SIDE, 3))
    picture = np.clip(np.broadcast_to(ramp, (SIDE, SIDE, 3)) + noise, 0, 255).astype(np.uint8)
    count = int(rng.integers(1, 3))
    people = []
    for place in range(count):
        centre = int(SIDE * (place + 0.5) / count + rng.integers(-8, 9))
        people.append(_draw_person(picture, rng, centre, int(rng.integers(30, 44))))
    return picture, people


def _draw_person(picture: Picture, rng: np.random.Generator, x: int, radius: int) -> Person:
    """Draw a head of `radius` pixels with shoulders, centred at x."""
    class_id = int(rng.integers(len(CLASSES)))
    mask, hat, glasses = CLASSES[class_id].split(", ")
    y = int(rng.integers(radius * 2, SIDE - radius * 2))
    whole = np.zeros((SIDE, SIDE), np.uint8)
    skin, shirt = SKIN[rng.integers(len(SKIN))], tuple(map(int, rng.integers(30, 220, 3)))

    def both(shape: object, colour: tuple[int, ...]) -> None:
        points = np.asarray(shape, np.int32)
        cv2.fillPoly(picture, [points], colour)
        cv2.fillPoly(whole, [points], 1)

    wide, low = int(radius * 1.5), int(radius * 1.9)
    both(
        np.array(
            [
                (x - wide, y + low),
                (x - radius // 2, y + radius // 2),
                (x + radius // 2, y + radius // 2),
                (x + wide, y + low),
            ],
            np.int32,
        ),
        shirt,
    )
    both(cv2.ellipse2Poly((x, y), (int(radius * 0.8), radius), 0, 0, 360, 10), skin)
    if hat == "hat":
        both(_box(x, y - int(radius * 0.75), radius, int(radius * 0.12)), (60, 30, 120))
        both(_box(x, y - int(radius * 1.05), int(radius * 0.6), int(radius * 0.3)), (60, 30, 120))
    for side in (-1, 1):
        eye = (x + side * int(radius * 0.32), y - int(radius * 0.2))
        cv2.circle(picture, eye, max(radius // 12, 1), (20, 20, 20), -1)
        if glasses == "glasses":
            cv2.circle(picture, eye, int(radius * 0.24), (10, 10, 10), max(radius // 12, 2))
    if mask == "mask":
        cv2.fillPoly(picture, [_box(x, y + int(radius * 0.4), int(radius * 0.6), int(radius * 0.35))], (120, 200, 240))
    else:
        cv2.line(picture, (x - radius // 4, y + radius // 2), (x + radius // 4, y + radius // 2), (150, 30, 40), 3)
    if mask == "mask on chin":
        cv2.fillPoly(picture, [_box(x, y + int(radius * 0.85), int(radius * 0.5), int(radius * 0.18))], (120, 200, 240))
    contours, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = cv2.approxPolyDP(max(contours, key=cv2.contourArea), 1.0, closed=True)
    return Person(class_id, outline.reshape(-1, 2).astype(np.int32))


def _box(x: int, y: int, half_width: int, half_height: int) -> NDArray[np.int32]:
    return np.array(
        [
            (x - half_width, y - half_height),
            (x + half_width, y - half_height),
            (x + half_width, y + half_height),
            (x - half_width, y + half_height),
        ],
        np.int32,
    )


def jpeg(picture: Picture) -> bytes:
    """The picture as a file."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def archive(train: int, val: int, seed: int) -> bytes:
    """A zip of so many pictures in YOLO's layout, labelled with outlines."""
    rng, buffer = np.random.default_rng(seed), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        names = "".join(f"  {number}: {name!r}\n" for number, name in enumerate(CLASSES))
        packed.writestr("data.yaml", f"train: images/train\nval: images/val\nnames:\n{names}")
        for split, count in (("train", train), ("val", val)):
            for number in range(count):
                picture, people = draw(rng)
                lines = [
                    f"{one.class_id} {' '.join(f'{value / SIDE:.5f}' for value in one.outline.ravel())}"
                    for one in people
                ]
                packed.writestr(f"images/{split}/{number:04d}.jpg", jpeg(picture))
                packed.writestr(f"labels/{split}/{number:04d}.txt", "\n".join(lines))
    return buffer.getvalue()
