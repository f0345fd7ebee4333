"""A lineage as a picture (SVG): a column for each kind, what was made from what from left to right."""

from collections.abc import Mapping, Sequence

from markupsafe import escape

from tasks.catalogue.lineage_nodes import Edge, Node, NodeKind
from tasks.catalogue.lineage_tree import printable

MOST_IN_COLUMN = 30

_WIDTH, _HEIGHT = 260, 64
_GAP_X, _GAP_Y, _MARGIN = 70, 14, 16
_TOP = 44
_BACK_Y = 14  # below the middle of a box
_SHOWN_FACTS = 2
_TITLE_SIGNS, _FACT_SIGNS = 27, 34
_START = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    'role="img" font-family="system-ui, sans-serif" font-size="13">'
)
_COLOURS = {
    NodeKind.ARCHIVE: "#1d4e89",
    NodeKind.VERSION: "#6b3fa0",
    NodeKind.DEPLOYMENT: "#96520c",
    NodeKind.PREDICTION: "#1b6b3a",
}
_HEADINGS = {
    NodeKind.ARCHIVE: "Archives",
    NodeKind.VERSION: "Versions",
    NodeKind.DEPLOYMENT: "Deployments",
    NodeKind.PREDICTION: "Predictions",
}


def draw_graph(title: str, nodes: Sequence[Node], edges: Sequence[Edge], roots: Sequence[str]) -> str:
    """Return an SVG document of the nodes, with a thick border around `roots`; a column that is too long ends early."""
    columns = {kind: _column([node for node in nodes if node.kind is kind], roots) for kind in NodeKind}
    columns = {kind: column for kind, column in columns.items() if column}
    places = {
        node.id: (_MARGIN + x * (_WIDTH + _GAP_X), _TOP + y * (_HEIGHT + _GAP_Y))
        for x, column in enumerate(columns.values())
        for y, node in enumerate(column)
    }
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    height = _TOP + _MARGIN + max(map(len, columns.values()), default=0) * (_HEIGHT + _GAP_Y) - _GAP_Y
    shown = [node for column in columns.values() for node in column]
    return "\n".join(
        [
            _START.format(width=width, height=height),
            f"<title>{_text(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            *_headings(list(columns)),
            *(_curve(places, edge) for edge in edges if edge.source in places and edge.target in places),
            *(_box(node, *places[node.id], is_root=node.id in roots) for node in shown),
            "</svg>\n",
        ]
    )


def _column(nodes: list[Node], roots: Sequence[str]) -> list[Node]:
    """The nodes of a column, roots first and then as they came; the last one counts those that have no room."""
    ordered = sorted(nodes, key=lambda node: node.id not in roots)
    left = len(ordered) - MOST_IN_COLUMN
    if left <= 0:
        return ordered
    kept = ordered[: MOST_IN_COLUMN - 1]
    kind = kept[0].kind
    return [*kept, Node(id=f"{kind} more", kind=kind, title=f"and {left + 1} more", facts=("The text has them all.",))]


def _headings(kinds: Sequence[NodeKind]) -> list[str]:
    return [
        f'<text x="{_MARGIN + x * (_WIDTH + _GAP_X)}" y="28" font-weight="600" fill="{_COLOURS[kind]}">'
        f"{_HEADINGS[kind]}</text>"
        for x, kind in enumerate(kinds)
    ]


def _curve(places: Mapping[str, tuple[int, int]], edge: Edge) -> str:
    (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
    y1, y2 = y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
    if x2 < x1:  # an archive with labels of a version: back, between the columns, beside what was trained on it
        end, y1, y2, bend = x2 + _WIDTH, y1 + _BACK_Y, y2 + _BACK_Y, (x1 - x2 - _WIDTH) // 2
        path = f"M{x1} {y1} C{x1 - bend} {y1} {end + bend} {y2} {end} {y2}"
        return f'<path d="{path}" fill="none" stroke="#8a94a3" stroke-width="1.5" stroke-dasharray="5 4"/>'
    bend = (x2 - x1 - _WIDTH) // 2
    path = f"M{x1 + _WIDTH} {y1} C{x1 + _WIDTH + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    if x1 == x2:  # a version made from a version, an archive from an archive
        path = f"M{x1} {y1} C{x1 - _GAP_X // 2} {y1} {x2 - _GAP_X // 2} {y2} {x2} {y2}"
    return f'<path d="{path}" fill="none" stroke="#8a94a3" stroke-width="1.5"/>'


def _box(node: Node, x: int, y: int, *, is_root: bool) -> str:
    colour = "#6b7280" if node.deleted else _COLOURS[node.kind]
    dashes = ' stroke-dasharray="5 4"' * node.deleted
    facts = [*(["deleted"] if node.deleted else []), *node.facts][:_SHOWN_FACTS]
    whole = "\n".join([node.title, *node.facts])
    lines = [
        f'<text y="22" font-weight="600" fill="#111827">{_text(node.title, _TITLE_SIGNS)}</text>',
        *(
            f'<text y="{38 + 16 * row}" font-size="11.5" fill="#4b5563">{_text(fact, _FACT_SIGNS)}</text>'
            for row, fact in enumerate(facts)
        ),
    ]
    border = f'stroke="{colour}" stroke-width="{3 if is_root else 1.5}"{dashes}'
    return (
        f"<g><title>{_text(whole)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#f9fafb" {border}/>'
        # A picture in the picture ends at its border, however wide the letters are.
        f'<svg x="{x + 12}" y="{y}" width="{_WIDTH - 20}" height="{_HEIGHT}">{"".join(lines)}</svg></g>'
    )


def _text(text: str, longest: int | None = None) -> str:
    """A text of others for SVG, shortened in its middle: the ends of names tell them apart."""
    whole = "\n".join(map(printable, text.split("\n")))
    if longest and len(whole) > longest:
        half = (longest - 1) // 2
        whole = f"{whole[:half]}…{whole[half - longest + 1 :]}"
    return str(escape(whole))
