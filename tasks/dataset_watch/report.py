"""What a watch has found and started, for people."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from tasks.dataset_watch.rules import Survey
from tasks.errors import safe_repr
from tasks.rendering.links import UiLinks, links_markdown
from tasks.rendering.markdown import bullet_list, wrap_text

_MOST = 50  # entries of a list


@dataclass(frozen=True, kw_only=True)
class StartedChecks:
    """The flow runs that check archives, by key; the reasons why some could not be started; and how many wait."""

    runs: Mapping[str, str]
    refused: Mapping[str, str]
    waiting: int


def watch_sentence(found: Survey, started: StartedChecks) -> str:
    """Return what a watch did, in one sentence."""
    checks = len(started.runs)
    parts = [f"{found.archives} archives, {checks} check{'' if checks == 1 else 's'} started"]
    if started.waiting:
        parts.append(f"{started.waiting} wait for the next watch")
    if left_out := len(found.unusable) + len(started.refused):
        parts.append(f"{left_out} cannot be checked")
    return ", ".join(parts)


def is_worth_a_report(found: Survey, started: StartedChecks) -> bool:
    """Return whether there is more to say than that nothing is new."""
    return bool(started.runs or started.refused or found.unusable)


def watch_markdown(found: Survey, started: StartedChecks, pages: UiLinks) -> str:
    """Return the report: the checks with links to their runs, and every object that gets none."""
    runs = (links_markdown({key: pages.flow_run(run)}) for key, run in started.runs.items())
    left_out = {**found.unusable, **started.refused}
    reasons = (f"{wrap_text(safe_repr(key))}: {wrap_text(reason)}" for key, reason in left_out.items())
    others = (wrap_text(safe_repr(key)) for key in found.others)
    sections = [
        _section("Checks that were started", runs, len(started.runs)),
        _section("Archives that cannot be checked", reasons, len(left_out)),
        _section(
            "Objects that are no archives: their names do not end in .zip, or they are to be imported",
            others,
            found.other_objects,
        ),
    ]
    return "\n\n".join([f"{watch_sentence(found, started)}.", *filter(None, sections)])


def _section(title: str, entries: Iterable[str], count: int) -> str:
    if not count:
        return ""
    shown = list(islice(entries, _MOST))
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    return f"## {title}\n\n{bullet_list([*shown, *more])}"
