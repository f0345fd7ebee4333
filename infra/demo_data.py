"""Data for `make demo` without archives: drawn shapes as two YOLO archives, a zip of images, and a video.

The two archives list different classes in a different order, as archives of two people do.
"""

import argparse
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import yaml

WIDTH = 320
HEIGHT = 240
Image = npt.NDArray[np.uint8]
Shape = tuple[str, int, int, int]  # class name, centre x, centre y, radius; pixels


@dataclass(frozen=True, kw_only=True)
class ArchivePlan:
    """One archive to draw: its classes in the order of its data.yaml, and the number of images of each split."""

    name: str
    classes: tuple[str, ...]
    train: int
    val: int
    seed: int


ARCHIVES = (
    ArchivePlan(name="shapes-a.zip", classes=("circle", "square", "triangle"), train=120, val=30, seed=1),
    ArchivePlan(name="shapes-b.zip", classes=("triangle", "circle", "cross"), train=120, val=30, seed=2),
)
CLASSES = ("circle", "square", "triangle", "cross")
COLOURS = {"circle": (220, 60, 50), "square": (50, 90, 220), "triangle": (40, 170, 70), "cross": (230, 180, 30)}


def draw_shape(image: Image, shape: Shape) -> None:
    """Draw one filled shape of `radius` pixels around its centre into an RGB image, in place."""
    name, x, y, r = shape
    corners: dict[str, Sequence[tuple[int, int]]] = {
        "square": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "triangle": [(0, -r), (r, r), (-r, r)],
        "cross": [(-r, -r // 3), (-r // 3, -r // 3), (-r // 3, -r), (r // 3, -r), (r // 3, -r // 3), (r, -r // 3),
                  (r, r // 3), (r // 3, r // 3), (r // 3, r), (-r // 3, r), (-r // 3, r // 3), (-r, r // 3)],
    }  # fmt: skip
    if name == "circle":
        cv2.circle(image, (x, y), r, COLOURS[name], -1, cv2.LINE_AA)
    else:
        points = np.array([(x + dx, y + dy) for dx, dy in corners[name]], np.int32)
        cv2.fillPoly(image, [points], COLOURS[name], cv2.LINE_AA)


def background(rng: np.random.Generator) -> Image:
    """A grey gradient with noise, RGB uint8 [HEIGHT, WIDTH, 3]: the surroundings of a shape say nothing about it."""
    low, high = sorted(rng.uniform(90, 215, 2))
    ramp = np.linspace(low, high, WIDTH)[None, :, None] + rng.normal(0, 6, (HEIGHT, WIDTH, 1))
    return np.repeat(np.clip(ramp, 0, 255), 3, axis=2).astype(np.uint8)


def place_shapes(rng: np.random.Generator, classes: Sequence[str]) -> list[Shape]:
    """One to four shapes that do not touch each other."""
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(1, 5))):
        r = int(rng.integers(18, 42))
        x = int(rng.integers(r, WIDTH - r))
        y = int(rng.integers(r, HEIGHT - r))
        if all(np.hypot(x - x2, y - y2) > 1.3 * (r + r2) for _, x2, y2, r2 in shapes):
            shapes.append((str(rng.choice(list(classes))), x, y, r))
    return shapes


def draw_image(rng: np.random.Generator, classes: Sequence[str]) -> tuple[bytes, list[Shape]]:
    """A JPEG and the shapes on it."""
    image = background(rng)
    shapes = place_shapes(rng, classes)
    for shape in shapes:
        draw_shape(image, shape)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return jpeg.tobytes(), shapes


def label_text(shapes: Sequence[Shape], classes: Sequence[str]) -> str:
    """Rows of `class x y width height`, relative to the image."""
    return "".join(
        f"{classes.index(name)} {x / WIDTH:.6f} {y / HEIGHT:.6f} {2 * r / WIDTH:.6f} {2 * r / HEIGHT:.6f}\n"
        for name, x, y, r in shapes
    )


def write_archive(plan: ArchivePlan, folder: Path) -> Path:
    """Write one labelled archive; the same plan gives the same pictures."""
    rng = np.random.default_rng(plan.seed)
    path = folder / plan.name
    with zipfile.ZipFile(path, "w") as archive:
        names = {"train": "images/train", "val": "images/val", "names": list(plan.classes)}
        archive.writestr("data.yaml", yaml.safe_dump(names, sort_keys=False))
        for split, count in (("train", plan.train), ("val", plan.val)):
            for index in range(count):
                jpeg, shapes = draw_image(rng, plan.classes)
                archive.writestr(f"images/{split}/{index:04d}.jpg", jpeg)
                archive.writestr(f"labels/{split}/{index:04d}.txt", label_text(shapes, plan.classes))
    return path


def write_images(path: Path, count: int) -> Path:
    """A zip of pictures without labels."""
    rng = np.random.default_rng(3)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(count):
            archive.writestr(f"unlabelled-{index:04d}.jpg", draw_image(rng, CLASSES)[0])
    return path


def write_video(path: Path, frames: int) -> Path:
    """A short H.264 clip in which one shape of each class moves over a still background."""
    import av  # pictures alone can be drawn where it is missing

    still = background(np.random.default_rng(4))
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width = WIDTH
        stream.height = HEIGHT
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            image = still.copy()
            for row, name in enumerate(CLASSES):
                draw_shape(image, (name, 40 + (60 * row + 3 * index) % (WIDTH - 80), 35 + 55 * row, 22))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def generate(folder: Path, progress: Callable[[str], None] = print) -> tuple[list[Path], list[Path]]:
    """Write the data of the demo into `folder`; returns the archives and the media."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = []
    for plan in ARCHIVES:
        archives.append(write_archive(plan, folder))
        progress(f"{plan.name}: {plan.train} + {plan.val} images, classes {', '.join(plan.classes)}")
    media = [write_images(folder / "shapes-unlabelled.zip", 40), write_video(folder / "shapes.mp4", 100)]
    return archives, media


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    generate(parser.parse_args().folder)
