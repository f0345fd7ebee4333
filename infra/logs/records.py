"""The lines of a block of a log file: those of several rows, such as a traceback, are one line again.

What a row says of itself is believed only of programs that write JSON, in which no text of a stranger can end its own
quotes. Others log texts as they came: there JSON is a text like any other. Whose a line is, its file says.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from infra.logs.files import LONGEST_LINE, Block, LogFile, shorten
from infra.logs.formats import Header, read_header, read_object
from infra.logs.lines import Line
from infra.logs.query import Query
from infra.supervisord import WORKER
from tasks.log_lines import FLOW
from tasks.orchestration.run_log import is_routine

OURS = b'{"time": "'  # how a line of ours begins; its time follows, and has one length
_TIME = slice(len(OURS), len(OURS) + len("2026-11-30T14:05:00.000000Z"))
_LEVEL = slice(_TIME.stop + len('", "level": "'), _TIME.stop + len('", "level": "') + 4)
_GLOG_LEVELS = {b"I": b"info", b"W": b"warn", b"E": b"erro", b"F": b"crit"}
_TRACEBACK = "Traceback (most recent call last):"
_BETWEEN = ("During handling of the above", "The above exception was")  # two tracebacks of one error
_EVERYTHING = Query()
_OF_OURS = frozenset({"prefect", "mlflow", "studio"})  # and workers: they write lines of ours
_OF_JSON = _OF_OURS | {"front-door"}
AUDITING = "studio"  # who writes entries of the audit log
AUDIT = b'{"audit": '  # how they begin


@dataclass(kw_only=True)
class _Rows:
    """A line of text that may go on in the next row."""

    line: Line
    is_traceback: bool = False
    size: int = 0

    def goes_on_with(self, text: str) -> bool:
        """Return whether a row without a time belongs to this line."""
        return self.size < LONGEST_LINE and (self.is_traceback or text.startswith(("\t", "  ")))

    def add(self, text: str, raw: bytes) -> None:
        """Add such a row."""
        self.size += len(raw)
        self.line = replace(self.line, message=f"{self.line.message}\n{text}", raw=self.line.raw + b"\n" + raw)

    def ends_with(self, text: str) -> bool:
        """Return whether this row was the last one: that of a traceback which names the error."""
        return self.is_traceback and bool(text) and not text.startswith((" ", *_BETWEEN))


def read_lines(service: str, file: LogFile, blocks: Iterable[Block], query: Query = _EVERYTHING) -> Iterator[Line]:
    """Yield the lines of blocks that follow one another, those that a query may choose, in the order of the file.

    What has no time of its own has that of the line before; at the beginning, when the file was written last.
    """
    reader = _Reader(service, file, query)
    for block in blocks:
        yield from reader.read(block)
    yield from reader.end()


class _Reader:
    """Reads a file, and knows how late it is there."""

    def __init__(self, service: str, file: LogFile, query: Query) -> None:
        self._service = service
        self._file = file
        self._query = query
        self._is_ours = _is_ours(service)
        self._hides_audit = service == AUDITING and not query.audit
        self._time = file.written
        self._passed = b""  # a row that was passed over: its time is read when it is needed
        self._rows: _Rows | None = None

    def read(self, block: Block) -> Iterator[Line]:
        if not self._query.may_have(block.data) or self._is_before(block):
            self._passed = block.data[block.data.rfind(b"\n") + 1 :]
            yield from self.end()
            return
        for start, raw in _rows_of(block, self._service):
            if self._hides_audit and AUDIT in raw:
                continue
            if self._may_pass(raw):
                self._passed = raw
                if self._rows:
                    yield from self.end()
            else:
                yield from self._take(start, raw)

    def _is_before(self, block: Block) -> bool:
        """Whether a block ends, and begins, before the time from which on lines are asked for."""
        since = self._query.since
        if since is None:
            return False
        ends = (block.data[block.data.rfind(b"\n") + 1 :], block.data.partition(b"\n")[0])
        times = (_time_of(self._service, raw, self._file) for raw in ends)
        return all(time is not None and time < since for time in times)

    def _may_pass(self, raw: bytes) -> bool:
        """Whether a row is the beginning of a line that is not asked for, as can be seen without reading it."""
        query = self._query
        if self._is_ours and raw.startswith(OURS):
            is_before = raw[_TIME] < query.since_text and raw[_LEVEL] != b""
            return raw[_LEVEL] in query.other_levels or is_before or not query.may_have(raw)
        return _GLOG_LEVELS.get(raw[:1]) in query.other_levels and raw[1:5].isdigit()

    def end(self) -> Iterator[Line]:
        """Yield the line that might have gone on."""
        rows, self._rows = self._rows, None
        if rows:
            yield rows.line

    def _take(self, start: int, raw: bytes) -> Iterator[Line]:
        header = _read(self._service, raw, self._file)
        if header is None:
            text = raw.decode("utf-8", "backslashreplace")
            if self._rows and self._rows.goes_on_with(text):
                self._rows.add(text, raw)
                if self._rows.ends_with(text):
                    yield from self.end()
                return
            header = self._without_time(text)
        yield from self.end()
        self._time, self._passed = header.time, b""
        line = _line(self._service, header, raw, self._file.number, start)
        if self._is_ours and raw.startswith(OURS):
            yield line
        else:
            self._rows = _Rows(line=line, is_traceback=header.message.startswith(_TRACEBACK))

    def _without_time(self, text: str) -> Header:
        level = "error" if text.startswith(_TRACEBACK) else "info"
        time = _time_of(self._service, self._passed, self._file) or self._time
        return Header(time=time, level=level, logger="", message=text)


def _is_ours(service: str) -> bool:
    return service in _OF_OURS or WORKER in service


def _time_of(service: str, raw: bytes, file: LogFile) -> datetime | None:
    header = _read(service, raw, file)
    return header.time if header else None


def has_time(service: str, raw: bytes, file: LogFile) -> bool:
    """Return whether a row of a service says when it was written, and so begins a line."""
    return (raw.startswith(OURS) and _is_ours(service)) or _time_of(service, raw, file) is not None


def _rows_of(block: Block, service: str) -> Iterator[tuple[int, bytes]]:
    """The rows of a block with their places; lines of ours that became one row, as two wrote at once, are two again."""
    start = block.start
    may_be_joined = _is_ours(service)
    for raw in block.data.split(b"\n"):
        if may_be_joined and raw.find(OURS, 1) > 0 and (lines := _joined_lines(raw, service)):
            yield from ((start + place, shorten(line, len(line))) for place, line in lines)
        elif raw and not raw.isspace():
            yield start, shorten(raw, len(raw))
        start += len(raw) + 1


def _joined_lines(raw: bytes, service: str) -> list[tuple[int, bytes]]:
    """The lines that became one row, with their places in it; none if it is not made of whole lines of the service."""
    places = [0]
    while (place := raw.find(OURS, places[-1] + 1)) > 0:
        places.append(place)
    lines = [(begin, raw[begin:end]) for begin, end in pairwise([*places, len(raw)])]
    return lines if all(_is_of(service, line) for _, line in lines) else []


def _is_of(service: str, raw: bytes) -> bool:
    """Whether bytes are a whole line that a service of ours writes."""
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "service" in entry and entry["service"] == _writer(service, entry["service"])


def _writer(service: str, named: object) -> str:
    """Who wrote a line in the log of a service that names a writer: what a flow run says is in its worker's log."""
    return FLOW if named == FLOW and WORKER in service else service


def _read(service: str, raw: bytes, file: LogFile) -> Header | None:
    """What a row with a time says of itself; None if it has no time."""
    if not raw.startswith(b"{"):
        return read_header(raw.decode("utf-8", "backslashreplace"), file.written)
    if service not in _OF_JSON and not _is_ours(service):
        return None
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return read_object(entry)


def _line(service: str, header: Header, raw: bytes, file: int, start: int) -> Line:
    fields = dict(header.fields)
    named = fields.pop("service", service)
    level = header.level
    if level == "info" and is_routine(header.logger, 0, header.message):
        level = "debug"  # Prefect says it of every run
    return Line(
        time=header.time,
        level=level,
        service=_writer(service, named),
        logger=header.logger,
        message=header.message,
        fields=fields,
        raw=raw,
        file=file,
        start=start,
    )
