"""What labelling tools write about classes beside data.yaml: its numbers must be those of the labels."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice

from tasks.dataset.archive import Archive, ArchiveError
from tasks.dataset.findings import Finding, warning
from tasks.errors import safe_repr
from tasks.finding_codes import Code

_MAX_BYTES = 2**20
# LabelImg, CVAT, Label Studio, Darknet and Roboflow write these: a name a line.
_LISTS = frozenset({"classes.txt", "classes.names", "obj.names", "labels.txt", "_darknet.labels"})
# Label Studio writes this as well.
_NOTES = "notes.json"


def class_list_findings(archive: Archive, class_names: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each list that gives a class of `class_names` another number; renamed ones are fine."""
    known = {_plain(name): number for number, name in enumerate(class_names)}
    for file in sorted(archive.entries):
        moved = ((name, number) for number, name in enumerate(_read(archive, file)))
        moved = ((name, number) for name, number in moved if known.get(_plain(name), number) != number)
        for name, number in islice(moved, 1):
            expected = f"{safe_repr(name)} as class {known[_plain(name)]}, as data.yaml has it"
            fix = "Look at a few labels, and put names in data.yaml into the order that these were written by."
            yield warning(Code.CLASS_ORDER, expected, f"it as class {number}", fix, path=file)


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _read(archive: Archive, file: str) -> list[str]:
    """Return the names by number; nothing if the file is no such list or cannot be read as one."""
    base = file.rpartition("/")[2].lower()
    if base not in _LISTS and base != _NOTES:
        return []
    try:
        text = archive.read(file, _MAX_BYTES).decode("utf-8-sig")
        if base != _NOTES:
            return text.strip().splitlines()
        categories = {int(each["id"]): str(each["name"]) for each in json.loads(text)["categories"]}
        return [categories[number] for number in range(len(categories))]
    except (ArchiveError, ValueError, TypeError, LookupError, RecursionError):
        return []
