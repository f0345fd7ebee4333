"""Pools of images in which something is planted, as a version would see them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.selection.pool import LearntImages, Pool, PoolImage, count_expected, keep_counted
from tasks.selection.uncertainty import measure_doubt
from tasks.vision.detections import Detections

CLASSES = ("cell", "platelet", "worm")
DIMENSIONS = 32


def found(*objects: tuple[int, float], side: int = 100) -> Detections:
    """Objects (class, confidence) beside each other."""
    boxes = [[12 * at, 10, 12 * at + 10, 20] for at in range(len(objects))]
    return Detections(
        width=side,
        height=side,
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        confidence=np.array([each[1] for each in objects], np.float32),
        class_id=np.array([each[0] for each in objects], np.int32),
    )


def image(
    number: int,
    detections: Detections,
    embedding: Sequence[float] | NDArray[np.float32],
    thumbnail: bytes | None = None,
    views: float | None = 1.0,
    versions: float | None = None,
) -> PoolImage:
    name = f"s3://media/{number:04d}.jpg"
    vector = np.asarray(embedding, np.float32)
    return PoolImage(
        source=MediaSource(name=name, bucket="media", key=name[11:], etag='"1"', size=1, kind=MediaKind.IMAGE),
        found=keep_counted(detections),
        doubt=measure_doubt(keep_counted(detections)),
        view_consistency=views,
        version_consistency=versions,
        embedding=vector / np.linalg.norm(vector),
        thumbnail=thumbnail or np.random.default_rng(number).integers(0, 255, 256, dtype=np.uint8).tobytes(),
    )


def planted_pool(seed: int, usual: int = 120, planted: int = 10) -> tuple[Pool, dict[str, set[int]]]:
    """A pool of usual images of known scenes, and where in it the others are.

    `rare` have a class that is seldom learnt, `twins` are nearly a usual image each, `new` are scenes that were never
    learnt, and of `unsure` the version knows little. All others are alike: 1 to 12 sure cells.
    """
    draws = np.random.default_rng(seed)
    scenes = draws.normal(size=(6, DIMENSIONS)) + 1.0
    kinds = ["usual"] * usual + [kind for kind in ("rare", "twins", "new", "unsure") for _ in range(planted)]
    places = draws.permutation(len(kinds))
    images: list[PoolImage] = []
    where: dict[str, set[int]] = {}
    for number, place in enumerate(places):
        kind = kinds[place] if images else "usual"  # there must be something to be a twin of
        where.setdefault(kind, set()).add(number)
        objects = [(0, float(draws.uniform(0.85, 0.99))) for _ in range(draws.integers(1, 13))]
        embedding = scenes[draws.integers(len(scenes))] + draws.normal(scale=0.25, size=DIMENSIONS)
        thumbnail = draws.integers(0, 255, 256, dtype=np.uint8)
        if kind == "rare":
            objects[-1] = (2, float(draws.uniform(0.75, 0.95)))
        if kind == "new":
            embedding = draws.normal(size=DIMENSIONS) - 1.0
        if kind == "unsure":
            objects = [(0, float(draws.uniform(0.3, 0.7))) for _ in objects]
        if kind == "twins":
            first = images[int(draws.integers(len(images)))]
            thumbnail = np.frombuffer(first.thumbnail, np.uint8)
            embedding = first.embedding + draws.normal(scale=1e-3, size=DIMENSIONS)
        views = 0.5 if kind == "unsure" else float(draws.uniform(0.8, 1.0))
        images.append(image(number, found(*objects), embedding, thumbnail.tobytes(), views))
    embeddings = scenes[np.arange(200) % len(scenes)] + draws.normal(scale=0.25, size=(200, DIMENSIONS))
    seen = [found(*[(0, 0.95)] * 6, (1, 0.9), (1, 0.9))] * 200 + [found((2, 0.9))] * 4
    learnt = LearntImages(
        embeddings=(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32),
        class_counts=count_expected(seen, len(CLASSES)),
    )
    return Pool(images=tuple(images), learnt=learnt, class_names=CLASSES), where
