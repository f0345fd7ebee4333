"""Markdown for Prefect's artifacts; no text from outside can break out of it, or be cut off at the side of the page.

Prefect shows a cell of a table on one line and hides what does not fit, and breaks no word. So long texts are points of
a list, long words may break, and of a table that would be too wide the longest cells are shortened.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

MAX_CHARACTERS = 100  # characters in a row of a table that Prefect shows whole in a window of 1,000 or 1,400 px
_EDGE = 3  # what the edges of a column take of it
_LEAST = 6
# Scripts that a browser breaks at spaces alone, and in which a break changes no letter.
_LETTERS = "!-\u02ff\u0370-\u0482\u048a-\u052f"
_LONG_WORD, _PART = re.compile(f"[{_LETTERS}]{{40,}}"), re.compile(".{10}(?=.{4})")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], room: int | None = MAX_CHARACTERS) -> str:
    """A markdown table, each cell on one line and shown as it is, its middle left out where the row has no room."""
    lines = [[" ".join(str(value).split()) for value in line] for line in (header, *rows)]
    most = _most(lines, room) if room else None
    escaped = [[escape_markdown(_shorten(value, most) if most else value) for value in line] for line in lines]
    escaped.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in escaped)


def bullet_list(texts: Iterable[str]) -> str:
    """A list, each text on lines of its own; the texts are markdown already."""
    return "\n".join(f"- {text}" for text in texts)


def escape_markdown(value: object) -> str:
    """Text that markdown shows as it is, on one line."""
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)


def wrap_text(value: object) -> str:
    """Text that markdown shows as it is, and a browser breaks where a word does not fit. It holds HTML: for Prefect."""
    text = str(value).replace("\0", " ")
    parts = _LONG_WORD.sub(lambda word: _PART.sub(lambda part: f"{part[0]}\0", word[0]), text).split("\0")
    return "<wbr>".join(map(escape_markdown, parts))


def _most(lines: Sequence[Sequence[str]], room: int) -> int:
    """How long a cell may be: those of the narrow columns stay whole, and the wide ones share what they leave."""
    widths = sorted(max(map(_width, column)) for column in zip(*lines, strict=True))
    left = room - _EDGE * len(widths)
    for place, width in enumerate(widths):
        share = left // (len(widths) - place)
        if width > share:
            return max(share, _LEAST)
        left -= width
    return room


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _shorten(text: str, most: int) -> str:
    """The beginning and, since names differ there, more of the end."""
    if (width := _width(text)) <= most:
        return text
    kept = max(len(text) * most // width - 1, 2)
    return f"{text[: kept // 3]}…{text[kept // 3 - kept :]}"
