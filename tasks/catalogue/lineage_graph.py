"""The graph of a lineage: what the store, MLflow and tombstones say of each thing, and of what it was made from."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice

from tasks.catalogue import predictions, tombstones
from tasks.catalogue.entries import PredictionEntry
from tasks.catalogue.lineage_nodes import Edge, Node, NodeKind, grouped
from tasks.catalogue.models import VERSION_NAME
from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.dataset.findings import LabelSource
from tasks.importing.changes import sum_changes
from tasks.importing.import_records import read_import
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS
from tasks.tracking.deployment_runs import PastRollout, list_rollouts
from tasks.tracking.inference_runs import InferenceRun, list_inference_runs
from tasks.tracking.lineage import BASE_DIGEST, archives_of, is_imported
from tasks.tracking.registered_versions import RegisteredVersion, list_models, list_versions
from tasks.validation.check_records import CheckRecord, list_labelled_archives, read_checks

MOST_PREDICTIONS = 200
MOST_LABELLED = 100  # archives

_DATASETS = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)
_BASE_VERSION = re.compile(r"models:/(?P<name>[^/@]+/\d+)")


@dataclass(frozen=True)
class StoredArchive:
    """An archive that is in bucket `datasets` now, and its newest check, if there is one."""

    check: CheckRecord | None

    @property
    def digest(self) -> str | None:
        """The SHA-256 (hex) of its bytes; None before a check."""
        return self.check.digest if self.check else None


class LineageGraph:
    """Nodes and edges as they are found; each thing is looked up once."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self._stored: dict[str, StoredArchive | None] = {}
        self._graves: dict[str, tuple[Tombstone, ...]] = {}
        self._rollouts: dict[str, list[PastRollout]] = {}
        self._inferences: dict[str, list[InferenceRun]] = {}
        self._opened: set[str] = set()

    @cached_property
    def versions(self) -> dict[str, RegisteredVersion]:
        """The registered versions and the deleted ones by name, the newest of each model first."""
        return {**{name: _deleted_version(grave) for name, grave in self._version_graves.items()}, **self._registered}

    @cached_property
    def _registered(self) -> dict[str, RegisteredVersion]:
        return {version.name: version for version in list_versions()}

    @cached_property
    def _version_graves(self) -> dict[str, Tombstone]:
        graves = tombstones.list_all(Kind.VERSION)
        return {grave.name: grave for grave in graves if VERSION_NAME.fullmatch(grave.name)}

    @cached_property
    def _aliases(self) -> dict[str, list[str]]:
        """The aliases that point at a version, by its name."""
        models = list_models()
        return grouped((f"{each.name}/{number}", alias) for each in models for alias, number in each.aliases.items())

    def stored(self, archive: str) -> StoredArchive | None:
        """Return what is stored under a key of bucket `datasets` now."""
        if archive not in self._stored:
            found = None if "://" in archive else _DATASETS.find(archive)
            check = read_checks([(archive, found.etag)])[0] if found else None
            self._stored[archive] = StoredArchive(check) if found else None
        return self._stored[archive]

    def graves(self, archive: str) -> tuple[Tombstone, ...]:
        """Return the deletions of an archive."""
        if archive not in self._graves:
            self._graves[archive] = tombstones.read_all(Kind.DATASET, archive)
        return self._graves[archive]

    def add_archive(self, archive: str, digest: str) -> str:
        """Add the bytes with this SHA-256 that were stored under a name, with what made them or their labels.

        Returns the node's id.
        """
        stored = self.stored(archive)
        graves = [grave for grave in self.graves(archive) if (grave.digest or "") == digest]
        is_gone = "://" not in archive and (stored is None or stored.digest not in {None, digest})
        facts = [
            f"SHA-256 {digest}" if digest else "SHA-256 unknown: validate-dataset has not checked it",
            *_storage_facts(archive, digest, stored),
            *map(_grave_fact, graves),
        ]
        made = read_import(digest)
        if made:
            facts.append(f"imported from {made.format} by flow run {made.flow_run_id}: {sum_changes(made.changes)}")
        sources = stored.check.label_sources if stored and stored.check and digest == stored.digest else ()
        accepted = stored.check.accepted_sources if stored and stored.check and digest == stored.digest else ()
        facts += [*map(_label_fact, sources), *map(_accepted_fact, accepted)]
        node = self._add(NodeKind.ARCHIVE, f"{archive}@{digest}", archive, facts, deleted=is_gone)
        if node not in self._opened:
            self._opened.add(node)
            if made:
                self._connect(self.add_archive(made.source, made.source_digest), node)
            for each in (*sources, *accepted):
                if each.model_name and each.model_version:
                    self._connect(self.add_version(f"{each.model_name}/{each.model_version}", forward=False), node)
        return node

    def add_version(self, name: str, *, forward: bool) -> str:
        """Add a version with what it was made from, and if `forward` with what was made from it; returns its id."""
        version = self.versions.get(name)
        if version is None:
            return self._add(NodeKind.VERSION, name, name, ["not in the registry"], deleted=True)
        is_deleted = name not in self._registered
        graves = [_grave_fact(self._version_graves[name])] if is_deleted else []
        facts = [", ".join(self._aliases.get(name, ())), *_version_facts(version), *graves]
        node = self._add(NodeKind.VERSION, name, name, facts, deleted=is_deleted)
        if node not in self._opened:
            self._opened.add(node)
            for archive, digest in archives_of(version.tags).items():
                self._connect(self.add_archive(archive, digest), node)
            if (base := _BASE_VERSION.fullmatch(version.tags.get("base_model", ""))) and base["name"] != name:
                self._connect(self.add_version(base["name"], forward=False), node)
        if forward:
            self._add_uses(node, version.model, version.number)
        return node

    def _add_uses(self, node: str, model: str, number: int) -> None:
        """Add the deployments of a version, the runs of inference with it, and what has labels of it."""
        self._add_labelled(node, model, number)
        for rollout in self._rollouts_of(model):
            if rollout.version == number:
                self.add_rollout(rollout)
        chosen = [run for run in self._inferences_with(model)[:MOST_PREDICTIONS] if number in run.versions]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for run, entry in zip(chosen, pool.map(predictions.describe, chosen), strict=True):
                self._add_described(run, entry)
        if len(self._inferences_with(model)) > MOST_PREDICTIONS:
            self._tell(node, f"runs of inference before the newest {MOST_PREDICTIONS} of the model are left out")

    def _add_labelled(self, node: str, model: str, number: int) -> None:
        """Add the archives in which labels of a version are, and the versions that were trained on these."""
        labelled = list_labelled_archives(model, number, MOST_LABELLED + 1)
        for each in labelled[:MOST_LABELLED]:
            self._connect(node, self.add_archive(each.archive, each.digest))
            for name in self._trained_on.get((each.archive, each.digest), ()):
                self.add_version(name, forward=False)
        if len(labelled) > MOST_LABELLED:
            self._tell(node, f"archives with its labels but for {MOST_LABELLED} are left out")

    def _tell(self, node: str, fact: str) -> None:
        told = self.nodes[node]
        self.nodes[node] = replace(told, facts=tuple(dict.fromkeys([*told.facts, fact])))

    @cached_property
    def _trained_on(self) -> dict[tuple[str, str], list[str]]:
        """The versions that were trained on an archive, by its name and its SHA-256."""
        pairs = ((pair, name) for name, each in self.versions.items() for pair in archives_of(each.tags).items())
        return grouped(pairs)

    def _inferences_with(self, model: str) -> list[InferenceRun]:
        """The newest runs of inference with a model, one more than are shown."""
        if model not in self._inferences:
            self._inferences[model] = list(islice(list_inference_runs(model), MOST_PREDICTIONS + 1))
        return self._inferences[model]

    def _rollouts_of(self, model: str) -> list[PastRollout]:
        """The times at which clients got another version of a model."""
        if model not in self._rollouts:
            self._rollouts[model] = [rollout for rollout in list_rollouts(model) if rollout.action != "undeploy"]
        return self._rollouts[model]

    def add_rollout(self, rollout: PastRollout) -> str:
        """Add a deployment and its version; returns its id."""
        title = f"{rollout.action} {rollout.model} {rollout.version or ''}".strip()
        facts = [_date(rollout.created), f"flow run {rollout.flow_run_id}"]
        node = self._add(NodeKind.DEPLOYMENT, rollout.flow_run_id, title, facts)
        if rollout.version is not None:
            self._connect(self.add_version(f"{rollout.model}/{rollout.version}", forward=False), node)
        return node

    def add_prediction(self, run: InferenceRun) -> str | None:
        """Add a run of inference with what it was made from; returns its id, None if it has no results yet."""
        return self._add_described(run, predictions.describe(run))

    def _add_described(self, run: InferenceRun, entry: PredictionEntry | None) -> str | None:
        if entry is None:
            return None
        counts = f"{entry.images} images, {entry.detections} detections, failed inputs: {entry.failures}"
        graves = tombstones.read_all(Kind.PREDICTION, entry.run) if entry.deleted else ()
        facts = [f"{_date(entry.created)}, {entry.model}", counts, *map(_grave_fact, graves)]
        node = self._add(NodeKind.PREDICTION, entry.run, entry.run, facts, deleted=entry.deleted)
        rollouts = self._rollouts_of(run.model)
        for number in run.versions:
            before = [each for each in rollouts if each.version == number and each.created <= run.created]
            name = f"{run.model}/{number}"
            made_from = self.add_rollout(before[-1]) if before else self.add_version(name, forward=False)
            self._connect(made_from, node)
        return node

    def add_grave(self, kind: NodeKind, grave: Tombstone) -> str:
        """Add a thing of which only a tombstone is left; returns its id."""
        return self._add(kind, grave.name, grave.name, [_grave_fact(grave)], deleted=True)

    def _add(self, kind: NodeKind, key: str, title: str, facts: Iterable[str], *, deleted: bool = False) -> str:
        node = Node(id=f"{kind}:{key}", kind=kind, title=title, facts=tuple(filter(None, facts)), deleted=deleted)
        return self.nodes.setdefault(node.id, node).id

    def _connect(self, source: str, target: str) -> None:
        self.edges[Edge(source=source, target=target)] = None


