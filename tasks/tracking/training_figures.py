"""What metrics need of trainings: where each of them is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tasks.tracking.live_metrics import EPOCH_MARKER_METRIC
from tasks.tracking.mlflow_client import TRAINING, search_runs

# The parts of the losses that Ultralytics has. Each is a series of its own in Prometheus, so no other name makes one.
LOSSES = (
    *("loss", "box_loss", "cls_loss", "dfl_loss", "l1_loss", "giou_loss", "seg_loss", "sem_loss", "pose_loss"),
    *("kobj_loss", "rle_loss", "angle_loss", "ce_loss", "dice_loss", "aux_loss", "dlog_loss", "dgrad_loss"),
)
_LOSS = re.compile(rf"(train|val)/({'|'.join(LOSSES)})")
_SCORE = re.compile(r"metrics/(mAP50|mAP50-95|accuracy_top1)")


@dataclass(frozen=True, kw_only=True)
class TrainingFigures:
    """A training after its newest epoch, which ended at `epoch_ended`, in seconds since 1970; 0 before the first.

    `losses` are by split (`train`, `val`) and name (`LOSSES`), `scores` by name (`mAP50`).
    """

    flow_run_id: str
    epoch: int = 0
    epoch_ended: float = 0
    losses: Mapping[tuple[str, str], float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


def list_trainings(since: datetime) -> Iterator[TrainingFigures]:
    """Yield the trainings that were begun since then, the oldest first.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    condition = f"attributes.start_time >= {int(since.timestamp() * 1000)}"
    for run in search_runs(TRAINING, condition, ["attributes.start_time ASC"]):
        # Only these objects know step and time; `run.data.metrics` has values alone.
        metrics = {metric.key: metric for metric in run.data._metric_objs}  # noqa: SLF001
        epoch = metrics.get(EPOCH_MARKER_METRIC)
        losses = {(found[1], found[2]): m.value for name, m in metrics.items() if (found := _LOSS.fullmatch(name))}
        scores = {found[1]: m.value for name, m in metrics.items() if (found := _SCORE.fullmatch(name))}
        yield TrainingFigures(
            flow_run_id=run.data.tags.get("flow_run_id", ""),
            epoch=epoch.step if epoch else 0,
            epoch_ended=epoch.timestamp / 1000 if epoch else 0,
            losses=losses,
            scores=scores,
        )
