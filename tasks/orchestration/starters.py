"""Who started a run: two tags, which its child runs and its retries inherit.

The front door of Prefect writes them with what a visitor starts, and no visitor can take them off or write them. What a
run on a worker elsewhere starts has those of that run, which the worker names: so a worker can start runs for anybody
whose run is at work, with an operator's rights at most. A run without any was started by the stack itself: a schedule,
an automation, its owner with Prefect's own password, or anybody where there are no accounts. One whose tags do not name
one person is of nobody who may more than start it.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from prefect import runtime

NAME_TAG = "started-by:"
ROLE_TAG = "role:"
_ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Starter:
    """A person, and what they might do when they started it: viewer, operator or admin."""

    name: str
    role: str

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return [f"{NAME_TAG}{self.name}", f"{ROLE_TAG}{self.role}"]

    @property
    def is_known(self) -> bool:
        """Whether it is a person."""
        return self != UNKNOWN

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return self.role == _ADMIN


UNKNOWN = Starter(name="?", role="?")  # no account has such a name
_CURRENT: ContextVar[Starter | None] = ContextVar("starter", default=None)


def is_starter_tag(tag: str) -> bool:
    """Return whether a tag says who started a run."""
    return tag.startswith((NAME_TAG, ROLE_TAG))


def starter_of(tags: Collection[str]) -> Starter | None:
    """Return who started the run with these tags; None if no person did, UNKNOWN if they do not name one person."""
    names, roles = ({tag.removeprefix(kind) for tag in tags if tag.startswith(kind)} for kind in (NAME_TAG, ROLE_TAG))
    if not names and not roles:
        return None
    return Starter(name=names.pop(), role=roles.pop()) if len(names) == len(roles) == 1 else UNKNOWN


@contextmanager
def starting_for(starter: Starter | None) -> Iterator[None]:
    """Have what is started in this block, and in threads that it starts, be started for this person."""
    token = _CURRENT.set(starter)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_starter() -> Starter | None:
    """Return for whom a run is started now: who asks for it, or who started the present run."""
    return _CURRENT.get() or starter_of(runtime.flow_run.tags or ())


def starter_tags() -> list[str]:
    """Return the tags of the runs that are started now."""
    starter = current_starter()
    return starter.tags if starter else []
