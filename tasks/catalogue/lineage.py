"""What was made from what: archives, versions, deployments and runs of inference, from any of them, both ways."""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from tasks.catalogue import tombstones
from tasks.catalogue.cursors import CatalogueError
from tasks.catalogue.lineage_graph import LineageGraph
from tasks.catalogue.lineage_nodes import Edge, Node, NodeKind, grouped
from tasks.catalogue.lineage_picture import draw_graph
from tasks.catalogue.lineage_tree import Tree, heading, printable
from tasks.catalogue.models import VERSION_NAME
from tasks.catalogue.tombstones import Kind
from tasks.errors import expected_found_fix, safe_repr
from tasks.storage.object_names import Bucket, parse_s3_uri
from tasks.tracking.deployment_runs import find_rollout
from tasks.tracking.inference_runs import find_inference_run
from tasks.tracking.lineage import archives_of

_FLOW_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What `name` was made from and what was made from it: a graph, of which `roots` are what `name` means."""

    name: str
    roots: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_text(self) -> str:
        """Return each root with its facts, a tree of what it was made from, and one of what was made from it."""
        nodes = {node.id: node for node in self.nodes}
        made_from = Tree(nodes=nodes, below=grouped((edge.target, edge.source) for edge in self.edges))
        used_for = Tree(nodes=nodes, below=grouped((edge.source, edge.target) for edge in self.edges))
        lines: list[str] = []
        for root in self.roots:
            lines += [heading(nodes[root]), *(f"  {printable(fact)}" for fact in nodes[root].facts)]
            for title, tree in (("made from", made_from), ("used for", used_for)):
                if below := list(tree.lines(root)):
                    lines += [title, *below]
            lines.append("")
        return "\n".join(lines)

    def to_svg(self) -> str:
        """Return a picture of the graph."""
        return draw_graph(f"Lineage of {self.name}", self.nodes, self.edges, self.roots)

    def to_json(self) -> dict[str, Any]:
        """Return the graph as values of JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def trace(name: str) -> Lineage:
    """Return the lineage of an archive, of a model, of a version such as `shapes/3`, or of a flow run by its id.

    An archive is named by its key in bucket `datasets` or by its address; the address is unambiguous. A flow run is
    one of inference, of a training or of a deployment. Of a model's runs of inference only the newest are in it.

    Raises:
        CatalogueError: There is nothing of this name, and nothing was.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    graph = LineageGraph()
    roots = _find_roots(graph, name)
    if not roots:
        expected = "an archive, a model, a version such as shapes/3 or the id of a flow run"
        fix = "See what is there with `studio datasets` and `studio models`."
        raise CatalogueError(expected_found_fix(expected, f"no {safe_repr(name)}", fix))
    return Lineage(name=name, roots=roots, nodes=tuple(graph.nodes.values()), edges=tuple(graph.edges))


def _find_roots(graph: LineageGraph, name: str) -> tuple[str, ...]:
    if _FLOW_RUN.fullmatch(name):
        return _flow_run_roots(graph, name)
    if VERSION_NAME.fullmatch(name) and name in graph.versions:
        return (graph.add_version(name, forward=True),)
    if "://" not in name and (versions := [each for each in graph.versions if each.rpartition("/")[0] == name]):
        return tuple(graph.add_version(each, forward=True) for each in versions)
    return _archive_roots(graph, name)


def _flow_run_roots(graph: LineageGraph, flow_run: str) -> tuple[str, ...]:
    if inference := find_inference_run(flow_run):
        return tuple(filter(None, [graph.add_prediction(inference)]))
    if trained := [name for name, each in graph.versions.items() if each.tags.get("flow_run_id") == flow_run]:
        return tuple(graph.add_version(name, forward=True) for name in trained)
    if rollout := find_rollout(flow_run):
        return (graph.add_rollout(rollout),)
    return tuple(graph.add_grave(NodeKind.PREDICTION, each) for each in tombstones.read_all(Kind.PREDICTION, flow_run))


def _archive_roots(graph: LineageGraph, name: str) -> tuple[str, ...]:
    try:
        address = parse_s3_uri(name, Bucket.DATASETS)
    except ValueError:
        return ()
    archive = address.key if address.bucket == Bucket.DATASETS else str(address)
    roots = []
    for version, each in graph.versions.items():
        digest = archives_of(each.tags).get(archive)
        if digest is not None:
            graph.add_version(version, forward=True)
            roots.append(graph.add_archive(archive, digest))
    roots += [graph.add_archive(archive, each.digest or "") for each in graph.graves(archive)]
    if stored := graph.stored(archive):
        roots.append(graph.add_archive(archive, stored.digest or ""))
    return tuple(dict.fromkeys(roots))
