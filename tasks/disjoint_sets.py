"""Disjoint sets (union-find): items that are linked, one by one or through others, are in one set."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class DisjointSets(Generic[Item]):
    """Each item is in a set of its own until it is joined to another; each set has a root that stands for it."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._parent = {item: item for item in items}

    def root(self, item: Item) -> Item:
        """Return the item that stands for the set of `item` (found by path halving)."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, item: Item, other: Item) -> None:
        """Make one set of the sets of two items; the root of `other` stands for it."""
        self._parent[self.root(item)] = self.root(other)

    def sets(self) -> list[list[Item]]:
        """Return the items of each set, in the order in which they were given."""
        members: defaultdict[Item, list[Item]] = defaultdict(list)
        for item in self._parent:
            members[self.root(item)].append(item)
        return list(members.values())
