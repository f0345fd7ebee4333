"""The live log: what a version has found in a sample of the images of live requests, as model `predict` writes it.

It is written on behalf of strangers, by processes that may be killed at any time: a line is believed if it is whole and
makes sense, and else counted.
"""

import base64
import errno
import heapq
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.monitoring.profiles import Looks
from tasks.vision.detections import Detections

_NAME = re.compile(r"live-\d{10}\.jsonl")
LONGEST_LINE = 64 << 20  # bytes: a picture may have 32 MiB
_AHEAD_S = 60  # by how much another machine's clock may be ahead

_Share = Annotated[float, Field(ge=0, le=1)]
_Level = Annotated[float, Field(ge=0, le=255)]
_Pixels = Annotated[float, Field(ge=0, le=1e6)]
_Side = Annotated[int, Field(ge=1, le=1_000_000)]
_Class = Annotated[int, Field(ge=0, le=1_000_000)]


class _Line(BaseModel):
    """What a line says; unknown names are those of a later release."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    time: float
    model: str
    version: int
    task: str
    width: _Side
    height: _Side
    brightness: _Level
    contrast: _Level
    sharpness: Annotated[float, Field(ge=0, le=1e3)]
    least: _Share
    found: Annotated[list[tuple[_Class, _Share, _Pixels, _Pixels, _Pixels, _Pixels]], Field(max_length=300)]
    picture: str = ""

    @property
    def looks(self) -> Looks:
        """What the image looks like."""
        return Looks(self.brightness, self.contrast, self.sharpness, (self.width * self.height) ** 0.5)


class _Place(NamedTuple):
    """Where a line is: its file, its first byte and its length."""

    path: Path
    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    """What a version found in the image of a live request, of classify its best class.

    `least` is the confidence from which on it is known. `picture_at` is where the picture is, if it is kept.
    """

    found: Detections
    looks: Looks
    least: float
    picture_at: _Place | None


@dataclass(frozen=True, kw_only=True)
class LiveAnswers:
    """Some answers of a version.

    Attributes:
        answers: Those that were drawn, each picture once.
        logged: How many answers of the version are in the log, of the days that were asked for.
        unreadable: How many lines of the log are no answer.
        ahead: How many answers of the version are from a time to come.
        closed: The files of the log that cannot be read, and why.
    """

    answers: tuple[LiveAnswer, ...]
    logged: int
    unreadable: int
    ahead: int
    closed: Mapping[str, str]


def read_live_log(
    folder: Path, model: tuple[str, int, str], classes: int, days: tuple[datetime, datetime], most: int, seed: int
) -> LiveAnswers:
    """Return what a version has answered in some days, drawn at random if there is more than `most`.

    A picture that was sent again and again counts once: one of the same number of pixels that looks the same to the
    last digit.

    Args:
        folder: That of the log.
        model: Name, version and task.
        classes: Of how many classes the version knows; what it says of others is left out.
        days: The earliest answer, and now.
        most: How many answers at most.
        seed: Of the draw.

    Raises:
        OSError: The folder cannot be read.
    """
    begin, latest = days[0].timestamp(), days[1].timestamp() + _AHEAD_S
    drawn = _Draw(most, seed)
    counts = Counter[str]()
    closed: dict[str, str] = {}
    for path in sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)):
        try:
            with _open(path) as lines:
                for start, text in _read_lines(lines):
                    line = _parse(text)
                    if line is None:
                        counts["unreadable"] += 1
                    elif (line.model, line.version, line.task) == model and line.time > latest:
                        counts["ahead"] += 1
                    elif (line.model, line.version, line.task) == model and line.time >= begin:
                        counts["logged"] += 1
                        if drawn.takes(line.looks):
                            drawn.add(line.looks, _to_answer(line, _Place(path, start, len(text)), classes))
        except FileNotFoundError:  # the oldest may go meanwhile
            continue
        except OSError as error:
            closed[path.name] = error.strerror or str(error)
    return LiveAnswers(
        answers=drawn.answers,
        logged=counts["logged"],
        unreadable=counts["unreadable"],
        ahead=counts["ahead"],
        closed=closed,
    )


def _parse(text: bytes) -> _Line | None:
    try:
        return _Line.model_validate_json(text)
    except ValidationError:
        return None


class _Draw:
    """At most so many answers, drawn at random from those that are offered, one for each picture.

    The looks of a picture and the seed give it a number, and the lowest numbers are drawn (a bottom-k sample): what is
    kept is never more than what is drawn, and a picture that comes again has the number that it had.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most = most
        self._key = seed.to_bytes(8)
        self._drawn: dict[int, LiveAnswer] = {}
        self._highest: list[int] = []  # a heap of the numbers, negated

    def takes(self, looks: Looks) -> bool:
        number = self._number(looks)
        return number not in self._drawn and (len(self._drawn) < self._most or number < -self._highest[0])

    def add(self, looks: Looks, answer: LiveAnswer) -> None:
        number = self._number(looks)
        self._drawn[number] = answer
        heapq.heappush(self._highest, -number)
        if len(self._drawn) > self._most:
            del self._drawn[-heapq.heappop(self._highest)]

    @property
    def answers(self) -> tuple[LiveAnswer, ...]:
        return tuple(self._drawn[number] for number in sorted(self._drawn))

    def _number(self, looks: Looks) -> int:
        return int.from_bytes(blake2b(repr(looks).encode(), digest_size=8, key=self._key).digest())


def _open(path: Path) -> BinaryIO:
    """Neither a link nor a pipe: nothing outside the folder is read, and nobody is waited for."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is no file")


def _read_lines(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty, and its first byte; of one that is too long the beginning."""
    size = os.fstat(lines.fileno()).st_size  # more may come all the time
    while (start := lines.tell()) < size:
        text = part = lines.readline(min(LONGEST_LINE, size - start))
        while len(part) == LONGEST_LINE and not part.endswith(b"\n"):
            part = lines.readline(LONGEST_LINE)
        if text.strip():
            yield start, text


def _to_answer(line: _Line, place: _Place, classes: int) -> LiveAnswer:
    rows = [row for row in line.found if row[0] < classes]
    numbers = np.array(rows, np.float32).reshape(-1, 6)
    sides = np.array([line.width, line.height] * 2, np.float32)
    when = datetime.fromtimestamp(line.time).astimezone()
    found = Detections(
        width=line.width,
        height=line.height,
        xyxy=np.minimum(numbers[:, 2:], sides),
        confidence=numbers[:, 1],
        class_id=np.array([row[0] for row in rows], np.int32),
        source=f"live request at {when:%Y-%m-%d %H:%M:%S %z}",
    )
    return LiveAnswer(found=found, looks=line.looks, least=line.least, picture_at=place if line.picture else None)


def read_picture(answer: LiveAnswer) -> bytes | None:
    """Return the file of the picture that was answered; None if it is not kept, or not any longer."""
    place = answer.picture_at
    if place is None:
        return None
    try:
        with _open(place.path) as lines:
            lines.seek(place.start)
            line = _Line.model_validate_json(lines.read(place.length))
        return base64.b64decode(line.picture, validate=True) if line.looks == answer.looks else None
    except (OSError, ValueError):
        return None
