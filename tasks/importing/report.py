"""What an import has read, lost and changed, for people."""

from collections.abc import Mapping, Sequence

from tasks.importing.changes import sum_changes
from tasks.importing.importer import ImportSummary
from tasks.rendering.markdown import bullet_list, table, wrap_text

_SHOWN_CLASSES = 100
_KINDS = {
    "left out": "Left out",
    "changed": "Changed",
    "not kept": "Not kept",
}


def import_sentence(archive: str, summary: ImportSummary) -> str:
    """Return what was made, and how much of the source is not in it as it was, in one sentence."""
    made = f"{archive}: {sum(summary.images.values()):,} images, {sum(summary.objects.values()):,} labels"
    return f"{made} of {len(summary.class_names)} classes, from {summary.format}; {sum_changes(summary.changes)}"


def import_markdown(archive: str, summary: ImportSummary, check: str, page: str) -> str:
    """Return the report; `check` is the verdict on the archive in a sentence, `page` the address of its pictures."""
    labels = sorted(summary.objects.items(), key=lambda entry: -entry[1])
    splits = ((split, f"{count:,}") for split, count in summary.images.items())
    classes = ((name, f"{count:,}") for name, count in labels[:_SHOWN_CLASSES])
    sections = [
        f"{wrap_text(import_sentence(archive, summary))}.",
        f"{wrap_text(check)} **[Open the report of the check: pictures, charts, every code]({page})**",
        table(("split", "images"), list(splits)),
        table(("class", "labels"), list(classes)),
        f"{len(labels) - _SHOWN_CLASSES} more classes are in the archive." if len(labels) > _SHOWN_CLASSES else "",
        *(_section(title, kind, summary.changes, summary.places) for kind, title in _KINDS.items()),
        f"## Decided\n\n{bullet_list(map(wrap_text, summary.notes))}" if summary.notes else "",
    ]
    return "\n\n".join(filter(None, sections))


def _section(title: str, kind: str, changes: Mapping[str, int], places: Mapping[str, Sequence[str]]) -> str:
    found = [change for change in changes if change.partition(":")[0] == kind]
    lines = (
        f"**{changes[each]:,}** {wrap_text(each.partition(': ')[2])} ({', '.join(map(wrap_text, places[each]))}"
        f"{', ...' if changes[each] > len(places[each]) else ''})"
        for each in sorted(found, key=lambda each: -changes[each])
    )
    return f"## {title}\n\n{bullet_list(lines)}" if found else ""
