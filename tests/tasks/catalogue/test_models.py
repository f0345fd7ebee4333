"""Pages of models, against the real registry."""

from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from tasks.catalogue import archives, models
from tasks.catalogue.cursors import CatalogueError
from tasks.storage.object_store import ObjectStore
from tests.tasks.catalogue.registry import register

pytestmark = pytest.mark.usefixtures("stack")


def names(limit: int, search: str) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = models.list_models(cursor=cursor, limit=limit, search=search)
        found += [entry.name for entry in page.entries]
        cursor = page.next_cursor
    return found


def test_pages_of_any_size_give_each_model_once_by_name() -> None:
    own = uuid4().hex
    expected = [f"{own}-{letter}" for letter in "ABab"]
    for name in reversed(expected):
        MlflowClient().create_registered_model(name)
    for limit in (1, 3, 4, 50):
        assert names(limit, own[:20].upper()) == expected


def test_a_model_that_is_registered_meanwhile_moves_no_other() -> None:
    own = uuid4().hex
    for letter in "bdf":
        MlflowClient().create_registered_model(f"{own}-{letter}")
    first = models.list_models(limit=1, search=own)
    for letter in "ace":
        MlflowClient().create_registered_model(f"{own}-{letter}")
    second = models.list_models(limit=9, search=own, cursor=str(first.next_cursor))

    found = [entry.name.removeprefix(f"{own}-") for page in (first, second) for entry in page.entries]
    assert found == ["b", "c", "d", "e", "f"]


def test_a_model_has_its_versions_with_where_they_are_from() -> None:
    own = uuid4().hex
    first = register(own, {f"{own}.zip": "d" * 64}, promotion_reason="Better.", parity="passed", flow_run_id="run-1")
    second = register(own, {f"s3://datasets/{own}.zip": "e" * 64, "s3://media/b.zip": "f" * 64})
    MlflowClient().set_registered_model_alias(own, "champion", str(first))
    MlflowClient().set_registered_model_alias(own, "challenger", str(second))

    entry = models.read_model(own)
    assert (entry.champion, entry.challenger, entry.served) == (first, second, False)
    newest, oldest = entry.versions
    assert (newest.name, newest.archives, newest.digests) == (
        f"{own}/2",
        (f"{own}.zip", "s3://media/b.zip"),
        ("e" * 64, "f" * 64),
    )
    assert (oldest.name, oldest.aliases, oldest.promotion, oldest.parity) == (
        f"{own}/1",
        ("champion",),
        "Better.",
        "passed",
    )
    assert (oldest.scores, oldest.classes, oldest.training_run) == ({"mAP50-95": 0.5}, ("a", "b"), "run-1")
    assert models.read_version(f"{own}/1") == oldest
    ObjectStore("datasets").put(f"{own}.zip", b"x")
    assert archives.read_archive(f"{own}.zip").versions == (f"{own}/2", f"{own}/1")


def test_tags_of_somebody_else_break_no_list() -> None:
    own = uuid4().hex
    number = register(own, {}, class_names="no json", metrics="[1]")
    MlflowClient().set_model_version_tag(own, str(number), "archives", '{"a": 1, "../b": 2, "c…')
    (version,) = models.read_model(own).versions
    assert (version.classes, version.scores, version.archives) == ((), {}, ())


def test_a_model_says_that_triton_serves_it(served: Any) -> None:
    register(served.name, {})
    entry = models.read_model(served.name)
    assert (entry.served, entry.versions[-1].served) == (True, True)


def test_whether_a_model_is_served_is_unknown_if_triton_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    own = uuid4().hex
    register(own, {})
    monkeypatch.setenv("TRITON_HTTP_URL", "127.0.0.1:9")
    (entry,) = models.list_models(search=own).entries
    assert (entry.served, entry.versions[0].served) == (None, None)


@pytest.mark.parametrize("name", ["nobody", "nobo'dy", 'a" or "b'])
def test_a_model_that_is_not_there_is_a_clear_error(name: str) -> None:
    with pytest.raises(CatalogueError, match="found none of this name"):
        models.read_model(name)


def test_a_version_that_is_not_there_is_a_clear_error() -> None:
    own = uuid4().hex
    register(own, {})
    with pytest.raises(CatalogueError, match="found the versions 1"):
        models.read_version(f"{own}/2")
    for name in (own, f"{own}/0", f"{own}/x", "/1"):
        with pytest.raises(CatalogueError, match="a version such as shapes/3"):
            models.read_version(name)
