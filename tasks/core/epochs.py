"""What training tells after each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """Finished epoch `number` (from 1) `of` so many, with its losses, metrics and learning rates by name."""

    number: int
    of: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrainedModel:
    """Outcome of a training: `weights` is a file path; `metrics` are of the best epoch on the validation split."""

    weights: str
    task: str
    class_names: tuple[str, ...]
    metrics: Mapping[str, float]
    class_map50: Mapping[str, float]


def metric_name(name: str) -> str:
    """Ultralytics' name in characters that MLflow takes: `metrics/mAP50(B)` -> `metrics/mAP50`."""
    plain = name.replace("(B)", "").replace("(M)", "_mask").replace("(P)", "_pose")
    return "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in plain)
