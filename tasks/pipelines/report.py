"""The page of a pipeline: the runs that it started, with their state, duration and links."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.orchestration.artifacts import format_duration
from tasks.orchestration.child_runs import RunState
from tasks.rendering.links import UiLinks, links_markdown
from tasks.rendering.markdown import bullet_list, wrap_text

_MOST_ARCHIVES = 50
_MESSAGE = 300  # characters of a message


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a pipeline in words, such as `check a.zip`, and its run."""

    title: str
    run: RunState


def pipeline_markdown(archives: Sequence[str], stages: Iterable[Stage], pages: UiLinks, now: datetime) -> str:
    """Return the page: each stage with a link to its run, and the archives."""
    shown = [wrap_text(name) for name in archives[:_MOST_ARCHIVES]]
    if len(archives) > len(shown):
        shown.append(f"and {len(archives) - len(shown)} more")
    stages_list = bullet_list(_stage_line(stage, pages, now) for stage in stages)
    return f"## Runs\n\n{stages_list}\n\n## Archives\n\n{bullet_list(shown)}"


def _stage_line(stage: Stage, pages: UiLinks, now: datetime) -> str:
    run = stage.run
    seconds = run.seconds(now)
    duration = "" if seconds is None else f", {format_duration(seconds)}"
    link = links_markdown({stage.title: pages.flow_run(str(run.id))})
    message = f": {wrap_text(run.message[:_MESSAGE])}" if run.has_stopped and run.message else ""
    return f"{link}: {wrap_text(run.state)}{duration}{message}"
