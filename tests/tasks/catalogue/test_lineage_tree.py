"""The text of a lineage."""

from tasks.catalogue.lineage import Lineage
from tasks.catalogue.lineage_nodes import Edge, Node, NodeKind


def text_of(*edges: str, titles: str = "abc", root: str = "a") -> str:
    """The text of a graph of archives with a fact each; an edge is two letters, source and target."""
    nodes = tuple(Node(id=each, kind=NodeKind.ARCHIVE, title=each, facts=(f"fact {each}",)) for each in titles)
    made = tuple(Edge(source=edge[0], target=edge[1]) for edge in edges)
    return Lineage(name="x", roots=(root,), nodes=nodes, edges=made).to_text()


def test_a_tree_has_each_thing_below_what_it_was_made_from() -> None:
    assert text_of("ab", "ac", "bc").splitlines() == [
        "archive a",
        "  fact a",
        "used for",
        "├─ archive b",
        "│  │  fact b",
        "│  └─ archive c",
        "│        fact c",
        "└─ archive c (see above)",
    ]


def test_what_a_thing_was_made_from_comes_first() -> None:
    assert text_of("ab", "bc", root="b").splitlines() == [
        *("archive b", "  fact b"),
        *("made from", "└─ archive a", "      fact a"),
        *("used for", "└─ archive c", "      fact c"),
    ]


def test_a_circle_ends() -> None:
    assert "archive a (see above)" in text_of("ab", "ba")


def test_a_name_commands_no_terminal() -> None:
    titles = "\x1b"
    assert text_of(titles=titles, root=titles).splitlines() == ["archive �", "  fact �"]
