"""A sample of what was found in the images of live requests, for `monitor-model`; off unless a folder is named.

Nothing here fails a request or makes it wait: a thread writes, and what it cannot write is lost, with a warning.
"""

import base64
import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Full, Queue
from typing import Any, NamedTuple, Self

import cv2
import numpy as np

from .geometry import Floats, Letterbox, Rgb, select_detections
from .grey_stats import GreyStats, measure_grey
from .log_folder import LogFolder
from .model_lookup import ServedModel

PREFIX = "STUDIO_LIVE_LOG_"
# What is found from here on, whatever confidence a request asks for: so that requests can be compared. It is what the
# monitoring keeps of the validation images.
LEAST_CONFIDENCE = 0.01
WAITING = 4  # samples, each of which may hold a whole picture
WARNING_S = 600.0
STOP_S = 2.0
_ANSWERS = {"true": True, "1": True, "false": False, "0": False}


class LiveLogSettings(NamedTuple):
    """Where the log is, the share of the requests in it, the most bytes it takes, and whether it keeps pictures."""

    folder: Path
    share: float = 0.05
    max_bytes: int = 256 << 20
    pictures: bool = False

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the settings; None if no folder is named.

        Raises:
            ValueError: A value is not allowed.
        """
        folder = environment.get(f"{PREFIX}DIR", "")
        if not folder:
            return None
        share = _number(environment, "SHARE", 0.05, 0, 1)
        mib = _number(environment, "MIB", 256, 1, 1 << 20)
        pictures = (environment.get(f"{PREFIX}PICTURES") or "false").lower()
        if pictures not in _ANSWERS:
            raise ValueError(f"expected {PREFIX}PICTURES as true or false, found {pictures[:80]!r}: mend it")
        return cls(Path(folder), share, int(mib * (1 << 20)), _ANSWERS[pictures])


def _number(environment: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = environment.get(f"{PREFIX}{name}") or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ValueError(
            f"expected {PREFIX}{name} as a number from {least:g} to {most:g}, found {text[:80]!r}: mend it"
        )
    return value


class _Sample(NamedTuple):
    time: float
    model: ServedModel
    width: int
    height: int
    looks: GreyStats
    outputs: Mapping[str, Floats]
    letterbox: Letterbox | None
    picture: bytes


class LiveLog:
    """Samples answers, and has a thread write them; `warn` takes a sentence for the server's log."""

    def __init__(self, settings: LiveLogSettings, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._folder = LogFolder(settings.folder, settings.max_bytes)
        self._warn = warn
        self._lost, self._warned_at, self._lock = 0, -WARNING_S, threading.Lock()
        self._waiting: Queue[_Sample | None] = Queue(WAITING)
        self._writer = threading.Thread(target=self._write_all, daemon=True)
        self._writer.start()

    def is_due(self) -> bool:
        """Return whether this request is in the sample: by chance, as every twentieth could be of one client."""
        return random.random() < self._settings.share  # noqa: S311

    def keep(
        self, model: ServedModel, outputs: Mapping[str, Floats], letterbox: Letterbox | None, image: Rgb, data: bytes
    ) -> None:
        """Have the writer take what the model answered for an image [height, width, 3], whose file is `data`."""
        try:
            height, width = image.shape[:2]
            sample = _Sample(
                time=time.time(),
                model=model,
                width=width,
                height=height,
                looks=measure_grey(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)),
                # Triton takes back the memory of its own ones.
                outputs={name: outputs[name].copy() for name in ("detections", "scores") if name in outputs},
                letterbox=letterbox,
                picture=bytes(data) if self._settings.pictures else b"",
            )
            self._waiting.put_nowait(sample)
        except Full:
            self._lose("the folder takes them more slowly than they come")
        except Exception as error:  # noqa: BLE001  # whatever it is, the client gets its answer
            self._lose(repr(error))

    def close(self) -> None:
        """Write what waits, unless that takes more than `STOP_S`."""
        try:
            self._waiting.put(None, timeout=STOP_S)
        except Full:
            return
        self._writer.join(STOP_S)

    def _write_all(self) -> None:
        while (sample := self._waiting.get()) is not None:
            try:
                self._folder.append(json.dumps(_to_facts(sample), allow_nan=False, separators=(",", ":")).encode())
            except Exception as error:  # noqa: BLE001  # a full disk today, room tomorrow
                self._lose(str(error) or repr(error))

    def _lose(self, reason: str) -> None:
        """Warn, but not again and again."""
        with self._lock:
            self._lost += 1
            now = time.monotonic()
            if now - self._warned_at < WARNING_S:
                return
            lost, self._lost, self._warned_at = self._lost, 0, now
        self._warn(
            f"expected {self._settings.folder} ({PREFIX}DIR) to take a sample of the answers, found: {reason}. Lost so "
            f"far since the last warning: {lost}. Requests are answered all the same: make room, or let this user write"
        )


def open_live_log(warn: Callable[[str], None]) -> LiveLog | None:
    """Return the log that the environment asks for; None if it asks for none, or wrongly, of which it warns."""
    try:
        settings = LiveLogSettings.parse(os.environ)
    except ValueError as error:
        warn(f"there is no live log: {error}")
        return None
    return LiveLog(settings, warn) if settings else None


def _to_facts(sample: _Sample) -> dict[str, Any]:
    facts = {
        "time": round(sample.time, 3),
        "model": sample.model.name,
        "version": sample.model.version,
        "task": sample.model.task,
        "width": sample.width,
        "height": sample.height,
        "brightness": sample.looks.brightness,
        "contrast": sample.looks.contrast,
        "sharpness": sample.looks.sharpness,
        "least": LEAST_CONFIDENCE,
        "found": _best_class(sample) if sample.letterbox is None else _boxes(sample, sample.letterbox),
    }
    return facts | ({"picture": base64.b64encode(sample.picture).decode()} if sample.picture else {})


def _boxes(sample: _Sample, letterbox: Letterbox) -> list[list[float]]:
    """Return class, confidence and box of each object, as the graph itself has sorted out overlaps."""
    detections = sample.outputs["detections"]
    rows = select_detections(detections, LEAST_CONFIDENCE, None)
    boxes = letterbox.to_image(detections[rows, :4]).astype(np.float64).round(1)
    scores = detections[rows, 4].astype(np.float64).round(4)
    found = zip(detections[rows, 5].tolist(), scores.tolist(), boxes.tolist(), strict=True)
    return [[int(number), score, *box] for number, score, box in found if box[2] > box[0] and box[3] > box[1]]


def _best_class(sample: _Sample) -> list[list[float]]:
    scores = np.nan_to_num(sample.outputs["scores"])
    best = int(scores.argmax())
    return [[best, round(float(scores[best]), 4), 0.0, 0.0, float(sample.width), float(sample.height)]]
