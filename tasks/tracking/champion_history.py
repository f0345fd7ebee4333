"""The champions of a model, one after the other, the present one last."""

import json
from collections.abc import Sequence

# A tag of a registered model holds 5,000 characters; nobody goes back further.
MAX_CHAMPIONS = 100


def parse_history(tag: str | None, champion: int | None) -> list[int]:
    """Return the versions in a tag, corrected if `champion`, the version of the alias, is not the last of them.

    A run that is killed between alias and tag leaves that; so does a person who moves the alias.
    """
    history = [int(version) for version in json.loads(tag)] if tag else []
    return history if champion is None else history_after_rollback(history, champion)


def dump_history(history: Sequence[int]) -> str:
    """Return the tag that `parse_history` reads."""
    return json.dumps(list(history[-MAX_CHAMPIONS:]))


def history_after_deploy(history: Sequence[int], version: int) -> list[int]:
    """Return the champions after a deployment of `version`."""
    return [*history] if history and history[-1] == version else [*history, version]


def history_after_rollback(history: Sequence[int], version: int) -> list[int]:
    """Return the champions after a roll-back to `version`: those after its last time are gone.

    A version that never was champion comes last.
    """
    indices = [index for index, champion in enumerate(history) if champion == version]
    return [*history[: indices[-1] + 1]] if indices else [*history, version]
