"""An archive of another tool becomes one that is checked and published, under a name of its own."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from prefect.client.schemas.objects import State

from flows.import_dataset import import_dataset
from tasks.dataset_watch.checks import list_started
from tasks.dataset_watch.rules import FoundArchive
from tasks.importing.import_records import read_import
from tasks.parameters import ImportParams
from tasks.storage.multipart_uploads import upload_if_absent
from tests.emitted import emitted
from tests.tasks.importing import sources
from tests.tasks.importing.sources import Box

pytestmark = pytest.mark.usefixtures("stack")

IMAGES = {f"{number}.jpg": [Box("cat", 4, 4, 30, 40), Box("dog", 30, 8, 60, 44)] for number in range(10)}


@pytest.fixture
def name() -> str:
    """A key of the test's own."""
    return f"{uuid4().hex}.zip"


def imported(source: str, archive: str, **importing: object) -> State:
    params = ImportParams.model_validate(importing)
    state: State = import_dataset(source=source, archive=archive, importing=params, return_state=True)
    return state


def put(key: str, files: dict[str, bytes | str]) -> str:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for entry, data in files.items():
            archive.writestr(entry, data)
    boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=body.getvalue())
    return key


def get(key: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(boto3.client("s3").get_object(Bucket="datasets", Key=key)["Body"].read()))


def test_an_archive_of_coco_is_published_with_where_it_comes_from(name: str) -> None:
    source = put(f"sources/{name}", sources.coco(IMAGES))
    state = imported(source, name)

    assert state.is_completed(), state.message
    assert state.message == f"{name}: 10 images, 20 labels of 2 classes, from coco; nothing lost"
    told = json.loads(get(name).read("provenance.json"))
    assert (told["source"], told["images"]["images/train/0.jpg"]) == (source, "images/default/0.jpg")
    body = boto3.client("s3").get_object(Bucket="datasets", Key=name)["Body"].read()
    digest = hashlib.sha256(body).hexdigest()
    record = read_import(digest)
    assert record
    assert (record.source, record.source_digest, record.changes) == (source, told["sha256"], {})
    payload = {"archive": name, "digest": digest, "size": len(body)}
    assert emitted("dataset.uploaded", f"dataset:{digest}")["payload"] == payload
    found = boto3.client("s3").head_object(Bucket="datasets", Key=name)
    assert list_started(FoundArchive(key=name, etag=found["ETag"], modified=found["LastModified"]))
    again = imported(source, name.replace(".zip", "-again.zip"))
    assert again.is_completed(), again.message
    assert read_import(digest) == record  # of the run that made these bytes first


def test_another_archive_of_the_name_stays(name: str) -> None:
    put(name, {"a.txt": "mine"})
    state = imported(put(f"sources/{name}", sources.coco(IMAGES)), name)

    assert state.is_failed()
    assert "Nothing is replaced" in str(state.message)
    assert get(name).namelist() == ["a.txt"]


def test_what_the_check_refuses_is_not_published(name: str) -> None:
    """The same image in train and val."""
    pictures = {f"{split}/images/a.jpg": sources.jpeg(1) for split in ("train", "val")}
    labels = {f"{split}/labels/a.txt": "0 0.5 0.5 0.2 0.2" for split in ("train", "val")}
    state = imported(put(f"sources/{name}", {**pictures, **labels}), name)

    assert state.is_failed()
    assert "split-leak" in str(state.message)
    with pytest.raises(boto3.client("s3").exceptions.ClientError):
        get(name)


def test_of_several_writers_the_first_has_the_name_and_may_come_again(name: str, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_bytes(b"mine")
    other.write_bytes(b"other")
    done = [upload_if_absent("datasets", name, *each) for each in ((mine, "me"), (other, "you"), (mine, "me"))]

    assert done == [True, False, True]
    assert boto3.client("s3").get_object(Bucket="datasets", Key=name)["Body"].read() == b"mine"
    assert not boto3.client("s3").list_multipart_uploads(Bucket="datasets", Prefix=name).get("Uploads")
