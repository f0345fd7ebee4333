"""How objects are written as they were, as far as it needs no store."""

import hashlib
from pathlib import Path

import pytest

from infra.backup.manifests import ObjectEntry
from infra.backup.objects import Restored, Written, find_part_size

MIB = 1 << 20


def entry(size: int, etag: str, version: str | None = None) -> ObjectEntry:
    return ObjectEntry("datasets", "a.zip", version, etag, size, "2026-01-01", "0" * 64, "", {})


@pytest.mark.parametrize("part", [5, 8, 16])
def test_an_object_is_sent_in_the_parts_that_its_etag_was_made_of(tmp_path: Path, part: int) -> None:
    body = bytes(range(256)) * (4096 * 21)  # 21 MiB
    path = tmp_path / "body"
    path.write_bytes(body)
    pieces = [body[first : first + part * MIB] for first in range(0, len(body), part * MIB)]
    tag = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()  # noqa: S324
    assert find_part_size(entry(len(body), f'"{tag}-{len(pieces)}"'), path) == part * MIB


def test_parts_of_an_etag_that_tells_nothing_are_of_a_size_that_every_store_takes(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x")
    assert find_part_size(entry(1, '"0-3"'), tmp_path / "body") == 8 * MIB
    assert find_part_size(entry(200_000 * MIB, '"not an etag"'), tmp_path / "body") == 20 * MIB


def test_records_of_deletions_name_the_versions_that_the_store_has_now() -> None:
    done = Restored()
    done.add(Written(entry(1, '"e"', "old-1"), "new-1", same_tag=True))
    record = b'{"kept": {"restore": "aws --copy-source \'datasets/a.zip?versionId=old-1\'"}, "version_id":"old-1"}'
    assert done.renamed(record) == record.replace(b"old-1", b"new-1")
    assert done.renamed(b"versionId=old-10 old-1") == b"versionId=old-10 old-1"
