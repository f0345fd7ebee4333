"""Artifacts of a run in the Prefect UI: Markdown, links and progress bars."""

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


class UpdatedPage:
    """A page of markdown that is attached to the run and changes while it goes on."""

    def __init__(self, key: str, description: str) -> None:
        self._key = key
        self._description = description
        self._artifact: UUID | None = None
        self._shown = ""

    def __call__(self, markdown: str) -> None:
        """Show this markdown from now on; never raises."""
        if markdown == self._shown:
            return
        with contextlib.suppress(Exception):  # a page is never worth a run
            if self._artifact is None:
                self._artifact = create_markdown_artifact(  # type: ignore[assignment]
                    markdown, key=self._key, description=self._description
                )
            else:
                fail_fast_client().update_artifact(self._artifact, ArtifactUpdate(data=markdown))
            self._shown = markdown


class RunProgress:
    """A progress bar in the UI, with the rate of `unit` and the time that is left."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._start = time.monotonic()
        self._first_share: float | None = None
        self._artifact: UUID = create_progress_artifact(0.0, description="Getting ready")  # type: ignore[assignment]

    def __call__(self, share: float, done: int) -> None:
        """Show the share (0 to 1) of all the work, and how many units were done since the start; never raises."""
        if self._first_share is None:
            self._first_share = share
        seconds = time.monotonic() - self._start
        own = share - self._first_share
        left = f", {format_duration(seconds * (1 - share) / own)} left" if own > 0 and share < 1 else ""
        rate = f"{done} {self._unit}, {done / max(seconds, 1e-9):.1f} a second{left}"
        with contextlib.suppress(Exception):  # a progress bar is never worth a run
            update = ArtifactUpdate(data=round(100 * share, 1), description=rate)
            fail_fast_client().update_artifact(self._artifact, update)


def format_duration(seconds: float) -> str:
    """Return seconds as people read them: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
