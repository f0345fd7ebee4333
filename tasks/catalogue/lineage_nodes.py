"""The things that a lineage connects."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class NodeKind(StrEnum):
    """What is made from what, in this order."""

    ARCHIVE = "archive"
    VERSION = "version"
    DEPLOYMENT = "deployment"
    PREDICTION = "prediction"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A thing: `title` names it, `facts` are lines about it, the most important first; `deleted` if it is gone."""

    id: str
    kind: NodeKind
    title: str
    facts: tuple[str, ...] = ()
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Edge:
    """`target` was made from `source`; both are ids of nodes."""

    source: str
    target: str


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Return the second values of pairs by their first, in order."""
    groups: dict[Key, list[Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
