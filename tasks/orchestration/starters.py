"""Who started a run: two tags, which its child runs and its retries inherit.

The front door of Prefect writes them on what a visitor starts; nobody else can. A run without them was started by the
machine itself: a schedule, or its owner with Prefect's own password.
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
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return self.role == _ADMIN


_CURRENT: ContextVar[Starter | None] = ContextVar("starter", default=None)


def is_starter_tag(tag: str) -> bool:
    """Return whether a tag says who started a run."""
    return tag.startswith((NAME_TAG, ROLE_TAG))


def starter_of(tags: Collection[str]) -> Starter | None:
    """Return who started the run with these tags; None if no person did."""
    names, roles = ([tag.removeprefix(kind) for tag in tags if tag.startswith(kind)] for kind in (NAME_TAG, ROLE_TAG))
    return Starter(name=names[0], role=roles[0]) if len(names) == 1 and len(roles) == 1 else None


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
