"""A clean-up as a page of Markdown."""

import json
from collections import Counter
from collections.abc import Iterable

from tasks.parameters import CleanUpParams
from tasks.rendering.markdown import bullet_list, table, wrap_text
from tasks.rendering.sizes import format_bytes
from tasks.retention.rules import Choice, Kind, Leaving

SHOWN = 20


def clean_up_markdown(choice: Choice, cleaning: CleanUpParams) -> str:
    """Return what would go, by kind and oldest first, how to remove it, why the rest stays, and what is unknown."""
    parts = [f"**{clean_up_sentence(choice, cleaning)}**"]
    if cleaning.dry_run and choice.going:
        parts.append(f"This was a dry run. To remove it: `{removal_command(cleaning)}`")
    asked = [kind for kind in Kind if kind not in choice.unasked]
    rows = [_row(kind, [each for each in choice.going if each.kind is kind]) for kind in asked]
    parts.append(table(("kind", "number", "objects or files", "size", "oldest"), rows))
    for kind in Kind:
        going = [each for each in choice.going if each.kind is kind]
        if going:
            more = [f"and {len(going) - SHOWN} more"] if len(going) > SHOWN else []
            parts += [f"### {kind}", bullet_list([*map(_line, going[:SHOWN]), *more])]
    if choice.unasked:
        parts += ["### Not asked", bullet_list(f"{kind}: {reason}" for kind, reason in choice.unasked.items())]
    if choice.staying:
        counts = Counter((str(leaving.kind), reason) for leaving, reason in choice.staying)
        parts += ["### What stays", table(("kind", "number", "why"), [(k, n, why) for (k, why), n in counts.items()])]
    return "\n\n".join(parts)


def clean_up_sentence(choice: Choice, cleaning: CleanUpParams) -> str:
    """Return the message with which the run ends."""
    if not choice.going:
        return "Nothing to clean up"
    verb = "would go" if cleaning.dry_run else "went"
    return f"{len(choice.going)} things of {format_bytes(_size(choice.going))} {verb}"


def removal_command(cleaning: CleanUpParams) -> str:
    """Return the command that removes what this clean-up reports."""
    days = cleaning.model_copy(update={"dry_run": False}).model_dump(exclude_defaults=True)
    parameters = json.dumps({"cleaning": days}).replace(".0}", "}").replace(".0,", ",")  # 3 days, not 3.0
    return f"prefect deployment run clean-up/gpu --params '{parameters}'"


def _row(kind: Kind, going: list[Leaving]) -> tuple[object, ...]:
    oldest = min((f"{each.changed:%Y-%m-%d}" for each in going), default="")
    return kind, len(going), sum(each.files for each in going), format_bytes(_size(going)), oldest


def _line(leaving: Leaving) -> str:
    return f"{wrap_text(leaving.name)}: {format_bytes(leaving.size)}, of {leaving.changed:%Y-%m-%d}"


def _size(leavings: Iterable[Leaving]) -> int:
    return sum(leaving.size for leaving in leavings)
