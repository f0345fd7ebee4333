"""Markdown for Prefect's artifacts; no text from outside can break out of it."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table, each cell on one line and shown as it is."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[str(value) if value == "---" else plain(value) for value in line] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in escaped)


def plain(value: object) -> str:
    """Text that markdown shows as it is, on one line."""
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)
