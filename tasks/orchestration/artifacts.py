"""What a run shows in the Prefect UI: Markdown, links and progress bars."""

import contextlib
import time
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_progress_artifact
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.orchestration.prefect_client import fail_fast_client


def show_markdown(key: str, markdown: str, description: str | None = None) -> None:
    """Attach a page of markdown to the run."""
    create_markdown_artifact(markdown, key=key, description=description)


def show_link(key: str, link: str, text: str) -> None:
    """Attach a link to the run."""
    create_link_artifact(link, link_text=text, key=key)


class RunProgress:
    """Shows how much of a run is done: a progress bar in the UI, with its rate and the time that is left."""

    def __init__(self, what: str) -> None:
        self._what, self._began, self._first = what, time.monotonic(), -1.0
        self._artifact: UUID = create_progress_artifact(0.0, description="Getting ready")  # type: ignore[assignment]

    def __call__(self, share: float, done: int) -> None:
        """Show the share (0 to 1) of all the work, and how many were done since this began; never raises."""
        self._first = share if self._first < 0 else self._first
        seconds, own = time.monotonic() - self._began, share - self._first
        left = f", {format_duration(seconds * (1 - share) / own)} left" if own > 0 and share < 1 else ""
        told = f"{done} {self._what}, {done / max(seconds, 1e-9):.1f} a second{left}"
        # A progress bar is never worth a run.
        with contextlib.suppress(Exception):
            fail_fast_client().update_artifact(
                self._artifact, ArtifactUpdate(data=round(100 * share, 1), description=told)
            )


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
