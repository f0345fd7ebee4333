"""A log line, whatever service wrote it, and how a person and a program see it."""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks.log_lines import to_text

LEVELS = ("debug", "info", "warning", "error", "critical")
TRACEBACK = "traceback"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line: when (UTC), how grave, of which service and logger, and what it says.

    `fields` has what is known besides: flow_run_id, flow, model, archives, request_id, user, and more. `raw` is what
    the file has. `start` is where it begins in the file with the number `file`, in bytes.
    """

    time: datetime
    level: str
    service: str
    logger: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    file: int = 0
    start: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the line as all programs get it."""
        known = {"time": to_text(self.time), "level": self.level, "service": self.service, "logger": self.logger}
        return {**known, "message": self.message, **self.fields}

    def to_json(self) -> str:
        """Return the line as JSON in ASCII, which no terminal takes for a command."""
        return json.dumps(self.to_dict(), default=str)

    def to_words(self) -> str:
        """Return the line as a person reads it: what is in further rows is indented, so none of them looks like one."""
        words = [to_text(self.time)[:23].replace("T", " "), f"{self.service:<12}"]
        if self.level in LEVELS[2:]:
            words.append(self.level.upper())
        return "\n    ".join([" ".join([*words, show_controls(self.first)]), *map(show_controls, self.others)])

    @property
    def first(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]

    @property
    def others(self) -> list[str]:
        """The further lines of the message, and those of the traceback."""
        return [
            *self.message.split("\n")[1:],
            *str(self.fields.get(TRACEBACK) or "").splitlines(),
        ]


def show_controls(text: str) -> str:
    r"""Return a text whose control signs, and signs that turn or hide text, are shown as `\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(sign) for sign in text)


def _shown(sign: str) -> str:
    if sign == "\t":
        return "    "
    # Controls, signs of format (that turn text or have no width), halves of signs, line ends of Unicode.
    return sign.encode("unicode_escape").decode() if unicodedata.category(sign) in _HIDDEN else sign


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
