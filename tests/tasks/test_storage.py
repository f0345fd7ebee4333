"""The object store's steps, against the real one."""

import hashlib
from pathlib import Path

import boto3
import httpx
import pytest

from tasks.core.buckets import ObjectName
from tasks.storage import objects as storage
from tasks.storage import repository
from tasks.storage.connection import StorageError

pytestmark = pytest.mark.usefixtures("stack")
KEYS = ("list/a.jpg", "list/b.png", "list/deep/c.jpg", "list/d[1].jpg", "list/é ü.jpg")


@pytest.fixture(scope="module", autouse=True)
def objects(stack: object) -> None:  # noqa: ARG001
    for key in KEYS:
        boto3.client("s3").put_object(Bucket="media", Key=key, Body=key.encode())


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["list/a.jpg"], ["list/a.jpg"]),
        (["s3://media/list/a.jpg", "list/a.jpg"], ["list/a.jpg"]),
        (["list/deep/"], ["list/deep/c.jpg"]),
        (["list/*.png", "list/a.jpg"], ["list/b.png", "list/a.jpg"]),
        (["list/d[1].jpg"], ["list/d[1].jpg"]),
        (["list/[ab].*"], ["list/a.jpg", "list/b.png"]),
        (["list/"], sorted(KEYS)),
    ],
)
def test_inputs_name_objects(inputs: list[str], expected: list[str]) -> None:
    assert storage.list_media.fn(inputs) == [ObjectName("media", key) for key in expected]


@pytest.mark.parametrize("text", ["list/none.jpg", "list/x*.jpg", "none/", "list/a.jpg/"])
def test_an_input_that_matches_nothing_is_named(text: str) -> None:
    with pytest.raises(StorageError, match="Expected images or videos at s3://media/"):
        storage.list_media.fn(["list/a.jpg", text])


def test_media_come_down_in_order_under_safe_names(tmp_path: Path) -> None:
    names = storage.list_media.fn(["list/"])
    found = storage.fetch_media.fn(names, tmp_path / "media")
    assert [source for source, _ in found] == [f"s3://media/{key}" for key in sorted(KEYS)]
    assert [path.read_text() for _, path in found] == sorted(KEYS)
    assert {path.parent for _, path in found} == {tmp_path / "media"}


def test_a_folder_goes_up_with_links_that_open(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text("<p>hello</p>")
    links = storage.upload_folder.fn(tmp_path, "predictions", "upload-test")
    answer = httpx.get(links["sub/page.html"])
    assert (answer.text, answer.headers["content-type"]) == ("<p>hello</p>", "text/html")


def test_a_version_is_published_only_when_whole(tmp_path: Path) -> None:
    """The graph alone is half a version: the code that runs it comes last; and so is that alone."""
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    boto3.client("s3").upload_file(str(graph), "models", "half/1/model.onnx")
    assert repository.published_digest("half", 1) is None
    digest = repository.publish_version.fn("half", 1, graph)
    assert repository.published_digest("half", 1) == digest == hashlib.sha256(b"graph").hexdigest()
    boto3.client("s3").delete_object(Bucket="models", Key="half/1/model.onnx")
    assert repository.published_digest("half", 1) is None
    repository.withdraw_version.fn("half", 1)
    assert repository.published_digest("half", 1) is None
    assert not storage.list_keys("models", "half/")


def test_a_config_is_written_and_taken_away_again() -> None:
    config = repository.ConfigFile("half")
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
    (tmp_path / "x").write_text("x")
    with pytest.raises(StorageError, match="object store failed while writing"):
        storage.upload_folder.fn(tmp_path, "predictions", "never")
