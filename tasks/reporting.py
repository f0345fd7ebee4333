"""What a run shows in the Prefect UI: artifacts, progress, and how it ends."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import ParamSpec
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed

from tasks.core.epochs import Epoch
from tasks.core.errors import StudioError
from tasks.core.findings import Report

P = ParamSpec("P")


def fails_with_reason(story: Callable[P, State]) -> Callable[P, State]:
    """End a flow Failed, with the reason as its message, on an error that a person can act on."""

    @functools.wraps(story)
    def told(*args: P.args, **kwargs: P.kwargs) -> State:
        try:
            return story(*args, **kwargs)
        except StudioError as error:
            get_run_logger().error("%s", error)
            return Failed(message=str(error))

    return told


def flow_run_name() -> str:
    """The name that the Prefect UI shows for the flow run, for other UIs to show too."""
    return str(runtime.flow_run.name)


def flow_run_id() -> str:
    """The id of the flow run that is under way; checkpoints and results are keyed by it."""
    return str(runtime.flow_run.id)


def show_markdown(key: str, markdown: str, description: str | None = None) -> None:
    """Attach a page of markdown to the run."""
    create_markdown_artifact(markdown, key=key, description=description)


def show_link(key: str, link: str, text: str) -> None:
    """Attach a link to the run."""
    create_link_artifact(link, link_text=text, key=key)


def announce_dataset(report: Report) -> None:
    """Emit the event `dataset.validated`, which automations can start from; it names archive, digest and verdict."""
    facts = {"name": report.archive, "digest": report.digest, "verdict": report.verdict.value}
    resource = {"prefect.resource.id": f"dataset.{report.archive}", "prefect.resource.name": report.archive, **facts}
    emit_event("dataset.validated", resource, payload={**facts, "counts": report.counts})


def completed(message: str, name: str | None = None) -> State:
    """End a flow well, with what it did as the message."""
    return Completed(message=message, name=name)


def failed(message: str) -> State:
    """End a flow that did its work but must not count as well done."""
    return Failed(message=message)


class EpochProgress:
    """Shows each epoch: a progress bar in the UI and one line in the log."""

    def __init__(self, key: str) -> None:
        self._artifact: UUID = create_progress_artifact(0.0, key=key, description="Training")  # type: ignore[assignment]
        self._began = time.monotonic()

    def __call__(self, epoch: Epoch) -> None:
        """Show one finished epoch."""
        left = (time.monotonic() - self._began) / epoch.number * (epoch.of - epoch.number)
        get_run_logger().info("epoch %d/%d  %s  %.0f s left", epoch.number, epoch.of, figures(epoch.metrics), left)
        update_progress_artifact(self._artifact, 100 * epoch.number / epoch.of)


def figures(metrics: Mapping[str, float]) -> str:
    """Losses and mean average precision, the figures that people follow."""
    followed = [name for name in metrics if name.startswith("train/") or "mAP" in name]
    return "  ".join(f"{name.rpartition('/')[2]} {metrics[name]:.3f}" for name in followed)
