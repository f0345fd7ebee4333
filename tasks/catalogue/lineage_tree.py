"""A lineage as text: a tree of what a thing was made from, and one of what was made from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.catalogue.lineage_nodes import Node


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Nodes by id, and what stands below each; a node that comes again is named, and not opened again."""

    nodes: Mapping[str, Node]
    below: Mapping[str, Sequence[str]]

    def lines(self, root: str) -> Iterator[str]:
        """Yield the lines below a node."""
        yield from self._lines(root, "", {root})

    def _lines(self, parent: str, indent: str, seen: set[str]) -> Iterator[str]:
        children = self.below.get(parent, ())
        for number, child in enumerate(children, 1):
            is_last = number == len(children)
            branch, rest = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            node = self.nodes[child]
            is_new = child not in seen
            seen.add(child)
            yield f"{indent}{branch}{heading(node)}{'' if is_new else ' (see above)'}"
            if is_new:
                trunk = "│  " if self.below.get(child) else "   "
                yield from (f"{indent}{rest}{trunk}{printable(fact)}" for fact in node.facts)
                yield from self._lines(child, indent + rest, seen)


def heading(node: Node) -> str:
    """Return kind and title of a node on one line."""
    return f"{node.kind} {printable(node.title)}{' (deleted)' * node.deleted}"


def printable(text: str) -> str:
    """Return a text of others as one line that commands a terminal nothing."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)
