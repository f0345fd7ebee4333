"""Visitors as the starters of runs."""

from collections.abc import Collection, Iterable

from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.errors import expected_found_fix
from tasks.orchestration import starters
from tasks.orchestration.starters import Starter, is_starter_tag

_START_ANOTHER = "Ask an admin to retry it, or start another run with its parameters."


def starter_of(visitor: Visitor) -> Starter:
    """Return the visitor as the starter of a run."""
    return Starter(name=visitor.name, role=str(visitor.role))


def with_starter(tags: Iterable[str], visitor: Visitor) -> list[str]:
    """Return the tags of a run that a visitor makes: this starter, and no other."""
    return [*(tag for tag in tags if not is_starter_tag(tag)), *starter_of(visitor).tags]


def reason_not_to_retry(tags: Collection[str], visitor: Visitor) -> str:
    """Return why a visitor must not retry the run with these tags; empty: they may.

    It goes on in the name and with the role of who started it: so that has to be the visitor, with no higher role than
    now, or the visitor is an admin.
    """
    starter = starters.starter_of(tags)
    no_more = {str(role) for role in UserRole if role <= visitor.role}
    if visitor.role >= UserRole.ADMIN or (starter and starter.name == visitor.name and starter.role in no_more):
        return ""
    found = f"one that {starter.name} has started as {starter.role}" if starter else "one of the machine itself"
    return expected_found_fix(f"a run that {visitor.name} has started as {visitor.role}", found, _START_ANOTHER)
