"""The line of champions of a model: which version clients got, one after the other, the present one last."""

import json
from collections.abc import Sequence

# A tag of a registered model holds 5,000 characters; nobody goes back further.
_MOST = 100


def parse_history(tag: str | None, champion: int | None) -> list[int]:
    """The line that a tag says, mended where `champion`, to whom the alias points, is not its last.

    A run that is killed between the alias and the tag leaves that; a person who moves the alias, too.
    """
    line = [int(version) for version in json.loads(tag)] if tag else []
    return line if champion is None else history_after_rollback(line, champion)


def dump_history(line: Sequence[int]) -> str:
    """The tag that `parse_history` reads."""
    return json.dumps(list(line[-_MOST:]))


def history_after_deploy(line: Sequence[int], version: int) -> list[int]:
    """The line after a deployment."""
    return [*line] if line and line[-1] == version else [*line, version]


def history_after_rollback(line: Sequence[int], version: int) -> list[int]:
    """The line after a roll-back: those after the last time of `version` are forgotten.

    One that never was champion comes last.
    """
    places = [place for place, other in enumerate(line) if other == version]
    return [*line[: places[-1] + 1]] if places else [*line, version]
