"""Label files under merged class ids."""

from collections.abc import Sequence


def remap_labels(text: str, class_ids: Sequence[int | None]) -> str:
    """Label rows with merged class ids; rows of dropped classes go, every number stays as it was written.

    Columns are told apart by one space: some of what counts as a space in a label ends a line for Ultralytics.
    """
    rows = []
    for line in text.replace("\r", "\n").split("\n"):
        if fields := line.split():
            merged = class_ids[int(fields[0])]
            if merged is not None:
                fields[0] = str(merged)
                rows.append(" ".join(fields) + "\n")
    return "".join(rows)
