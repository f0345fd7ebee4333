"""The picture of a lineage."""

from xml.etree import ElementTree as ET

import pytest

from tasks.catalogue.lineage_nodes import Edge, Node, NodeKind
from tasks.catalogue.lineage_picture import MOST_IN_COLUMN, draw_graph

SVG = "{http://www.w3.org/2000/svg}"


def node(kind: NodeKind, title: str, *facts: str, deleted: bool = False) -> Node:
    return Node(id=f"{kind}:{title}", kind=kind, title=title, facts=facts, deleted=deleted)


def drawn(nodes: list[Node], edges: list[Edge], roots: list[str]) -> ET.Element:
    return ET.fromstring(draw_graph("Lineage of <x>", nodes, edges, roots))  # noqa: S314 - our own document


def texts(picture: ET.Element) -> list[str]:
    return [str(each.text) for each in picture.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '" onload="x', "]]>&amp;", "a\x00\x1b[31m\ud800b", "🙂" * 99]
)
def test_a_name_is_text_and_nothing_else(name: str) -> None:
    picture = drawn([node(NodeKind.ARCHIVE, name, name)], [], [])
    elements = {each.tag.removeprefix(SVG) for each in picture.iter()}
    assert elements == {"svg", "title", "rect", "g", "text"}
    assert not [key for each in picture.iter() for key in each.attrib if key.startswith("on")]


def test_a_name_that_is_too_long_keeps_its_ends_and_is_whole_in_its_tooltip() -> None:
    name = "a" * 50 + "-the-end.zip"
    picture = drawn([node(NodeKind.ARCHIVE, name, "a fact")], [], [])
    shown = texts(picture)[1]
    assert len(shown) == 27
    assert shown.endswith("-the-end.zip")
    assert [str(each.text) for each in picture.iter(f"{SVG}title")] == ["Lineage of <x>", f"{name}\na fact"]


def test_kinds_stand_in_columns_from_left_to_right_and_arrows_go_with_them() -> None:
    archive, prediction = node(NodeKind.ARCHIVE, "a.zip"), node(NodeKind.PREDICTION, "run")
    edges = [Edge(source=archive.id, target=prediction.id), Edge(source=archive.id, target="version:absent")]
    picture = drawn([prediction, archive], edges, [archive.id])

    assert texts(picture) == ["Archives", "Predictions", "a.zip", "run"]
    (path,) = picture.iter(f"{SVG}path")
    start, *_, end = [float(number) for number in path.attrib["d"].replace("M", "").replace("C", "").split()][::2]
    assert start < end
    boxes = [each.attrib["stroke-width"] for each in picture.iter(f"{SVG}rect") if "stroke" in each.attrib]
    assert boxes == ["3", "1.5"]


def test_a_line_from_a_version_to_what_it_labelled_goes_back_dashed_beside_what_it_learnt() -> None:
    archive, version = node(NodeKind.ARCHIVE, "a.zip"), node(NodeKind.VERSION, "shapes/1")
    edges = [Edge(source=archive.id, target=version.id), Edge(source=version.id, target=archive.id)]
    learnt, labelled = drawn([archive, version], edges, [version.id]).iter(f"{SVG}path")
    assert ("stroke-dasharray" in learnt.attrib, "stroke-dasharray" in labelled.attrib) == (False, True)
    start, *_, end = [float(each) for each in labelled.attrib["d"].replace("M", "").replace("C", "").split()][::2]
    assert start > end
    assert learnt.attrib["d"].split()[1] != labelled.attrib["d"].split()[1]


def test_a_deleted_thing_is_dashed_and_says_so_in_words() -> None:
    picture = drawn([node(NodeKind.VERSION, "shapes/1", "a fact", "another", deleted=True)], [], [])
    assert texts(picture) == ["Versions", "shapes/1", "deleted", "a fact"]
    assert any("stroke-dasharray" in each.attrib for each in picture.iter(f"{SVG}rect"))


def test_a_column_that_is_too_long_keeps_its_roots_and_counts_the_rest() -> None:
    nodes = [node(NodeKind.PREDICTION, f"run {number}") for number in range(MOST_IN_COLUMN + 5)]
    shown = texts(drawn(nodes, [], [nodes[-1].id]))
    assert shown[1:3] == [f"run {MOST_IN_COLUMN + 4}", "run 0"]
    assert shown[-2] == "and 6 more"
    assert len(texts(drawn(nodes[:MOST_IN_COLUMN], [], []))) == 1 + MOST_IN_COLUMN


def test_an_empty_lineage_is_a_picture() -> None:
    assert texts(drawn([], [], [])) == []
