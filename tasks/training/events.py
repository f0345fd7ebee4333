"""What training tells: each epoch while it goes on, and the model that it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.vision.metrics import Scores


@dataclass(frozen=True)
class EpochResult:
    """Finished epoch `number` (from 1) `total_epochs` so many, with its losses, metrics and learning rates by name.

    `seconds` is how long it took, validation included; `batch` the images in one step. `restored` epochs were finished
    by an earlier attempt and are told again. `best` is the number of the epoch whose weights are the best so far, and
    `is_last` says that no epoch follows. `checkpoint` is a file to carry on from, `best_checkpoint` that of epoch
    `best` where this attempt trained it; both make way for those of later epochs at any time.
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


@dataclass(frozen=True)
class TrainedModel:
    """Outcome of a training: `weights` is the file of the best epoch, `scores` are its on the validation split.

    `folder` holds what Ultralytics drew: curves, confusion matrix, samples. `batch` is what the training ended with.
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
    """Ultralytics' name in characters that MLflow takes: `metrics/mAP50(B)` -> `metrics/mAP50`."""
    plain = name.replace("(B)", "").replace("(M)", "_mask").replace("(P)", "_pose")
    return "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in plain)
