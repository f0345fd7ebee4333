import io
import os
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from tasks.dataset.archive import ArchiveError, open_archive
from tests.tasks.dataset.archives import Content, check, codes, good, policy, zipped


def with_entry(name: str, content: bytes = b"x", **attributes: int) -> bytes:
    """A good archive with one more entry, whose directory record can be set at will."""
    buffer = io.BytesIO(zipped(good()))
    with zipfile.ZipFile(buffer, "a") as file:
        entry = zipfile.ZipInfo("placeholder")
        entry.filename = entry.orig_filename = name
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        file.writestr(entry, content)
    return buffer.getvalue()


def doubled() -> bytes:
    buffer = io.BytesIO(zipped(good()))
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("labels/train/a.txt", "1 0.5 0.5 0.1 0.1\n")
    return buffer.getvalue()


def encrypted(data: bytes) -> bytes:
    """Set the flag of encryption in every record."""
    changed = bytearray(data)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(mark, at + 4)
    return bytes(changed)


def corrupt(name: str) -> bytes:
    """Change one byte of a stored entry, so that only its checksum tells."""
    data = bytearray(zipped(good(), zipfile.ZIP_STORED))
    start = data.find(name.encode()) + len(name)
    data[start + 4] ^= 1
    return bytes(data)


def overlapping() -> bytes:
    """Let the directory claim more bytes than the file has, as zip bombs do that use one entry many times."""
    data = bytearray(zipped({f"{number}.txt": os.urandom(5000) for number in range(9)}))
    at = data.find(b"PK\1\2")
    while at >= 0:
        struct.pack_into("<I", data, at + 20, 40_000)
        at = data.find(b"PK\1\2", at + 4)
    return bytes(data)


def renamed(**names: str) -> dict[str, Content]:
    entries = good()
    for old, new in names.items():
        entries[new] = entries[old.replace("__", "/").replace("_txt", ".txt")]
    return entries


BAD = {
    "not a zip": (b"hello", "archive-unreadable"),
    "empty file": (b"", "archive-unreadable"),
    "truncated": (zipped(good())[:-30], "archive-unreadable"),
    "encrypted": (encrypted(zipped(good())), "archive-unreadable"),
    "bad checksum of an image": (corrupt("images/train/a.jpg"), "archive-unreadable"),
    "bad checksum of a label": (corrupt("labels/train/a.txt"), "archive-unreadable"),
    "bad checksum of data.yaml": (corrupt("data.yaml"), "archive-unreadable"),
    "packed with bzip2": (zipped(good(), zipfile.ZIP_BZIP2), "archive-unreadable"),
    "absolute": (with_entry("/etc/passwd"), "archive-unsafe-path"),
    "parent": (with_entry("images/../../x"), "archive-unsafe-path"),
    "parent with backslashes": (with_entry("images\\..\\..\\x"), "archive-unsafe-path"),
    "drive": (with_entry("C:\\x"), "archive-unsafe-path"),
    "NUL": (with_entry("a.txt\0.jpg"), "archive-unsafe-path"),
    "line break": (with_entry("a\n.txt"), "archive-unsafe-path"),
    "symbolic link": (with_entry("link", external_attr=(stat.S_IFLNK | 0o777) << 16), "archive-unsafe-path"),
    "device": (with_entry("device", external_attr=(stat.S_IFCHR | 0o666) << 16), "archive-unsafe-path"),
    "ratio": (with_entry("zeros.bin", bytes(2**21), compress_type=zipfile.ZIP_DEFLATED), "archive-too-large"),
    "overlap": (overlapping(), "archive-too-large"),
    "same name twice": (doubled(), "archive-duplicate-entry"),
    "names differ by case": (zipped(renamed(labels__train__a_txt="labels/train/A.txt")), "archive-duplicate-entry"),
    "names differ by Unicode form": (zipped({**good(), "caf\u00e9": "", "cafe\u0301": ""}), "archive-duplicate-entry"),
}


@pytest.mark.parametrize(("data", "code"), BAD.values(), ids=BAD)
def test_a_hostile_archive_gives_its_code(tmp_path: Path, data: bytes, code: str) -> None:
    report = check(tmp_path, data)

    assert codes(report).get(code) == "error"
    assert report.verdict == "invalid"


