"""Artifacts of a run in the Prefect UI: Markdown, links and progress bars.

What has done its work waits for a server that is away for minutes, rather than fail for a link.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_progress_artifact
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.orchestration.prefect_client import fail_fast_client, server_errors
from tasks.orchestration.step import SERVICE_RESTART


def show_markdown(key: str, markdown: str, description: str | None = None) -> None:
    """Attach a page of markdown to the run.

    Raises:
        StudioError: Prefect's server does not answer, or refuses it.
    """
    _attach(create_markdown_artifact, markdown, key=key, description=description)


def show_link(key: str, link: str, text: str) -> None:
    """Attach a link to the run.

    Raises:
        StudioError: Prefect's server does not answer, or refuses it.
    """
    _attach(create_link_artifact, link, link_text=text, key=key)


def show_progress(description: str, key: str | None = None) -> UUID:
    """Attach a progress bar to the run, at 0; returns its id.

    Raises:
        StudioError: Prefect's server does not answer, or refuses it.
    """
    made: UUID = _attach(create_progress_artifact, 0.0, key=key, description=description)
    return made


def _attach(create: Callable[..., Any], content: object, **about: str | None) -> Any:  # noqa: ANN401 - types of Prefect
    def once() -> Any:  # noqa: ANN401
        with server_errors():
            return create(content, **about)

    return SERVICE_RESTART.call(once)


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
        self._artifact = show_progress("Getting ready")

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
