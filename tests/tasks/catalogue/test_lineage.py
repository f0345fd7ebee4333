"""Lineages, from the real store and registry."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tasks.catalogue import lineage, lineage_graph, tombstones
from tasks.catalogue.cursors import CatalogueError
from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.dataset.findings import LabelSource
from tasks.importing.import_records import ImportRecord, write_import
from tasks.storage.object_store import ObjectStore
from tasks.validation.check_records import delete_checks
from tests.tasks.catalogue.registry import check, deploy, infer, register

pytestmark = pytest.mark.usefixtures("stack")
DATASETS = ObjectStore("datasets")
DIGESTS = {letter: letter * 64 for letter in "abcdef"}


def arrows(name: str) -> set[tuple[str, str]]:
    """What was made from what, by titles."""
    found = lineage.trace(name)
    titles = {node.id: f"{node.kind} {node.title}" for node in found.nodes}
    return {(titles[edge.source], titles[edge.target]) for edge in found.edges}


def test_an_archive_leads_to_versions_deployments_and_predictions_and_each_of_them_back() -> None:
    own = uuid4().hex
    DATASETS.put(f"{own}-a.zip", b"a")
    check(f"{own}-a.zip", DIGESTS["a"])
    first = register(own, {f"{own}-a.zip": DIGESTS["a"]}, flow_run_id=(training := str(uuid4())))
    register(own, {f"{own}-b.zip": DIGESTS["b"]})
    rollout = deploy(own, first)
    prediction = infer(own, first)

    archive, version = f"archive {own}-a.zip", f"version {own}/1"
    deployment, inference = f"deployment deploy {own} 1", f"prediction {prediction}"
    chain = {(archive, version), (version, deployment), (deployment, inference)}
    assert arrows(f"{own}-a.zip") == chain
    assert arrows(f"s3://datasets/{own}-a.zip") == chain
    assert arrows(f"{own}/1") == chain
    assert arrows(training) == chain
    assert arrows(prediction) == chain
    assert arrows(rollout) == chain - {(deployment, inference)}
    assert arrows(own) == chain | {(f"archive {own}-b.zip", f"version {own}/2")}


def test_a_prediction_says_from_which_bytes_and_which_commit_it_is() -> None:
    own = uuid4().hex
    register(own, {f"{own}.zip": DIGESTS["c"]}, git_commit="1" * 40, base_model="yolo11n.pt")
    text = lineage.trace(infer(own, 1)).to_text()

    assert f"└─ version {own}/1" in text
    for line in (f"commit {'1' * 40}", f"SHA-256 {DIGESTS['c']}", "from yolo11n.pt", "not in bucket datasets"):
        assert line in text


def test_a_prediction_comes_from_the_deployment_before_it() -> None:
    own = uuid4().hex
    for _ in range(2):
        register(own, {})
    deploy(own, 1)
    early = infer(own, 1)
    deploy(own, 2)
    deploy(own, 1, "roll back")
    deploy(own, None, "undeploy")
    late = infer(own, 1)
    before = infer(own, 2)

    assert {pair for pair in arrows(own) if "prediction" in pair[1]} == {
        (f"deployment deploy {own} 1", f"prediction {early}"),
        (f"deployment roll back {own} 1", f"prediction {late}"),
        (f"deployment deploy {own} 2", f"prediction {before}"),
    }


def test_two_contents_of_one_name_are_two_archives() -> None:
    own = uuid4().hex
    name = f"{own}.zip"
    register(own, {name: DIGESTS["a"]})
    register(own, {name: DIGESTS["b"]})
    DATASETS.put(name, b"b")
    unchecked = {node.facts[-1] for node in lineage.trace(name).nodes if node.kind == "archive" and node.facts}
    check(name, DIGESTS["b"])
    found = {node.id: node for node in lineage.trace(name).nodes}

    assert any("nobody knows whether it is this" in fact for fact in unchecked)
    old, new = found[f"archive:{name}@{DIGESTS['a']}"], found[f"archive:{name}@{DIGESTS['b']}"]
    assert (old.deleted, new.deleted) == (True, False)
    assert "replaced since: other bytes have this name now" in old.facts
    assert any(fact.startswith("valid, checked") for fact in new.facts)


def test_an_archive_leads_to_the_versions_that_labelled_it_also_to_its_own() -> None:
    """A file in an archive says who labelled it, and may say anything."""
    own = uuid4().hex
    name = f"{own}.zip"
    register(own, {name: DIGESTS["a"]})
    DATASETS.put(name, b"a")
    check(name, DIGESTS["a"], *(LabelSource(model_name=own, model_version=number, images=7) for number in (1, 9)))

    archive, version = f"archive {name}", f"version {own}/1"
    assert arrows(name) == {(archive, version), (version, archive), (f"version {own}/9", archive)}
    text = lineage.trace(name).to_text()
    assert f"7 images labelled with {own} version 1" in text
    assert "not in the registry" in text
    assert lineage.trace(name).to_svg()


def test_a_version_leads_to_what_it_has_labelled_also_when_that_is_deleted() -> None:
    """And to what was trained on it: the loop from one version to the next."""
    own = uuid4().hex
    name, reviewed = f"{own}-labelled.zip", f"{own}-reviewed.zip"
    digest = uuid4().hex * 2
    register(own, {})
    source = LabelSource(model_name=own, model_version=1, flow_run_id="run-8", images=7)
    DATASETS.put(name, b"a")
    check(name, digest, source)
    DATASETS.put(reviewed, b"b")
    check(reviewed, DIGESTS["b"], accepted=[source])
    register(own, {name: digest})

    loop = {
        (f"version {own}/1", f"archive {name}"),
        (f"version {own}/1", f"archive {reviewed}"),
        (f"archive {name}", f"version {own}/2"),
    }
    assert arrows(f"{own}/1") == arrows(own) == loop
    found = lineage.trace(f"{own}/1")
    assert f"└─ version {own}/2" in found.to_text()
    assert (
        f"7 images with labels that {own} version 1 suggested, accepted by a person in review run-8" in found.to_text()
    )
    assert found.to_svg().count('stroke-dasharray="5 4"') == 2  # from the version back to the archives

    DATASETS.delete(name)
    delete_checks(name)
    grave(Kind.DATASET, name, digest=digest)
    found = lineage.trace(f"{own}/1")
    assert arrows(f"{own}/1") == loop
    assert [node.title for node in found.nodes if node.deleted] == [name]


def test_a_version_that_labelled_many_archives_says_that_it_shows_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage_graph, "MOST_LABELLED", 1)
    own = uuid4().hex
    register(own, {})
    for name in (f"{own}-a.zip", f"{own}-b.zip"):
        DATASETS.put(name, b"a")
        check(name, DIGESTS["a"], LabelSource(model_name=own, model_version=1, images=7))
    assert len(arrows(f"{own}/1")) == 1
    assert "archives with its labels but for 1 are left out" in lineage.trace(f"{own}/1").to_text()


def test_an_imported_archive_leads_to_its_source_whatever_its_name_is_now() -> None:
    own, digests = uuid4().hex, {letter: uuid4().hex * 2 for letter in "ab"}
    source = f"sources/{own}.zip"
    changes = {"left out: a polyline": 3, "left out: a point": 2}
    record = {"source": source, "source_digest": digests["a"], "format": "cvat", "changes": changes}
    write_import(ImportRecord.model_validate({"digest": digests["b"], "flow_run_id": "run-7", **record}))
    register(own, {f"{own}.zip": digests["b"]})

    assert arrows(f"{own}/1") == {
        (f"archive {source}", f"archive {own}.zip"),
        (f"archive {own}.zip", f"version {own}/1"),
    }
    text = lineage.trace(f"{own}.zip").to_text()
    for line in ("imported from cvat by flow run run-7: 5 left out", f"SHA-256 {digests['a']}"):
        assert line in text


def test_a_version_that_was_trained_from_another_has_both_lineages() -> None:
    own = uuid4().hex
    register(own, {f"{own}-old.zip": DIGESTS["a"]})
    register(own, {f"{own}-new.zip": DIGESTS["b"]}, base_model=f"models:/{own}/1")
    assert arrows(f"{own}/2") == {
        (f"archive {own}-old.zip", f"version {own}/1"),
        (f"archive {own}-new.zip", f"version {own}/2"),
        (f"version {own}/1", f"version {own}/2"),
    }


def grave(kind: Kind, name: str, **values: object) -> None:
    made = {"kind": kind, "name": name, "deleted": datetime.now(UTC), "flow_run_id": "run-9", "reason": "old"}
    tombstones.write(Tombstone.model_validate({**made, **values}))


def test_what_was_deleted_stays_in_the_lineage() -> None:
    own = uuid4().hex
    tags = {"archives": json.dumps({f"{own}.zip": DIGESTS["a"]}), "git_commit": "2" * 40}
    grave(Kind.VERSION, f"{own}/7", tags=tags)
    grave(Kind.DATASET, f"{own}.zip", digest=DIGESTS["a"], kept={"report": "s3://runs/x/report.html"})
    prediction = infer(own, 7)
    ObjectStore("predictions").delete(f"{prediction}/summary.json")
    grave(Kind.PREDICTION, prediction)

    found = lineage.trace(f"{own}.zip")
    assert {(node.kind, node.deleted) for node in found.nodes} == {
        (kind, True) for kind in ("archive", "version", "prediction")
    }
    assert arrows(prediction) == arrows(f"{own}/7") == arrows(f"{own}.zip")
    text = found.to_text()
    assert text.count("by flow run run-9 (old)") == 3
    assert "report: s3://runs/x/report.html" in text
    assert f"commit {'2' * 40}" in text


def test_a_deleted_prediction_that_mlflow_has_forgotten_is_known_by_its_tombstone() -> None:
    run = str(uuid4())
    grave(Kind.PREDICTION, run)
    (node,) = lineage.trace(run).nodes
    assert (node.title, node.deleted) == (run, True)


def test_a_model_with_many_predictions_says_that_it_shows_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage_graph, "MOST_PREDICTIONS", 2)
    own = uuid4().hex
    register(own, {})
    shown = [infer(own, 1) for _ in range(3)][1:]
    found = lineage.trace(own)
    assert {node.title for node in found.nodes if node.kind == "prediction"} == set(shown)
    assert "before the newest 2 of the model are left out" in found.to_text()


def test_an_archive_that_nothing_was_made_from_is_a_lineage_of_one() -> None:
    own = uuid4().hex
    DATASETS.put(f"{own}.zip", b"x")
    text = lineage.trace(f"{own}.zip").to_text()
    assert text == (f"archive {own}.zip\n  SHA-256 unknown: validate-dataset has not checked it\n")


def test_a_quote_in_the_name_of_a_model_breaks_no_lineage() -> None:
    own = f"it's-{uuid4().hex}"
    register(own, {})
    assert "version it's" in lineage.trace(own).to_text()


@pytest.mark.parametrize(
    "name",
    ["nothing.zip", "nothing/3", "7d444840-9dc0-41d1-b245-5ffdce74fad2", "../x", "ftp://x/y", "s3://mlflow/x", ""],
)
def test_a_name_of_nothing_is_a_clear_error(name: str) -> None:
    with pytest.raises(CatalogueError, match="or the id of a flow run, found no"):
        lineage.trace(name)
