"""Events of a training: each finished epoch, and at the end the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.vision.metrics import Scores


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Finished epoch `number` (from 1) of `total_epochs`, with its losses, metrics and learning rates by name.

    `seconds` includes the validation; `batch` is the images in one step. `restored` epochs are those of an earlier
    attempt, reported again. `best` is the epoch with the best weights so far. `checkpoint` is the file to resume from,
    `best_checkpoint` that of epoch `best` if this attempt trained it; later epochs may replace both at any time.
    """

    number: int
    total_epochs: int
    metrics: Mapping[str, float]
    seconds: float = 0.0
    batch: int = 0
    restored: bool = False
    checkpoint: Path | None = None
    best: int = 0
    best_checkpoint: Path | None = None
    is_last: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """Result of a training: `weights` is the file of the best epoch, `scores` are its on the validation split.

    `folder` holds Ultralytics' plots; `batch` is the one at the end.
    """

    weights: Path
    folder: Path
    task: str
    class_names: tuple[str, ...]
    scores: Scores
    epochs: int
    best_epoch: int
    batch: int


def metric_name(name: str) -> str:
    """Return Ultralytics' name in characters that MLflow accepts: `metrics/mAP50(B)` -> `metrics/mAP50`."""
    plain = name.replace("(B)", "").replace("(M)", "_mask").replace("(P)", "_pose")
    return "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in plain)
