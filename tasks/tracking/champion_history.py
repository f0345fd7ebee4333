"""The line of champions of a model: which version clients got, one after the other, the present one last."""

import json
from collections.abc import Sequence

# A tag of a registered model holds 5,000 characters; nobody goes back further.
_MOST = 100


def read_line(tag: str | None, champion: int | None) -> list[int]:
    """The line that a tag says, mended where `champion`, to whom the alias points, is not its last.

    A run that is killed between the alias and the tag leaves that; a person who moves the alias, too.
    """
    line = [int(version) for version in json.loads(tag)] if tag else []
    return line if champion is None else back_to(line, champion)


def write_line(line: Sequence[int]) -> str:
    """The tag that `read_line` reads."""
    return json.dumps(list(line[-_MOST:]))


def onward(line: Sequence[int], version: int) -> list[int]:
    """The line after a deployment."""
    return [*line] if line and line[-1] == version else [*line, version]


def back_to(line: Sequence[int], version: int) -> list[int]:
    """The line after a roll-back: those after the last time of `version` are forgotten.

    One that never was champion comes last.
    """
    places = [place for place, other in enumerate(line) if other == version]
    return [*line[: places[-1] + 1]] if places else [*line, version]
