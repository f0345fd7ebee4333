"""The lines of programs that write no JSON of ours: SeaweedFS, Triton, PostgreSQL, the supervisor, and others.

They are read when somebody asks, not turned into JSON when they are written: a program in between would be one more to
start, to watch and to lose lines in, for each service. Times without a zone are UTC: the services run with TZ=UTC.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

_LEVELS = {
    "I": "info",
    "W": "warning",
    "E": "error",
    "F": "critical",
    "BLAT": "debug",
    "TRAC": "debug",
    "DEBG": "debug",
    "CRIT": "critical",
    "ERRO": "error",
    "LOG": "info",
    "NOTICE": "info",
    "FATAL": "error",
    "PANIC": "critical",
    "EROR": "error",
    **dict.fromkeys(("TRACE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3", "DEBUG4", "DEBUG5", "NOTSET"), "debug"),
    "INFO": "info",
    "WARN": "warning",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "critical",
    "DPANIC": "critical",
}
_GLOG = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d{6}) +(?:\d+ +)?([\w.-]+:\d+)\]? (.*)")
_SUPERVISOR = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),(\d{3}) (CRIT|ERRO|WARN|INFO|DEBG|TRAC|BLAT) (.*)")
_POSTGRES = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{3}) UTC \[(\d+)\] (?:(\S*)@(\S*) )?([A-Z]+\d?):  (.*)")
_PYTHON = re.compile(r"(\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d) ([A-Z]+) ([\w.]+): (.*)")
_DJANGO = re.compile(r"\[(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),(\d{3})\] \[([^\]]+)\] \[([A-Z]+)\] (.*)")
_LOGFMT = re.compile(r'(?:ts|time)=(\S+) (?:.*? )?level=(\w+) (?:.*? )?msg=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_OLD = timedelta(days=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a line says of itself before, or beside, its message."""

    time: datetime
    level: str
    logger: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def read_header(text: str, written: datetime) -> Header | None:
    """Return what a line of text says of itself; None if it says no time.

    `written` is when the file was written last: glog writes no year.
    """
    readers = _READERS.get(text[:1], ())
    try:
        return next(filter(None, (reader(text, written) for reader in readers)), None)
    except ValueError:  # a month of 13: no time after all
        return None


def read_object(entry: Mapping[str, Any]) -> Header | None:
    """Return what a JSON object says of itself, ours or that of another program such as Caddy; None without a time."""
    try:
        time = _moment(next(entry[name] for name in ("time", "ts", "timestamp") if name in entry))
    except (StopIteration, ValueError, TypeError, OverflowError, OSError):
        return None
    level = str(entry.get("level") or entry.get("severity") or "info")
    message = next((entry[name] for name in ("message", "msg") if name in entry), "")
    taken = {"time", "ts", "timestamp", "level", "severity", "message", "msg", "logger"}
    fields = {name: value for name, value in entry.items() if name not in taken}
    return Header(
        time=time,
        level=_LEVELS.get(level.upper(), "info"),
        logger=str(entry.get("logger", "")),
        message=message if isinstance(message, str) else str(message),
        fields=fields | _of_proxy(entry),
    )


def _moment(value: object) -> datetime:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    time = datetime.fromisoformat(str(value))
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _of_proxy(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of our own requests, of one that Caddy has passed on."""
    request = entry.get("request")
    if not isinstance(request, dict):
        return {}
    headers = request.get("headers")
    given = headers.get("X-Request-Id") if isinstance(headers, dict) else None
    fields = {"method": request.get("method"), "path": str(request.get("uri", "")).partition("?")[0]}
    if isinstance(given, list) and given:
        fields["request_id"] = given[0]
    return fields


def _glog(text: str, written: datetime) -> Header | None:
    if not (found := _GLOG.match(text)):
        return None
    level, month, day, clock, logger, message = found.groups()
    time = datetime.fromisoformat(f"{written.year}-{month}-{day}T{clock}").replace(tzinfo=UTC)
    if time > written + _OLD:
        time = time.replace(year=time.year - 1)
    quoted = len(message) > 1 and message[0] == message[-1] == '"'
    return Header(time=time, level=_LEVELS[level], logger=logger, message=message[1:-1] if quoted else message)


def _supervisor(text: str, written: datetime) -> Header | None:  # noqa: ARG001
    if not (found := _SUPERVISOR.match(text)):
        return None
    day, clock, ms, level, message = found.groups()
    return Header(time=_utc(day, f"{clock}.{ms}"), level=_LEVELS[level], logger="supervisord", message=message)


def _postgres(text: str, written: datetime) -> Header | None:  # noqa: ARG001
    if not (found := _POSTGRES.match(text)):
        return None
    day, clock, process, user, database, level, message = found.groups()
    fields: dict[str, Any] = {"process": int(process)}
    if database and database != "[unknown]":
        fields |= {"database": database, "database_user": user}
    known = _LEVELS.get(level)
    said = message if known else f"{level}: {message}"  # a DETAIL, a HINT or the STATEMENT of the line before
    return Header(time=_utc(day, clock), level=known or "info", logger="postgres", message=said, fields=fields)


def _python(text: str, written: datetime) -> Header | None:  # noqa: ARG001
    if not (found := _PYTHON.match(text)):
        return None
    year, month, day, clock, level, logger, message = found.groups()
    return Header(
        time=_utc(f"{year}-{month}-{day}", clock), level=_LEVELS.get(level, "info"), logger=logger, message=message
    )


def _django(text: str, written: datetime) -> Header | None:  # noqa: ARG001
    if not (found := _DJANGO.match(text)):
        return None
    day, clock, ms, logger, level, message = found.groups()
    return Header(
        time=_utc(day, f"{clock}.{ms}"), level=_LEVELS.get(level, "info"), logger=logger.split(":")[0], message=message
    )


def _logfmt(text: str, written: datetime) -> Header | None:  # noqa: ARG001
    if not (found := _LOGFMT.match(text)):
        return None
    time, level, quoted, bare = found.groups()
    return Header(
        time=_moment(time.strip('"')), level=_LEVELS.get(level.upper(), "info"), logger="", message=quoted or bare or ""
    )


def _utc(day: str, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)


_READERS: dict[str, tuple[Callable[[str, datetime], Header | None], ...]] = {
    **dict.fromkeys("IWEF", (_glog,)),
    **dict.fromkeys("0123456789", (_postgres, _supervisor, _python)),
    "[": (_django,),
    "t": (_logfmt,),
}
