"""Passwords and keys of the stack that machines elsewhere were told: a rotation keeps them unless it is told not to.

Their names are in `remote-keys.json` of the state folder; what a machine has of its own, by its account, is not.
"""

import json
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

from infra.command_errors import StackError
from infra.rotation.state import alone, is_under_way
from infra.stack_settings import SECRETS, StackSettings, write_private

FILE = "remote-keys.json"
P = ParamSpec("P")
Make = Callable[Concatenate[StackSettings, P], dict[str, str]]


def read(state: Path) -> set[str]:
    """Return the names of the secrets that machines elsewhere have.

    Raises:
        StackError: The file is damaged.
    """
    path = state / FILE
    try:
        return set(json.loads(path.read_text()))
    except FileNotFoundError:
        return set()
    except (ValueError, TypeError) as error:
        raise StackError(
            f"Expected names of secrets in {path}, found what are none: {error}. Remove it, and print the files of all "
            "machines elsewhere again (`studio worker-env`, `studio triton-env`)."
        ) from error


def forget(state: Path, changed: Iterable[str]) -> None:
    """Take those away whose values have changed: what machines elsewhere have of them opens nothing."""
    known = read(state)
    if left := known - {*changed}:
        write_private(state / FILE, json.dumps(sorted(left)))
    else:
        (state / FILE).unlink(missing_ok=True)


def remembered(make: Make[P]) -> Make[P]:
    """Have what makes the variables of a machine elsewhere write down which secrets of the stack are among them.

    What it returns is not made while keys are rotated: it would open nothing afterwards.
    """

    @wraps(make)
    def made(settings: StackSettings, /, *args: P.args, **kwargs: P.kwargs) -> dict[str, str]:
        state = settings.state_dir
        with alone(state):
            if is_under_way(state):
                raise StackError(
                    "Expected keys that stay, found a rotation of the keys that was cut short: `studio rotate-keys` "
                    "ends it, then this again."
                )
            known = read(state)
            found = make(settings, *args, **kwargs)
            told = {name for name in SECRETS if any(settings.secrets[name] in value for value in found.values())}
            if told - known:
                write_private(state / FILE, json.dumps(sorted(known | told)))
        return found

    return made
