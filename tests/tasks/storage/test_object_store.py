"""Listings of the real store that go on behind a key, in buckets with and without versions."""

import hashlib
import random
from itertools import islice
from uuid import uuid4

import pytest

from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import StackSettings
from tasks.storage.object_store import ObjectStore

# The first two tell folder by folder from byte by byte; an ending before `.` comes before what it ends, with versions.
TRICKY = ("a/b.zip", "a b.zip", "x.zip", "x.zip-2.zip", "x.zip!b.zip", "y", "y.v.zip", "ü.zip", "<b>&.zip", "😀.zip")


def drawn_keys() -> set[str]:
    rng = random.Random(3)  # noqa: S311
    names = ("".join(rng.choices("ab- +ü!Z0", k=rng.randint(1, 3))) for _ in range(80))
    return {
        *TRICKY,
        *(f"{name}/{number % 3}.zip" if number % 4 else f"{name}.zip" for number, name in enumerate(names)),
    }


@pytest.fixture(params=["versioned", "plain"])
def store(request: pytest.FixtureRequest, stack: StackSettings) -> ObjectStore:
    admin = s3_client(stack, Role.ADMIN)
    bucket = f"listing-{uuid4().hex[:12]}"
    admin.create_bucket(Bucket=bucket)
    if request.param == "versioned":
        admin.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return ObjectStore(bucket)


def read_in_pages(store: ObjectStore, limit: int, prefix: str = "") -> list[str]:
    found: list[str] = []
    while page := [entry.key for entry in islice(store.list_behind(found[-1] if found else "", prefix), limit)]:
        found += page
    return found


def test_a_listing_goes_on_behind_any_of_its_keys(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in drawn_keys():
        store.put(key, b"x")
    whole = [entry.key for entry in store.list_behind()]
    assert len(whole) == len(set(whole))
    assert set(whole) == drawn_keys() == set(store.keys())

    folder = next(key for key in whole if "/" in key).partition("/")[0] + "/"
    for limit in (1, 7):
        assert read_in_pages(store, limit) == whole
        assert read_in_pages(store, limit, folder) == [key for key in whole if key.startswith(folder)]
    monkeypatch.setattr("tasks.storage.object_store._KEYS_PER_REQUEST", 3)
    assert read_in_pages(store, 4) == whole


def test_the_start_of_an_object_is_read_alone(store: ObjectStore) -> None:
    store.put("a", bytes(range(200)))
    store.put("empty", b"")
    assert store.get_start("a", 10) == bytes(range(10))
    assert store.get_start("a", 500) == bytes(range(200))
    assert store.get_start("empty", 10) == b""
    assert store.get_start("gone", 10) is None


def test_an_object_is_found_as_a_listing_has_it(store: ObjectStore) -> None:
    store.put("ü <b>.zip", b"123")
    (listed,) = store.list()
    found = store.find("ü <b>.zip")
    assert found is not None
    assert found[:3] == listed[:3]
    assert abs((found.modified - listed.modified).total_seconds()) < 2
    assert store.find("absent") is None


def test_a_content_is_read_and_removed_as_long_as_it_is_there(store: ObjectStore) -> None:
    store.put("a", b"old")
    old = store.find("a")
    store.put("a", b"new")
    new = store.find("a")
    assert old
    assert new
    assert (store.sha256("a", old.etag), store.version_id("a", old.etag)) == (None, None)
    assert store.sha256("a", new.etag) == hashlib.sha256(b"new").hexdigest()
    assert not store.delete_content("a", old.etag)
    assert store.get("a") == b"new"
    assert store.delete_content("a", new.etag)
    assert store.get("a") is None
    assert not store.delete_content("a", new.etag)
    assert (store.sha256("a", new.etag), store.version_id("a", new.etag)) == (None, None)
