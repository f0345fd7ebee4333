"""Images that a version has learnt are found again by checksum, whatever became of their archives."""

import io
import zipfile
import zlib

import pytest

from tasks.selection import learnt_images
from tasks.selection.learnt_images import draw_sample, list_learnt_sources
from tasks.storage.object_names import S3Uri
from tasks.storage.ranged_reads import ObjectChangedError, ObjectVersion


def zipped(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return file.getvalue()


@pytest.fixture(autouse=True)
def archives(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {
        "a.zip": zipped(x=b"one", y=b"label", z=b"two"),
        "b.zip": zipped(x=b"two", w=b"three"),
        "c.zip": b"no zip",
    }

    def head(name: S3Uri, _: str) -> ObjectVersion:
        if name.key not in stored:
            raise ObjectChangedError("gone")
        return ObjectVersion(name, len(stored[name.key]), f'"{name.key}"')

    monkeypatch.setattr(learnt_images, "head_object", head)
    monkeypatch.setattr(learnt_images, "RangedObject", lambda version: io.BytesIO(stored[version.name.key]))


def test_each_learnt_image_is_found_once_and_archives_that_are_gone_hold_none() -> None:
    learnt = frozenset((zlib.crc32(data), len(data)) for data in (b"one", b"two", b"three", b"elsewhere"))
    found = list_learnt_sources(["b.zip", "gone.zip", "c.zip", "a.zip"], learnt)
    assert [(each.name, each.entry, each.etag, each.size) for each in found] == [
        ("s3://datasets/a.zip/x", 0, '"a.zip"', 3),
        ("s3://datasets/a.zip/z", 2, '"a.zip"', 3),
        ("s3://datasets/b.zip/w", 1, '"b.zip"', 5),
    ]
    assert draw_sample(found, 2, seed=1) == draw_sample(found, 2, seed=1)
    assert draw_sample(found, 9, seed=1) == found
