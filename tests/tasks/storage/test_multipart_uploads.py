"""Uploads whose parts come from elsewhere, in the real store."""

from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from infra.stack_settings import StackSettings
from tasks.storage.multipart_uploads import MultipartUpload, UploadOverError, start_upload
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

STORE = ObjectStore("datasets")
FIRST, LAST = bytes([1]) * (5 << 20), b"the end"


@pytest.fixture
def upload(stack: StackSettings) -> MultipartUpload:  # noqa: ARG001
    return start_upload("datasets", f"ü <b>'{uuid4().hex[:8]}.zip")


def send(upload: MultipartUpload, number: int, body: bytes) -> None:
    httpx.put(upload.part_address(number), content=body).raise_for_status()


def test_nothing_is_under_the_key_until_the_upload_is_complete(upload: MultipartUpload) -> None:
    send(upload, 2, LAST)
    send(upload, 1, FIRST)
    assert len(upload.parts()) == 2
    assert STORE.find(upload.key) is None
    assert not upload.is_complete()


def test_a_complete_upload_is_its_parts_in_order(upload: MultipartUpload) -> None:
    send(upload, 2, LAST)
    send(upload, 1, FIRST)
    send(upload, 1, FIRST)
    assert {number: part.size for number, part in upload.parts().items()} == {1: len(FIRST), 2: len(LAST)}
    assert upload.complete(upload.parts(), replace=False)
    assert STORE.get(upload.key) == FIRST + LAST
    assert upload.is_complete()
    with pytest.raises(UploadOverError, match=r"Expected an upload of .*, found none of id .*Start it again"):
        upload.parts()


def test_an_end_that_is_asked_for_twice_is_one(upload: MultipartUpload) -> None:
    """The answer to the first was lost."""
    send(upload, 1, LAST)
    parts = upload.parts()
    assert upload.complete(parts, replace=False)
    assert upload.complete(parts, replace=False)


def test_a_taken_name_is_replaced_only_on_request(upload: MultipartUpload) -> None:
    STORE.put(upload.key, b"of somebody else")
    send(upload, 1, LAST)
    assert not upload.complete(upload.parts(), replace=False)
    assert STORE.get(upload.key) == b"of somebody else"
    assert upload.complete(upload.parts(), replace=True)
    assert STORE.get(upload.key) == LAST


def test_an_aborted_upload_leaves_no_part(upload: MultipartUpload) -> None:
    send(upload, 1, LAST)
    upload.abort()
    upload.abort()
    assert upload.key not in [each.key for each in STORE.list_uploads()]
    assert httpx.put(upload.part_address(2), content=LAST).status_code == 404
    with pytest.raises(UploadOverError):
        upload.complete(upload.parts(), replace=False)


def test_an_address_is_for_one_part_of_one_upload(upload: MultipartUpload) -> None:
    address = upload.part_address(1)
    other = start_upload("datasets", f"other-{upload.key}")
    for former, later in (
        ("partNumber=1", "partNumber=2"),
        (upload.upload_id, other.upload_id),
        ("/datasets/", "/media/"),
    ):
        assert httpx.put(address.replace(former, later), content=LAST).status_code == 403


@pytest.mark.parametrize("upload_id", ["", "zz", "../../x", "<b>"])
def test_an_upload_of_another_id_is_refused_in_words(upload: MultipartUpload, upload_id: str) -> None:
    with pytest.raises(StorageError, match="upload of"):
        replace(upload, upload_id=upload_id).parts()
