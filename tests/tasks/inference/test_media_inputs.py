"""The inputs of inference in the real object store: which there are, and their bytes, whatever happens meanwhile."""

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import numpy as np
import pytest

from infra.stack_settings import StackSettings
from tasks.inference.image_lists import ImageList, ListedImage, write_image_list
from tasks.inference.media_inputs import MediaStore, list_media, list_media_sources
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind
from tasks.orchestration.retries import RetryPolicy
from tasks.storage import object_store, ranged_reads, s3_client
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.storage.s3_client import StorageError
from tests.proxy import Proxy

pytestmark = pytest.mark.usefixtures("stack")
KEYS = ("list/a.jpg", "list/b.png", "list/deep/c.jpg", "list/d[1].jpg", "list/é ü.jpg")


def put(key: str, body: bytes) -> None:
    boto3.client("s3").put_object(Bucket="media", Key=key, Body=body)


def noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def zipped(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return file.getvalue()


@pytest.fixture
def place() -> str:
    return f"media-{uuid4().hex[:8]}/"


@pytest.fixture
def proxy(stack: StackSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    proxy = Proxy(stack.s3_port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()


@pytest.fixture(scope="module", autouse=True)
def objects(stack: object) -> None:  # noqa: ARG001
    for key in KEYS:
        put(key, key.encode())


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
        (["list/deep/", "list/d[1].jpg", "list/*", "list/"], ["list/deep/c.jpg", "list/d[1].jpg", *sorted(KEYS)]),
    ],
)
def test_inputs_name_objects_once(inputs: list[str], expected: list[str]) -> None:
    found = list(list_media(inputs))
    assert [stored.name.key for stored in found] == list(dict.fromkeys(expected))
    for stored in found:
        there = boto3.client("s3").head_object(Bucket="media", Key=stored.name.key)
        assert (stored.size, stored.etag) == (there["ContentLength"], there["ETag"])


@pytest.mark.parametrize("text", ["list/none.jpg", "list/x*.jpg", "none/", "list/a.jpg/"])
def test_an_input_that_matches_nothing_is_named(text: str) -> None:
    with pytest.raises(StorageError, match="Expected images or videos at s3://media/"):
        list(list_media(["list/a.jpg", text]))


def test_more_objects_than_a_page_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_KEYS_PER_REQUEST", 2)
    assert [stored.name.key for stored in list_media(["list/"])] == sorted(KEYS)


def test_what_cannot_be_looked_at_comes_with_its_fault(place: str) -> None:
    put(f"{place}a.jpg", b"a")
    put(f"{place}b.zip", zipped({"x/1.jpg": b"one", "notes.txt": b"", "2.jpg": b"two", "film.mp4": b"film"}))
    put(f"{place}c.zip", b"PK\x03\x04 no zip")
    put(f"{place}d.mp4", b"film")
    put(f"{place}e", b"\xff\xd8\xff\xe0" + noise(500))
    put(f"{place}f.txt", b"text")
    found = list(list_media_sources([place]))
    base = f"s3://media/{place}"
    assert [(source.name.removeprefix(base), source.kind) for source in found] == [
        ("a.jpg", MediaKind.IMAGE),
        ("b.zip", MediaKind.ARCHIVE),
        *((f"b.zip/{name}", MediaKind.IMAGE) for name in ("x/1.jpg", "2.jpg", "film.mp4")),
        *(
            ("c.zip", MediaKind.ARCHIVE),
            ("d.mp4", MediaKind.VIDEO),
            ("e", MediaKind.IMAGE),
            ("f.txt", MediaKind.UNKNOWN),
        ),
    ]
    store = MediaStore()
    assert [source.note is None for source in found].index(False) == 1
    assert "1 files that are none by their names (1 .txt)" in str(found[1].note)
    assert [store.read(found[number]) for number in (0, 2, 3)] == [b"a", b"one", b"two"]
    for number, said in ((4, "a video inside a zip"), (5, "damaged archive"), (8, "another kind of file")):
        with pytest.raises(MediaError, match=said):
            store.read(found[number])


def test_images_of_a_run_come_as_it_left_them_and_once(place: str) -> None:
    """An image that has changed since keeps the ETag of that time, by which a reader sees it."""
    put(f"{place}a.jpg", b"a")
    put(f"{place}b.zip", zipped({"1.jpg": b"one", "2.jpg": b"two"}))
    first, one, two = list_media_sources([place])
    run = str(uuid4())
    write_image_list(run, ImageList(images=tuple(ListedImage(source=each, reason="-") for each in (two, first))))
    put(f"{place}a.jpg", b"other")
    assert list(list_media_sources([place, f"run:{run}", f"run:{run}"])) == [two, first, one]
    with pytest.raises(ObjectChangedError):
        MediaStore().read(first)


def test_what_systems_put_beside_files_is_nobodys_input(place: str) -> None:
    own = ("a.jpg", ".hidden.jpg", ".more/b.jpg")
    for name in (*own, ".DS_Store", "._a.jpg", "__MACOSX/a.jpg", "Thumbs.db", "@eaDir/a.jpg"):
        put(f"{place}{name}", b"x")
    for inputs in ([place], [f"{place}*"]):
        assert {source.key.removeprefix(place) for source in list_media_sources(inputs)} == set(own)
    assert [source.key for source in list_media_sources([f"{place}__MACOSX/"])] == [f"{place}__MACOSX/a.jpg"]


def test_threads_read_a_zip_in_few_requests(place: str) -> None:
    entries = {f"{number:03d}.jpg": noise(40_000 + number) for number in range(200)}
    put(f"{place}many.zip", zipped(entries))
    found, store, requests = list(list_media_sources([f"{place}many.zip"])), MediaStore(), list[str]()
    events = s3_client.client(attempts=1).meta.events

    def count(params: dict[str, Any], **_: object) -> None:
        requests.append(params["headers"].get("Range", "all"))

    events.register("before-call.s3.GetObject", count)
    with ThreadPoolExecutor(6) as pool:
        read = list(pool.map(store.read, found))
    events.unregister("before-call.s3.GetObject", count)
    assert read == list(entries.values())
    assert len(requests) <= 12, f"{len(requests)} requests for 8 MB in blocks of 1 MiB"


@pytest.mark.parametrize("after", [b"other", None], ids=["changed", "gone"])
def test_what_is_not_as_it_was_planned_says_so(place: str, after: bytes | None, tmp_path: Path) -> None:
    put(f"{place}a.jpg", b"first")
    put(f"{place}b.zip", zipped({"1.jpg": b"one", "2.jpg": noise(3_000_000)}))
    put(f"{place}c.mp4", b"film")
    image, entry, second, film = list_media_sources([place])
    store = MediaStore()
    assert store.read(entry) == b"one"
    for key in ("a.jpg", "b.zip", "c.mp4"):
        if after is None:
            boto3.client("s3").delete_object(Bucket="media", Key=place + key)
        else:
            put(place + key, after)
    said = "found other content. Start a new run" if after else "found none. Upload it again"
    for source, reader in ((image, store), (second, store), (entry, MediaStore())):
        with pytest.raises(ObjectChangedError, match=said) as error:
            reader.read(source)
        assert not error.value.transient
    with pytest.raises(ObjectChangedError, match=said):
        store.fetch(film, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_for_seconds_is_waited_for(
    place: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a film, and of the list of what there is."""
    monkeypatch.setattr(ranged_reads, "_SLICE", 1 << 20)
    film = noise(12_000_000)
    put(f"{place}a.mp4", film)
    put(f"{place}b.zip", zipped({"1.jpg": noise(2_000_000)}))

    def cut() -> None:
        for _ in range(5):
            time.sleep(0.3)
            proxy.close()
            time.sleep(0.6)
            proxy.open()

    cutting = threading.Thread(target=cut)
    cutting.start()
    while cutting.is_alive():
        video, entry = list_media_sources([place])
        store = MediaStore()
        assert store.read(entry) == noise(2_000_000)
        store.fetch(video, tmp_path / "film.mp4")
        assert (tmp_path / "film.mp4").read_bytes() == film


def test_a_store_that_stays_away_is_an_error_that_may_pass(
    place: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "STORE_RESTART", RetryPolicy(first_s=0.1, total_s=1.0))
    put(f"{place}a.jpg", b"first")
    (source,) = list_media_sources([place])
    proxy.close()
    with pytest.raises(StorageError, match="failed while reading") as error:
        MediaStore().read(source)
    assert error.value.transient


def test_a_film_that_has_no_room_is_refused_before_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged_reads, "MIN_FREE_BYTES", 1 << 60)
    film = MediaSource(name="film", bucket="media", key="none.mp4", etag="", size=1000, kind=MediaKind.VIDEO)
    with pytest.raises(StorageError, match=r"Expected 1,152,\S+ bytes free for s3://media/none.mp4, found"):
        MediaStore().fetch(film, tmp_path / "film")
