"""Lines of all services in order of time, from either end, and as they are written."""

import contextlib
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from infra.logs.files import Block, LogFile, list_services, open_logs
from infra.logs.lines import Line
from infra.logs.query import Query
from infra.logs.records import has_time, read_lines
from infra.supervisord import WORKER
from tasks.log_lines import FLOW

POLL_S = 0.5
_WINDOW = 256  # lines of a service that are put in order: threads write theirs some milliseconds late
_CARRIED = 1 << 18  # bytes of rows without a time that are read with the rows before them


Check = Callable[[], None]  # raises SearchEndedError if a search has to end


class SearchEndedError(Exception):
    """A search has to end before all lines were read."""


def go_on() -> None:
    """Let a search read all lines."""


class Place(NamedTuple):
    """Up to where the log of a service has been read from its end: this place in the file of that number."""

    file: int
    start: int


def read_forwards(folder: Path, query: Query, others: Iterable[Line] = ()) -> Iterator[Line]:
    """Yield the lines that a query chooses, the oldest first, merged with `others`, which are in order."""
    with contextlib.ExitStack() as stack:
        sources: list[Iterator[Line]] = []
        for service in _services(folder, query):
            files = stack.enter_context(open_logs(folder, service))
            sources.append(_in_order(_oldest_first(service, files, query)))
        yield from each_once(heapq.merge(*sources, others, key=_time))


def read_backwards(
    folder: Path, query: Query, places: Mapping[str, Place], others: Iterable[Line] = (), check: Check = go_on
) -> Iterator[tuple[str, Line]]:
    """Yield the lines that a query chooses with the service whose log has them, the newest first.

    `places` is where each service was left before: its lines from there on are not read again. Those of `others`, which
    are in this order too, have no service. `check` is asked before each block of a file is read.

    Raises:
        SearchEndedError: `check` did.
    """
    with contextlib.ExitStack() as stack:
        sources: list[Iterator[tuple[str, Line]]] = []
        for service in _services(folder, query):
            files = stack.enter_context(open_logs(folder, service))
            sources.append(_named(service, _newest_first(service, files, query, places.get(service), check)))
        yield from heapq.merge(*sources, _named("", others), key=lambda found: found[1].time, reverse=True)


def follow(folder: Path, query: Query, is_over: Callable[[], bool]) -> Iterator[Line]:
    """Yield the lines that a query chooses, and then new ones as they are written, until `is_over`.

    That is asked twice a second.
    """
    read: dict[int, int] = {}  # up to where, by the number of the file
    while True:
        ended = is_over()  # before the reading: nothing is then missed
        new, read = _read_on(folder, query, read)
        yield from sorted(new, key=_time)
        if ended:
            return
        time.sleep(POLL_S)


def _read_on(folder: Path, query: Query, read: Mapping[int, int]) -> tuple[list[Line], dict[int, int]]:
    """The lines behind what has been read, and up to where files have been read now.

    A row without an end is still being written. A file that is shorter than what was read of it is a new one.
    """
    lines: list[Line] = []
    ends: dict[int, int] = {}
    for service in _services(folder, query):
        with open_logs(folder, service) as files:
            for file in files:
                start = read.get(file.number, 0)
                start = start if start <= file.size else 0
                whole = replace(file, size=file.last_line_end(start))
                ends[file.number] = whole.size
                if whole.size > start:
                    found = read_lines(service, whole, whole.forwards(start), query)
                    lines += filter(query.has, found)
    return lines, ends


def _services(folder: Path, query: Query) -> list[str]:
    """The services whose logs may have a line: what flow runs say is in the log of their worker."""
    known = list_services(folder)
    flows = {name for name in known if WORKER in name and FLOW in query.services}
    return [name for name in known if not query.services or name in flows or name in query.services]


def _oldest_first(service: str, files: list[LogFile], query: Query) -> Iterator[Line]:
    for file in reversed(files):
        if query.since is not None and file.written < query.since:
            continue
        yield from filter(query.has, read_lines(service, file, file.forwards(), query))


def _newest_first(
    service: str, files: list[LogFile], query: Query, place: Place | None, check: Check
) -> Iterator[Line]:
    if place is not None:
        known = [file.number for file in files]
        files = files[known.index(place.file) :] if place.file in known else []
    for file in files:
        if query.since is not None and file.written < query.since:
            return
        end = min(place.start, file.size) if place is not None and place.file == file.number else file.size
        for block in _joined(service, file, end):
            check()
            yield from reversed([line for line in read_lines(service, file, [block], query) if query.has(line)])


def _joined(service: str, file: LogFile, end: int) -> Iterator[Block]:
    """The blocks of a file from its end, each beginning with a row that has a time."""
    carried = b""
    for start, data in file.backwards(end):
        data = data + b"\n" + carried if carried else data  # noqa: PLW2901
        place = 0
        while start and place < min(len(data), _CARRIED) and not has_time(service, _row(data, place), file):
            place = data.find(b"\n", place) + 1 or len(data)
        if place >= min(len(data), _CARRIED):
            place = 0  # so many rows without a time do not belong together
        carried = data[:place].removesuffix(b"\n")
        yield Block(start + place, data[place:])


def _row(data: bytes, place: int) -> bytes:
    end = data.find(b"\n", place)
    return data[place : end if end >= 0 else len(data)]


def _in_order(lines: Iterator[Line]) -> Iterator[Line]:
    """Put in order what is nearly so."""
    window: list[tuple[datetime, int, Line]] = []
    for number, line in enumerate(lines):
        entry = (line.time, number, line)
        if len(window) < _WINDOW:
            heapq.heappush(window, entry)
        else:
            yield heapq.heappushpop(window, entry)[2]
    while window:
        yield heapq.heappop(window)[2]


def each_once(lines: Iterable[Line]) -> Iterator[Line]:
    """Leave out what a run has said both in the log of its worker and in Prefect's."""
    seen = Seen()
    yield from (line for line in lines if not seen.has(line))


class Seen:
    """What was said at one time, of lines in order."""

    def __init__(self) -> None:
        self._time: datetime | None = None
        self._messages = set[str]()

    def has(self, line: Line) -> bool:
        """Return whether a line of a run, of the same time, has said the same; remembers this one."""
        if "flow_run_id" not in line.fields:
            return False
        if line.time != self._time:
            self._time, self._messages = line.time, set()
        known = line.message in self._messages
        self._messages.add(line.message)
        return known


def _named(service: str, lines: Iterable[Line]) -> Iterator[tuple[str, Line]]:
    for line in lines:
        yield service, line


def _time(line: Line) -> datetime:
    return line.time
