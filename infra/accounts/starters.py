"""Visitors as the starters of runs."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tasks.errors import expected_found_fix
from tasks.orchestration import starters
from tasks.orchestration.starters import UNKNOWN, Starter, is_starter_tag

_ROLES = {str(role): role for role in UserRole}
_START_ANOTHER = "Ask an admin to retry it, or start another run with its parameters."


def starter_of(visitor: Visitor) -> Starter:
    """Return the visitor as the starter of a run."""
    return Starter(name=visitor.name, role=str(visitor.role))


def starter_of_child(parent: Collection[str]) -> Starter:
    """Return for whom a run goes that a worker elsewhere starts, by the tags of the run that it says it carries out.

    That is the starter of that run, who may no more than an operator here: the word of a machine takes nobody's model
    away. One of the stack itself may everything, so what it starts is of nobody.
    """
    starter = starters.starter_of(parent)
    if starter is None or starter.role not in _ROLES:
        return UNKNOWN
    return replace(starter, role=str(min(_ROLES[starter.role], UserRole.OPERATOR)))


def with_starter(tags: Iterable[str], starter: Starter) -> list[str]:
    """Return tags that name this starter and no other."""
    return [*(tag for tag in tags if not is_starter_tag(tag)), *starter.tags]


def reason_not_to_retry(tags: Collection[str], visitor: Visitor) -> str:
    """Return why a visitor must not retry the run with these tags; empty: they may.

    It goes on in the name and with the role of who started it: so that has to be the visitor, with no higher role than
    now, or the visitor is an admin.
    """
    starter = starters.starter_of(tags)
    no_more = {str(role) for role in UserRole if role <= visitor.role}
    if visitor.role >= UserRole.ADMIN or (starter and starter.name == visitor.name and starter.role in no_more):
        return ""
    found = f"one that {starter.name} has started as {starter.role}" if starter else "one of the stack itself"
    return expected_found_fix(f"a run that {visitor.name} has started as {visitor.role}", found, _START_ANOTHER)
