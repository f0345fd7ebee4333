"""A live log as model `predict` writes it, in a folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_repository.predict.geometry import Letterbox
from model_repository.predict.live_log import LiveLog, LiveLogSettings
from model_repository.predict.model_lookup import ServedModel
from tests.tasks.serving.graphs import encoded, noise, rows

SIZE = 64
FOUND = rows((10, 20, 30, 40, 0.9, 1), (5, 18, 9, 30, 0.02, 0), (5, 18, 9, 30, 0.002, 0))
MODEL = ServedModel("cells", 3, "detect", SIZE, ("cat", "dog"))


def picture(seed: int, brightness: float = 1.0) -> np.ndarray:
    """Noise of 128 x 96, which no other seed gives."""
    return np.asarray((noise(128, 96, seed) * brightness).astype(np.uint8))


def keep(log: LiveLog, image: np.ndarray, model: ServedModel = MODEL) -> None:
    """Have a log take what is always found, in an image."""
    height, width = image.shape[:2]
    outputs = {"scores": np.array([0.2, 0.7], np.float32)} if model.task == "classify" else {"detections": FOUND}
    letterbox = None if model.task == "classify" else Letterbox.fit(width, height, model.image_size)
    log.keep(model, outputs, letterbox, image, encoded(image))


def write_log(
    folder: Path, images: int, model: ServedModel = MODEL, warn: Callable[[str], None] = print, **settings: Any
) -> None:
    """Write so many answers, each about another picture."""
    log = LiveLog(LiveLogSettings(folder, **settings), warn)
    for number in range(images):
        while log._waiting.full():
            pass
        keep(log, picture(number), model)
    log.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    """What each whole line says, the oldest first."""
    written = (line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines())
    return [json.loads(line) for line in written if line.endswith(b"}")]
