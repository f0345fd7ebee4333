"""The object store's steps, against the real one."""

import hashlib
from pathlib import Path

import boto3
import httpx
import pytest

from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import StackSettings
from tasks.orchestration.retries import RetryPolicy
from tasks.serving import model_repository
from tasks.storage import steps as storage
from tasks.storage.object_names import S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError

pytestmark = pytest.mark.usefixtures("stack")


def test_a_folder_goes_up_with_links_that_open(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text("<p>hello</p>")
    ObjectStore("predictions").upload_folder(tmp_path, "upload-test")
    answer = httpx.get(ObjectStore("predictions").presigned_url("upload-test/sub/page.html"))
    assert (answer.text, answer.headers["content-type"]) == ("<p>hello</p>", "text/html")


def test_a_version_is_published_only_when_whole(tmp_path: Path) -> None:
    """The graph alone is half a version: the code that runs it comes last; and so is that alone."""
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    boto3.client("s3").upload_file(str(graph), "models", "half/1/model.onnx")
    assert model_repository.read_published_digest.fn("half", 1) is None
    digest = model_repository.publish_version.fn("half", 1, graph)
    assert model_repository.read_published_digest.fn("half", 1) == digest == hashlib.sha256(b"graph").hexdigest()
    boto3.client("s3").delete_object(Bucket="models", Key="half/1/model.onnx")
    assert model_repository.read_published_digest.fn("half", 1) is None
    model_repository.delete_version.fn("half", 1)
    assert model_repository.read_published_digest.fn("half", 1) is None
    assert not list(ObjectStore("models").keys("half/"))


def test_a_config_is_written_and_taken_away_again() -> None:
    config = model_repository.ConfigFile("half")
    assert config.read() is None
    config.write('name: "half"')
    assert config.read() == 'name: "half"'
    config.write(None)
    config.write(None)
    assert config.read() is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b.zip", "b.zip"),
        ("x/..", "object"),
        (".hidden", "hidden"),
        ("a b&c.zip", "a_b_c.zip"),
        ("ü" * 300, "_" * 100),
    ],
)
def test_file_names_are_such_as_any_disk_takes(key: str, expected: str) -> None:
    assert storage.file_name(key) == expected


def test_a_connection_cut_in_the_middle_is_a_storage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """boto3's transfer manager raises errors of its own; they are explained like the others."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("tasks.storage.s3_client.STORE_RESTART", RetryPolicy(first_s=0.1, total_s=0.5))
    (tmp_path / "x").write_text("x")
    with pytest.raises(StorageError, match="object store failed while writing"):
        ObjectStore("predictions").upload_folder(tmp_path, "never")


def test_an_error_lists_a_bucket_only_if_people_may_list_it(stack: StackSettings) -> None:
    """A bucket elsewhere may be one that only the worker's key reads."""
    s3 = boto3.client("s3")
    s3_client(stack, Role.ADMIN).create_bucket(Bucket="elsewhere")
    for bucket in ("elsewhere", "datasets"):
        s3.put_object(Bucket=bucket, Key="secret-name.zip", Body=b"x")
    messages = {}
    for bucket in ("elsewhere", "datasets"):
        with pytest.raises(StorageError) as error:
            storage.require_object(S3Uri(bucket, "missing.zip"), "a dataset archive", "Upload one.")
        messages[bucket] = str(error.value)
    assert "secret-name" not in messages["elsewhere"]
    assert "s3://elsewhere/missing.zip, found none of that name in the bucket. Upload one." in messages["elsewhere"]
    assert "it holds " in messages["datasets"]
