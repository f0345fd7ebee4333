"""The champions of a model in order, the present one last."""

import json
from collections.abc import Sequence

MAX_CHAMPIONS = 100  # a tag of a registered model holds 5,000 characters


def parse_history(tag: str | None, champion: int | None) -> list[int]:
    """Return the versions in a tag, corrected so that `champion`, the version of the alias, is the last.

    It is not if a run was killed between alias and tag, or a person moved the alias.
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
    """Return the champions after a rollback to `version`, which drops those after it; a new version is appended."""
    indices = [index for index, champion in enumerate(history) if champion == version]
    return [*history[: indices[-1] + 1]] if indices else [*history, version]


def history_without(history: Sequence[int], version: int) -> list[int]:
    """Return the champions after a version is deleted; none of them follows itself."""
    left = [champion for champion in history if champion != version]
    return [champion for index, champion in enumerate(left) if index == 0 or left[index - 1] != champion]
