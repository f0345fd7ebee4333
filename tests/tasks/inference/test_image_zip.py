"""Zips, and zips that mean harm."""

import io
import struct
import warnings
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.inference import image_zip
from tasks.inference.image_zip import ZipImage, list_zip_images, read_zip_image
from tasks.media.errors import MediaError
from tests.tasks.media.samples import encoded, photo, zipped

PNG = encoded(photo())


def read_pictures(data: bytes) -> Iterator[tuple[ZipImage, bytes | str]]:
    """Yield each picture with its bytes, or with the reason why it has none; a fault in the list is that reason."""
    file = io.BytesIO(data)
    for entry in list_zip_images(file).entries:
        with zipfile.ZipFile(file) as archive:
            try:
                content: bytes | str = read_zip_image(archive, entry.index)
            except MediaError as error:
                content = str(error)
            assert entry.fault in {None, content}
        yield entry, content


def read_all(data: bytes) -> dict[str, str]:
    """Return what becomes of each picture by its name: "ok", or why not."""
    return {
        entry.name: content if isinstance(content, str) else "ok" if len(content) == entry.size else "short"
        for entry, content in read_pictures(data)
    }


def test_the_pictures_are_listed_in_order_and_the_rest_is_counted(tmp_path: Path) -> None:
    entries = {
        "inner/b.png": PNG,
        "a.JPG": PNG,
        ".hidden.png": PNG,
        ".folder/c.jfif": PNG,
        "notes.txt": b"x",
        "d/label.TXT": b"x",
        "LICENSE": b"x",
        f"a.{'x' * 900}": b"x",
        "__MACOSX/a.png": b"x",
        "d/._a.png": b"x",
        ".DS_Store": b"x",
        "d/Thumbs.db": b"x",
        "": b"x",
        "d/": b"",
    }
    path = zipped(tmp_path / "pack.zip", entries)
    with path.open("rb") as file:
        listing = list_zip_images(file)
        assert listing.entries == [
            ZipImage(index=index, name=name, size=len(PNG)) for index, name in enumerate([*entries][:4])
        ]
        (note,) = listing.notes
        assert "found 4 files that are none by their names (2 .txt, 2 of no usual ending), which were passed" in note
        with zipfile.ZipFile(file) as archive, ThreadPoolExecutor(4) as pool:
            assert set(pool.map(read_zip_image, [archive] * 40, [0, 1] * 20)) == {PNG}


def test_pictures_of_a_kind_that_nobody_reads_and_archives_have_a_fault(tmp_path: Path) -> None:
    names = {"IMG_1.HEIC": "save it as JPEG", "b.jxl": "save it as JPEG", "more.zip": "a zip of their own"}
    outcomes = read_all(zipped(tmp_path / "z.zip", {**dict.fromkeys(names, b"x"), "a.png": PNG}).read_bytes())
    assert outcomes["a.png"] == "ok"
    for name, reason in names.items():
        assert reason in outcomes[name]


FILES = st.sampled_from(
    ["a.jpg", ".b.png", "c.heic", "d.txt", "e", "f.zip", "g.mp4", "._h.jpg", "Thumbs.db", ".i/j.bmp"]
)


@given(st.dictionaries(st.builds("{}/{}".format, st.sampled_from("xyz"), FILES), st.just(PNG), min_size=1))
@settings(max_examples=50)
def test_each_file_is_an_entry_or_counted_or_the_systems_own(files: dict[str, bytes]) -> None:
    own = {name for name in files if name.endswith((".db", "._h.jpg"))}
    media = {name for name in files if not name.endswith((".txt", "/e"))} - own
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    if not media:
        with pytest.raises(MediaError, match=f"found none among its {len(files)} entries"):
            list_zip_images(packed)
        return
    listing = list_zip_images(packed)
    assert {entry.name for entry in listing.entries} == media
    passed = len(files) - len(own) - len(media)
    assert [f"found {passed} files that are none" in note for note in listing.notes] == [True] * bool(passed)


def test_of_entries_with_one_name_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:
        for content in (PNG, b"other", b"again"):
            archive.writestr("a.png", content)
    with path.open("rb") as file:
        first, *others = list_zip_images(file).entries
        assert (first, [entry.index for entry in others]) == (ZipImage(index=0, name="a.png", size=len(PNG)), [1, 2])
        assert all("found it again" in (entry.fault or "") for entry in others)
        with zipfile.ZipFile(file) as archive:
            assert read_zip_image(archive, first.index) == PNG