@pytest.mark.parametrize(("bad", "said"), [("names differ by Unicode form", True), ("same name twice", False)])
def test_of_names_that_look_the_same_it_is_reported_whether_they_are(tmp_path: Path, bad: str, *, said: bool) -> None:
    (finding,) = check(tmp_path, BAD[bad][0]).findings
    assert ("which the zip spells in another way" in finding.message) == said


FINE = {
    "good": zipped(good()),
    "stored": zipped(good(), zipfile.ZIP_STORED),
    "dots in a name": with_entry("a..b.md"),
    "not a drive": with_entry("ab:c.md"),
    "ordinary file": with_entry("notes.md", external_attr=(stat.S_IFREG | 0o644) << 16),
    "folder entries": zipped({"images/": "", "images/train/": "", **good()}),
    "backslashes": zipped(good()).replace(b"images/train", b"images\\train").replace(b"labels/train", b"labels\\train"),
    "small file of zeros": with_entry("zeros.bin", bytes(2**19), compress_type=zipfile.ZIP_DEFLATED),
    "leading dot": zipped({f"./{name}": content for name, content in good().items()}),
    "a prefix before the zip": b"#!/bin/sh\n" + zipped(good()),
}


@pytest.mark.parametrize("data", FINE.values(), ids=FINE)
def test_the_nearest_good_archive_gives_nothing(tmp_path: Path, data: bytes) -> None:
    report = check(tmp_path, data.replace(b"train: images\\train", b"train: images/train"))

    assert codes(report) == {}
    assert report.statistics.splits["train"].labelled == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_entries": 4}, True),
        ({"max_entries": 5}, False),
        ({"max_bytes": 1000}, True),
        ({"max_bytes": 100_000}, False),
    ],
)
def test_only_an_archive_over_a_limit_of_the_policy_is_refused(
    tmp_path: Path, limits: dict[str, float], expected: bool
) -> None:
    assert ("archive-too-large" in codes(check(tmp_path, good(), **limits))) is expected


@pytest.mark.parametrize("offset", [None, b"PK\5\6"])
def test_the_directory_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: bytes | None
) -> None:
    """By its length: an end record may claim fewer entries than it has, and its offset may look like another record."""
    data = bytearray(zipped({f"{number:0100}.txt": "" for number in range(3000)}))
    struct.pack_into("<HH", data, data.rfind(b"PK\5\6") + 8, 1, 1)
    data[-6:-2] = offset or data[-6:-2]
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("loaded"))

    assert codes(check(tmp_path, bytes(data), max_entries=10)) == {"archive-too-large": "error"}


def test_entries_are_counted_before_they_are_loaded_whatever_the_end_record_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(zipped({f"{number}.txt": "" for number in range(20)}))
    struct.pack_into("<HH", data, data.rfind(b"PK\5\6") + 8, 1, 1)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("loaded"))

    assert codes(check(tmp_path, bytes(data), max_entries=19)) == {"archive-too-large": "error"}


def test_a_zip64_end_record_is_read(tmp_path: Path) -> None:
    """Zipfile believes the 64-bit record wherever it stands, so its figures are the ones to check."""
    data = zipped(good())
    at = data.rfind(b"PK\5\6")
    count, _, start = struct.unpack_from("<HII", data, at + 10)
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, 10**5, start)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, at, 1)
    report = check(tmp_path, bytes(10**5) + data[:at] + record + locator + data[at:], max_entries=1)

    assert codes(report) == {"archive-too-large": "error"}
    assert "a directory of 100,000 bytes" in report.findings[0].message


@pytest.mark.parametrize("root", ["mine", "a/b"])
def test_a_wrapping_folder_is_taken_off(tmp_path: Path, root: str) -> None:
    report = check(tmp_path, {f"{root}/{name}": content for name, content in good().items()})

    assert codes(report) == {"archive-nested-root": "info"}
    assert report.verdict == "valid"
    assert report.statistics.splits["val"].labelled == 1


