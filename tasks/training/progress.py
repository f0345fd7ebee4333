"""The progress of a training in the Prefect UI and in the log."""

import contextlib
from collections.abc import Mapping

from prefect import get_run_logger
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.orchestration.artifacts import format_duration, show_progress
from tasks.orchestration.prefect_client import fail_fast_client
from tasks.training.events import EpochResult


class EpochProgress:
    """Shows each epoch: a progress bar in the UI and one line in the log."""

    def __init__(self, key: str) -> None:
        self._artifact = show_progress("Getting ready", key)
        self._seconds: list[float] = []

    def __call__(self, epoch: EpochResult) -> None:
        """Show one finished epoch; those of an earlier attempt were shown before."""
        if epoch.restored:
            return
        self._seconds = [*self._seconds[-9:], epoch.seconds]  # speed changes: mosaic ends, a batch is halved
        left = sum(self._seconds) / len(self._seconds) * (epoch.total_epochs - epoch.number)
        then = "now evaluating the best epoch" if epoch.is_last else f"{format_duration(left)} left"
        line = f"epoch {epoch.number}/{epoch.total_epochs}  {format_metrics(epoch.metrics)}  {then}"
        get_run_logger().info("%s", line)
        with contextlib.suppress(Exception):  # a progress bar is never worth a training
            update = ArtifactUpdate(data=100 * epoch.number / epoch.total_epochs, description=line)
            fail_fast_client().update_artifact(self._artifact, update)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Return losses, mean average precision and accuracy on one line."""
    followed = [name for name in metrics if name.startswith("train/") or "mAP" in name or "accuracy" in name]
    return "  ".join(f"{name.rpartition('/')[2]} {metrics[name]:.3f}" for name in followed)
