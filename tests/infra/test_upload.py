"""`make upload`: nothing is written over by accident, and what was written over on purpose is kept."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from infra import upload as uploading
from infra.command_errors import StackError
from infra.stack_settings import StackSettings
from infra.upload import bucket_of, upload, upload_weights
from tests.emitted import emitted, events

LARGE = 9 << 20  # goes up in parts


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / f"{uuid4().hex[:8]}.zip"
    path.write_bytes(b"first")
    return path


def versions(key: str) -> list[bytes]:
    """What the bucket has under a key, the newest first."""
    s3 = boto3.client("s3")
    found = s3.list_object_versions(Bucket="datasets", Prefix=key).get("Versions", [])
    return [
        s3.get_object(Bucket="datasets", Key=key, VersionId=each["VersionId"])["Body"].read()
        for each in sorted(found, key=lambda each: not each["IsLatest"])
    ]


@pytest.mark.parametrize(
    ("names", "bucket"),
    [("a.zip B.ZIP", "datasets"), ("a.jpg b.PNG c.mp4", "media"), ("yolo11n.pt", "base-models")],
)
def test_files_of_a_kind_have_a_bucket(names: str, bucket: str) -> None:
    assert bucket_of([Path(name) for name in names.split()]) == bucket


@pytest.mark.parametrize(("names", "found"), [("a.zip notes.txt", "notes.txt"), ("a.zip b.jpg", r"b.jpg \(media\)")])
def test_files_that_belong_nowhere_or_into_several_buckets_are_refused(names: str, found: str) -> None:
    with pytest.raises(StackError, match=rf"found .*{found}.*--bucket"):
        bucket_of([Path(name) for name in names.split()])


def test_a_photo_is_no_archive(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.touch()
    with pytest.raises(StackError, match=r"found photo\.jpg.*--bucket media"):
        upload(StackSettings.load(), [photo], "datasets")


def test_weights_are_uploaded_once_and_never_over_others(stack: StackSettings, tmp_path: Path) -> None:
    weights = tmp_path / f"{uuid4().hex[:8]}.pt"
    for body in (b"small", b"x" * LARGE):
        weights.write_bytes(body)
        assert [upload_weights(stack, weights, replace=replace) for replace in (True, False)] == [weights.name] * 2
    for others in (b"y" * LARGE, b"other"):
        weights.write_bytes(others)
        with pytest.raises(StackError, match=rf"found {weights.name} there already"):
            upload_weights(stack, weights)
    stored = boto3.client("s3").get_object(Bucket="base-models", Key=weights.name)["Body"].read()
    assert stored == b"x" * LARGE
    with pytest.raises(StackError, match=r"Expected weights \(.pt\), found a.zip"):
        upload_weights(stack, tmp_path / "a.zip")


def test_a_taken_name_is_replaced_only_on_request_and_the_former_bytes_stay(
    stack: StackSettings, archive: Path
) -> None:
    upload(stack, [archive], "datasets")
    archive.write_bytes(b"second")
    with pytest.raises(StackError, match=rf"found {archive.name} there already.*REPLACE=1.*keeps what it held"):
        upload(stack, [archive], "datasets")
    assert versions(archive.name) == [b"first"]
    upload(stack, [archive], "datasets", replace=True)
    assert versions(archive.name) == [b"second", b"first"]
    boto3.client("s3").delete_object(Bucket="datasets", Key=archive.name)
    assert sorted(versions(archive.name)) == [b"first", b"second"]
    upload(stack, [archive], "datasets")


def test_an_archive_that_is_uploaded_is_an_event(stack: StackSettings, archive: Path) -> None:
    """The command reads the address of Prefect before it imports it."""
    command = [sys.executable, "-m", "studio", "upload", "--replace", str(archive)]
    boto3.client("s3").put_object(Bucket="datasets", Key=archive.name, Body=b"former")
    archive.write_text(archive.name)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (done.stdout, done.stderr) == (f"s3://datasets/{archive.name}\n", "")
    payload = emitted("dataset.uploaded", f"dataset:{digest}")["payload"]
    assert payload == {"archive": archive.name, "digest": digest, "size": len(archive.name)}
    upload(stack, [archive], "media")
    assert len(events("dataset.uploaded", f"dataset:{digest}")) == 1


def test_without_prefect_an_upload_is_whole_and_says_what_is_missing(
    stack: StackSettings,  # noqa: ARG001
    archive: Path,
) -> None:
    command = [sys.executable, "-m", "studio", "upload", str(archive)]
    away = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(command, env=away, capture_output=True, text=True, check=True)
    assert "event dataset.uploaded was not emitted" in done.stderr
    assert versions(archive.name) == [b"first"]


def test_of_several_files_none_goes_up_where_one_name_is_taken(stack: StackSettings, archive: Path) -> None:
    upload(stack, [archive], "datasets")
    other = archive.with_name(f"new-{archive.name}")
    other.write_bytes(b"new")
    with pytest.raises(StackError, match=archive.name):
        upload(stack, [other, archive], "datasets")
    assert versions(other.name) == []


@pytest.mark.parametrize("size", [5, LARGE], ids=["one request", "in parts"])
def test_of_two_that_upload_one_name_at_once_one_is_refused(
    stack: StackSettings, archive: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sees the other's object when it looks first.

    Of two uploads in parts that end in one moment SeaweedFS takes both now and then; the bucket then keeps both.
    """
    monkeypatch.setattr(uploading, "_is_present", lambda *_: False)
    paths = [archive.with_name(f"{number}") / archive.name for number in range(2)]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_bytes(bytes([number]) * size)

    def attempt(path: Path) -> str:
        try:
            upload(stack, [path], "datasets")
        except StackError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(attempt, paths))
    if size == LARGE and told == ["", ""]:
        assert sorted(versions(archive.name)) == [path.read_bytes() for path in paths]
    else:
        assert sorted(map(bool, told)) == [False, True], told
        assert [text for text in told if text and "REPLACE=1" not in text] == []
        assert versions(archive.name) == [paths[told.index("")].read_bytes()]
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket="datasets", Prefix=archive.name)


def test_the_command_says_how_to_replace(stack: StackSettings, archive: Path) -> None:
    upload(stack, [archive], "media")
    command = [sys.executable, "-m", "studio", "upload", "--bucket", "media", str(archive)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "REPLACE=1" in refused.stderr, "Traceback" in refused.stderr) == (1, True, False)