def test_hostile_entries_are_refused_beside_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_zip, "POLICY", replace(image_zip.POLICY, max_entry_bytes=1_000_000))
    entries = {
        "../../evil.png": PNG,
        "..\\..\\evil.png": PNG,
        "C:\\evil.png": PNG,
        "/abs.png": PNG,
        "a\\b.png": PNG,
        "clip.mp4": b"x",
        "huge.png": np.random.default_rng(0).bytes(1_000_001),
        "bomb.png": bytes(999_999),
        "good.png": PNG,
    }
    outcomes = read_all(zipped(tmp_path / "z.zip", entries).read_bytes())
    assert [name for name, outcome in outcomes.items() if outcome == "ok"] == ["a/b.png", "good.png"]
    for name, reason in {
        "../../evil.png": "leads elsewhere",
        "..\\..\\evil.png": "leads elsewhere",
        "C:\\evil.png": "leads elsewhere",
        "/abs.png": "leads elsewhere",
        "clip.mp4": "video inside a zip",
        "huge.png": "found 1,000,001",
        "bomb.png": "packing by at most",
    }.items():
        assert reason in outcomes[name]


def test_locked_and_oddly_packed_entries_are_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "z.zip", {"a.png": PNG, "b.png": PNG}).read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    data[first + 8] |= 1
    data[second + 10] = zipfile.ZIP_LZMA
    outcomes = read_all(bytes(data))
    assert "without a password" in outcomes["a.png"]
    assert "stored or deflated" in outcomes["b.png"]


def test_a_directory_that_lies_about_a_size_is_found_out(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "z.zip", {"a.png": b"x" * 900}).read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 800)
    assert "expected a readable zip entry" in read_all(bytes(data))["a.png"]


def test_a_damaged_entry_stops_only_itself(tmp_path: Path) -> None:
    png = encoded(np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8))
    data = bytearray(zipped(tmp_path / "z.zip", {"a.png": png, "b.png": png}).read_bytes())
    data[60:90] = bytes(30)
    outcomes = read_all(bytes(data))
    assert outcomes["a.png"] != "ok"
    assert outcomes["b.png"] == "ok"


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "z.zip", {"a.png": PNG})
    with zipfile.ZipFile(path) as archive, pytest.raises(MediaError, match="found 1 entries"):
        read_zip_image(archive, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"PK\x03\x04junk", "damaged archive"), (b"", "damaged archive"), (None, "found none among its 1 entries")],
)
def test_a_zip_without_pictures_is_an_error(tmp_path: Path, data: bytes | None, reason: str) -> None:
    data = zipped(tmp_path / "z.zip", {"notes.txt": b"x"}).read_bytes() if data is None else data
    with pytest.raises(MediaError, match=reason):
        list_zip_images(io.BytesIO(data))


def test_too_many_entries_and_a_directory_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = zipped(tmp_path / "z.zip", {"a.png": b"x", "b.png": b"x"}).read_bytes()
    monkeypatch.setattr(image_zip, "POLICY", replace(image_zip.POLICY, max_entries=1))
    with pytest.raises(MediaError, match="found 2; split the zip"):
        list_zip_images(io.BytesIO(data))
    monkeypatch.setattr(image_zip, "POLICY", replace(image_zip.POLICY, max_directory_bytes=100))
    with pytest.raises(MediaError, match="a directory of 102 bytes; split the zip"):
        list_zip_images(io.BytesIO(data))


class Unsteady(io.BytesIO):
    """A file whose store goes away after `left` reads."""

    left = 99

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("no answer")
        return super().read(size)


def test_a_store_that_is_away_is_no_fault_of_the_zip(tmp_path: Path) -> None:
    file = Unsteady(zipped(tmp_path / "z.zip", {"a.png": PNG}).read_bytes())
    for left in range(3):
        file.left = left
        with pytest.raises(ConnectionError):
            list_zip_images(file)
    file.left = 99
    with zipfile.ZipFile(file) as archive:
        file.left = 1
        with pytest.raises(ConnectionError):
            read_zip_image(archive, 0)


@given(st.data())
@settings(deadline=None)
def test_a_damaged_zip_gives_whole_pictures_or_reasons(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.zip"
    whole = {"a.png": PNG, "b/c.png": b"x" * 99}
    content = bytearray((path if path.exists() else zipped(path, whole)).read_bytes())
    for _ in range(data.draw(st.integers(1, 10))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MediaError):
        for _, picture in read_pictures(bytes(content)):
            assert isinstance(picture, str) or picture in whole.values()
