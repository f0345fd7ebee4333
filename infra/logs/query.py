"""Which lines are asked for."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from infra.logs.lines import LEVELS, Line
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.log_lines import to_text

LONGEST = 1000  # characters of a text that is searched for
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_COMPARED = 32  # letters of such a text, before a line is read: each may have to be tried at each place
_SPAN = re.compile(r"(\d{1,6})\s*(s|m|min|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


class QueryError(StudioError):
    """Lines are asked for in a way that has no meaning."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Lines that are all of this; what is empty chooses nothing.

    Args:
        runs: Flow runs, by id: lines that name one of them.
        model: Lines about a model, by its name.
        archive: Lines about an archive, by its key.
        about: Flow runs that are about `model` or `archive`: their lines are as well.
        request: Lines that name a request, by its id.
        services: By name, such as `triton`, or `flow` for what flow runs say.
        level: This one and graver ones.
        since: From this time on.
        until: Before this time.
        text: A text that the line has, in capitals or not.
        audit: Whether entries of the audit log are among them.
    """

    runs: Collection[str] = ()
    model: str = ""
    archive: str = ""
    about: Collection[str] = ()
    request: str = ""
    services: Collection[str] = ()
    level: str = ""
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    audit: bool = True
    _levels: frozenset[str] = field(init=False, default=frozenset(LEVELS))

    def __post_init__(self) -> None:
        if self.level:
            if self.level not in LEVELS:
                raise QueryError(
                    expected_found_fix(f"a level of {', '.join(LEVELS)}", safe_repr(self.level), "Choose one.")
                )
            object.__setattr__(self, "_levels", frozenset(LEVELS[LEVELS.index(self.level) :]))
        for name in ("model", "archive", "request", "text"):
            if len(getattr(self, name)) > LONGEST:
                raise QueryError(f"Expected at most {LONGEST} characters of {name}, found more. Shorten it.")

    @cached_property
    def _needles(self) -> list[list[bytes]]:
        """What the bytes of a line, or of a block of lines, have in them if the line is one of these: one of each."""
        groups = [list(self.runs), [self.request] if self.request else []]
        groups += [[name, *self.about] for name in (self.model, self.archive) if name]
        return [sorted(set(_spellings(group))) for group in groups if group]

    @cached_property
    def _lowered(self) -> list[bytes]:
        """The same for a text in ASCII, of bytes in small letters."""
        return sorted(set(_spellings([self.text.lower()]))) if self.text.isascii() and self.text else []

    @cached_property
    def _beyond_ascii(self) -> list[re.Pattern[bytes]]:
        """The same for the letters beyond ASCII of another text: all of these, each letter in one of its forms."""
        return [_in_any_form(letters) for letters in _BEYOND_ASCII.findall(self.text[:_COMPARED])]

    @cached_property
    def since_text(self) -> bytes:
        """`since` as a line of ours has it; empty, which is before all times, if there is none."""
        return to_text(self.since).encode() if self.since else b""

    def may_have(self, data: bytes) -> bool:
        """Return whether a line of these may be among bytes."""
        if not all(any(needle in data for needle in group) for group in self._needles):
            return False
        if not self.text:
            return True
        lowered = data.lower()
        if not self.text.isascii():
            return all(letters.search(lowered) for letters in self._beyond_ascii)
        return any(needle in lowered for needle in self._lowered)

    @cached_property
    def other_levels(self) -> frozenset[bytes]:
        """How the levels begin, in four letters, that no line of these has in its log."""
        return frozenset(level[:4].encode() for level in LEVELS if level not in self._levels)

    def has(self, line: Line) -> bool:
        """Return whether a line is one of these."""
        return (
            line.level in self._levels
            and (not self.services or line.service in self.services)
            and (self.since is None or line.time >= self.since)
            and (self.until is None or line.time < self.until)
            and all(any(needle in line.raw for needle in group) for group in self._needles)
            and self._is_about(line)
            and (not self.text or self._folded in _searched(line))
        )

    def _is_about(self, line: Line) -> bool:
        if any(run.encode() in line.raw for run in self.about):
            return True
        archives = line.fields.get("archives")
        named = {str(line.fields.get("model")), *(map(str, archives) if isinstance(archives, list) else ())}
        return all(name in named or pattern.search(line.message) for name, pattern in self._words)

    @cached_property
    def _words(self) -> list[tuple[str, re.Pattern[str]]]:
        """The names, as whole words: `shapes` is in `shapes.7` and not in `old-shapes`."""
        return [
            (name, re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")) for name in (self.model, self.archive) if name
        ]

    @cached_property
    def _folded(self) -> str:
        return self.text.casefold()


def _spellings(names: Collection[str]) -> Iterator[bytes]:
    """Names as JSON in ASCII has them, and as they are."""
    for name in names:
        yield from (json.dumps(name)[1:-1].encode(), name.encode(errors="replace"))


def _in_any_form(letters: str) -> re.Pattern[bytes]:
    """What finds letters, in capitals or not, among bytes in small letters; of some the other case is two letters."""
    forms = [
        {form.lower() for form in _spellings({each, each.lower(), each.upper(), each.title(), each.casefold()})}
        for each in letters
    ]
    return re.compile(b"".join(b"(?:" + b"|".join(map(re.escape, sorted(each))) + b")" for each in forms))


def _searched(line: Line) -> str:
    fields = " ".join(map(str, line.fields.values()))
    return f"{line.logger} {line.message} {fields}".casefold()


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """Return the time that `10m`, `2h`, `3d` (ago), a date or a time in ISO 8601 stands for; without a zone it is UTC.

    Raises:
        QueryError: It stands for none.
    """
    try:
        if span := _SPAN.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[span[2]]: int(span[1])})
        time = datetime.fromisoformat(text.strip())
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise QueryError(
            expected_found_fix("a time such as 10m, 2h, 3d or 2026-11-30T14:05", safe_repr(text), "Write one of these.")
        ) from None
