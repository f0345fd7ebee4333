"""Markdown for Prefect's artifacts: escaped, and no wider than the page.

Prefect shows a cell of a table on one line, hides what does not fit and breaks no word. So long texts go into a list,
long words may break, and the longest cells of a table that is too wide are shortened.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

MAX_CHARACTERS = 100  # characters in a row of a table that Prefect shows whole in a window of 1,000 or 1,400 px
_EDGE = 3  # characters that the edges of a column take
_MIN_CELL = 6
# Scripts that a browser breaks only at spaces, and in which a break changes no letter.
_LETTERS = "!-\u02ff\u0370-\u0482\u048a-\u052f"
_LONG_WORD = re.compile(f"[{_LETTERS}]{{40,}}")
_PART = re.compile(".{10}(?=.{4})")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], room: int | None = MAX_CHARACTERS) -> str:
    """Return a table of escaped cells on one line each, cut in the middle if a row exceeds `room` characters."""
    lines = [[" ".join(str(value).split()) for value in line] for line in (header, *rows)]
    longest = _longest_cell(lines, room) if room else None
    escaped = [[escape_markdown(_shorten(value, longest) if longest else value) for value in line] for line in lines]
    escaped.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in escaped)


def bullet_list(texts: Iterable[str]) -> str:
    """Return a list of texts that are markdown already."""
    return "\n".join(f"- {text}" for text in texts)


def escape_markdown(value: object) -> str:
    """Return text that markdown shows as it is, on one line."""
    text = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)


def wrap_text(value: object) -> str:
    """Return text that markdown shows as it is, with HTML that lets a browser break long words: for Prefect."""
    text = str(value).replace("\0", " ")
    parts = _LONG_WORD.sub(lambda word: _PART.sub(lambda part: f"{part[0]}\0", word[0]), text).split("\0")
    return "<wbr>".join(map(escape_markdown, parts))


def _longest_cell(lines: Sequence[Sequence[str]], room: int) -> int:
    """How long a cell may be: narrow columns stay whole, and the wide ones share the rest."""
    widths = sorted(max(map(_width, column)) for column in zip(*lines, strict=True))
    left = room - _EDGE * len(widths)
    for number, width in enumerate(widths):
        share = left // (len(widths) - number)
        if width > share:
            return max(share, _MIN_CELL)
        left -= width
    return room


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _shorten(text: str, longest: int) -> str:
    """A third from the beginning and two from the end, in which names differ."""
    if _width(text) <= longest:
        return text
    first = (longest - 1) // 3
    return f"{_beginning(text, first)}…{_beginning(text[::-1], longest - 1 - first)[::-1]}"


def _beginning(text: str, room: int) -> str:
    """Return as much of the beginning as takes so much room."""
    return text[: bisect_right(list(accumulate(map(_width, text[:room]))), room)]