@pytest.mark.parametrize(
    "junk",
    ["__MACOSX/images/train/._a.jpg", "images/.DS_Store", "images/Thumbs.db", "labels.cache", "more.zip", "._x.jpg"],
)
def test_junk_is_reported_and_ignored(tmp_path: Path, junk: str) -> None:
    report = check(tmp_path, {**good(), junk: b"junk"})

    assert codes(report) == {"archive-junk": "info"}
    assert report.findings[0].path == junk


def test_junk_does_not_hide_the_wrapping_folder(tmp_path: Path) -> None:
    entries = {f"mine/{name}": content for name, content in good().items()}

    assert set(codes(check(tmp_path, {**entries, "__MACOSX/mine/._a": b""}))) == {"archive-nested-root", "archive-junk"}


def test_refused_entries_are_not_called_absent(tmp_path: Path) -> None:
    """An encrypted data.yaml is there, and the label of an encrypted image is no orphan."""
    assert check(tmp_path, encrypted(zipped(good()))).counts == {"archive-unreadable": 1}
    assert check(tmp_path, zipped(good(), zipfile.ZIP_LZMA)).counts == {"archive-unreadable": 1}


def test_a_bomb_that_is_part_of_the_dataset_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused when it is listed and again when it is read, but that is one fault."""
    monkeypatch.setattr("tasks.validation.collector.MAX_KEPT", 1)
    report = check(tmp_path, {**good(), "images/train/c.bmp": bytes(2**21)})

    assert [(finding.code, finding.path) for finding in report.findings] == [
        ("archive-too-large", "images/train/c.bmp")
    ]
    assert report.counts == {"archive-too-large": 1}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("missing", ["absent.zip", ".", "pipe"])
def test_what_is_not_a_file_is_a_finding(tmp_path: Path, missing: str) -> None:
    """Opening a named pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    archive, findings = open_archive(tmp_path / missing, policy())

    assert archive is None
    assert [finding.code for finding in findings] == ["archive-unreadable"]


def test_reading_is_capped_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(zipped({"a.bin": b"12345"}))
    archive, _ = open_archive(path, policy())
    assert archive is not None
    with archive:
        assert archive.read("a.bin", 5) == b"12345"
        with pytest.raises(ArchiveError, match="at most 4 bytes"):
            archive.read("a.bin", 4)
        with pytest.raises(KeyError):
            archive.read("b.bin")


@pytest.mark.parametrize("claimed", [10, 999, 1001, 50_000])
def test_an_entry_of_another_size_than_it_claims_is_damaged(tmp_path: Path, claimed: int) -> None:
    """The claimed size limits what is read, and then the checksum cannot fit."""
    data = bytearray(zipped({"a.bin": b"1" * 1000}))
    struct.pack_into("<I", data, data.find(b"PK\1\2") + 24, claimed)
    path = tmp_path / "data.zip"
    path.write_bytes(data)
    archive, _ = open_archive(path, policy())
    assert archive is not None
    with archive, pytest.raises(ArchiveError) as caught:
        archive.read("a.bin")
    assert caught.value.finding.code == "archive-unreadable"
    assert caught.value.finding.path == "a.bin"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change, cut out or double a few bytes, mostly in the directory at the end, where the structure is."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = (
            rng.randrange(len(changed))
            if rng.random() < 0.4
            else rng.randrange(max(0, len(changed) - 400), len(changed))
        )
        match rng.randrange(12):
            case 0:
                del changed[at : at + rng.randint(1, 8)]
            case 1:
                changed[at:at] = changed[at : at + rng.randint(1, 8)]
            case _:
                changed[at] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.slow
def test_mutated_archives_always_give_a_report(tmp_path: Path) -> None:
    """200 archives with a few bytes changed: a report each time, and nothing is ever written beside them."""
    rng = random.Random(7)  # noqa: S311  repeatable, not secret
    folder = tmp_path / "only"
    folder.mkdir()
    originals = [zipped(good(), method) for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)]
    verdicts = {check(folder, mutated(rng.choice(originals), rng)).verdict.value for _ in range(200)}

    assert "invalid" in verdicts
    assert [file.name for file in folder.iterdir()] == ["data.zip"]
    assert check(folder, originals[0]).verdict == "valid"
