"""Visitors as the starters of runs."""

from collections.abc import Iterable

from infra.accounts.visitors import Visitor
from tasks.orchestration.starters import Starter, is_starter_tag


def starter_of(visitor: Visitor) -> Starter:
    """Return the visitor as the starter of a run."""
    return Starter(name=visitor.name, role=str(visitor.role))


def with_starter(tags: Iterable[str], visitor: Visitor) -> list[str]:
    """Return the tags of a run that a visitor makes: this starter, and no other."""
    return [*(tag for tag in tags if not is_starter_tag(tag)), *starter_of(visitor).tags]
