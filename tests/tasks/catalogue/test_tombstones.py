"""Tombstones, in the real store."""

from datetime import UTC, datetime

import pytest

from tasks.catalogue import tombstones
from tasks.catalogue.tombstones import Kind, Tombstone
from tasks.storage.object_store import ObjectStore

pytestmark = pytest.mark.usefixtures("stack")


def tombstone(name: str, run: str, day: int, kind: Kind = Kind.DATASET) -> Tombstone:
    deleted = datetime(2026, 1, day, tzinfo=UTC)
    kept = {"report": f"runs/{run}/report.html"}
    return Tombstone(kind=kind, name=name, digest="d" * 64, deleted=deleted, flow_run_id=run, reason="old", kept=kept)


def test_a_name_that_was_deleted_twice_has_both_deletions() -> None:
    first, second = tombstone("../a <b>.zip", "run-b", 1), tombstone("../a <b>.zip", "run-a", 2)
    for each in (second, first, second):
        tombstones.write(each)

    assert tombstones.read_all("dataset", "../a <b>.zip") == (first, second)
    assert tombstones.read("dataset", "../a <b>.zip") == second


def test_kinds_and_names_are_kept_apart() -> None:
    tombstones.write(tombstone("shapes/3", "run", 1, Kind.VERSION))

    assert tombstones.read(Kind.VERSION, "shapes/3") is not None
    assert tombstones.read(Kind.DATASET, "shapes/3") is None
    assert tombstones.read(Kind.VERSION, "shapes/33") is None
    assert "shapes/3" in {each.name for each in tombstones.list_all("version")}
    assert {each.kind for each in tombstones.list_all("version")} == {"version"}


def test_what_somebody_else_wrote_is_no_tombstone() -> None:
    written = tombstone("odd", "run", 1)
    tombstones.write(written)
    ObjectStore("runs").put(f"{tombstones._prefix(Kind.DATASET, 'odd')}other.json", b"[]")

    assert tombstones.read_all("dataset", "odd") == (written,)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="model"):
        tombstones.read("model", "shapes")
