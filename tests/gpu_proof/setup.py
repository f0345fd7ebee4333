"""What every part of the proof is told, and what it leaves for the next ones. The standard library alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class ProofError(Exception):
    """What was proved wrong: expected, and found. `figures` are what was measured all the same."""

    def __init__(self, message: str, figures: "Sequence[Figure]" = ()) -> None:
        super().__init__(message)
        self.figures = figures


class SkippedError(Exception):
    """Why this machine cannot do a part."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much a part does: images to draw, and sizes in pixels.

    `epochs` of the training; `crowded` are batch, image size and memory in bytes of the one that has too little memory;
    `batches` are images in one call; `seconds` is the least time of a measurement.
    """

    train: int
    val: int
    image_size: int
    epochs: int
    batch: int
    workers: int
    crowded: tuple[int, int, int]
    batches: tuple[int, ...]
    seconds: float
    jpegs: int
    frames: int


GPU = Scale(
    train=1600,
    val=200,
    image_size=640,
    epochs=10,
    batch=64,
    workers=8,
    crowded=(256, 640, 8 << 30),
    batches=(1, 8, 32, 64),
    seconds=1.0,
    jpegs=4000,
    frames=500,
)
# Batch 16 takes 2.4 GiB, batch 8 takes 1.8.
CPU = Scale(
    train=24,
    val=24,
    image_size=96,
    epochs=4,
    batch=8,
    workers=0,
    crowded=(16, 320, int(2.1 * 2**30)),
    batches=(1, 4),
    seconds=0.2,
    jpegs=24,
    frames=16,
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """`folder` is that of the run; `device` is "0" or "cpu", `gpus` how many there are."""

    folder: Path
    device: str
    gpus: int
    scale: Scale

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"

    def result(self, part: str) -> Mapping[str, Any]:
        """Return what an earlier part left, nothing if it failed."""
        try:
            left: Mapping[str, Any] = json.loads((self.folder / f"{part}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return left

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> "Setup":
        read: dict[str, Any] = json.loads(text)
        scale: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in read["scale"].items()
        }
        return cls(folder=Path(read["folder"]), device=read["device"], gpus=read["gpus"], scale=Scale(**scale))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured `value`, beside the `limit` of the same run where there is one, both in `unit`."""

    what: str
    value: float
    unit: str
    against: str = ""
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.limit if self.limit else None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a part found: a sentence, figures, and what other parts need of it (`left`)."""

    sentence: str
    figures: Sequence[Figure] = ()
    left: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        figures = [{**asdict(each), "ratio": each.ratio} for each in self.figures]
        return json.dumps({"sentence": self.sentence, "figures": figures, "left": dict(self.left)}, indent=2)


def require(condition: bool, message: str) -> None:
    """Raise a ProofError unless the condition holds."""
    if not condition:
        raise ProofError(message)