def _deleted_version(grave: Tombstone) -> RegisteredVersion:
    """What a tombstone says of a version; it has no run in MLflow."""
    model, _, number = grave.name.rpartition("/")
    return RegisteredVersion(model=model, number=int(number), run_id="", created=grave.deleted, tags=grave.tags)


def _storage_facts(archive: str, digest: str, stored: StoredArchive | None) -> list[str]:
    """What is stored under the name of an archive now, beside the bytes with this SHA-256."""
    if "://" in archive:
        return ["in a bucket that the catalogue does not look into"]
    if stored is None:
        return ["not in bucket datasets"]
    check = stored.check
    if check is None:
        return ["what is stored now has not been checked, so nobody knows whether it is this"] if digest else []
    if check.digest != digest:
        return ["replaced since: other bytes have this name now"]
    return [
        f"{check.verdict}, checked {_date(check.checked)}",
        f"{check.images} images, {len(check.class_names)} classes, {check.task}",
        f"report s3://{Bucket.RUNS}/{check.flow_run_id}/report.html",
    ]


def _version_facts(version: RegisteredVersion) -> list[str]:
    tags = version.tags
    base = tags.get("base_model", "")
    digest = f" (SHA-256 {tags[BASE_DIGEST]})" if BASE_DIGEST in tags else ""
    return [
        f"registered {_date(version.created)}" if version.run_id else "",
        f"commit {tags['git_commit']}" if "git_commit" in tags else "",
        f"{'imported' if is_imported(tags) else 'trained'} by flow run {tags['flow_run_id']}"
        if "flow_run_id" in tags
        else "",
        f"from {base}{digest}" if base else "",
        *(f"measured on {name}" for name in archives_of({"archives": tags.get("measured_on", "{}")})),
        tags.get("promotion_reason", ""),
    ]


def _label_fact(source: LabelSource) -> str:
    run = f" by flow run {source.flow_run_id}" if source.flow_run_id else ""
    return f"{source.images} images labelled with {source.model}{run}"


def _accepted_fact(source: LabelSource) -> str:
    run = f" in review {source.flow_run_id}" if source.flow_run_id else ""
    return f"{source.images} images with labels that {source.model} suggested, accepted by a person{run}"


def _grave_fact(grave: Tombstone) -> str:
    reason = f" ({grave.reason})" if grave.reason else ""
    kept = "".join(f"; {name}: {place}" for name, place in grave.kept.items())
    return f"deleted {_date(grave.deleted)} by flow run {grave.flow_run_id}{reason}{kept}"


def _date(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
