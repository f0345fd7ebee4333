"""Names as many tools write them into zips: the right letters come out, or it is said that they were guessed."""

import io
import re
import string
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.dataset.archive import open_archive
from tasks.dataset.zip_names import normal_name, read_names
from tasks.inference.image_zip import list_zip_images
from tests.tasks.dataset.archives import BOX, check, codes, image, policy

WORDS = {
    "cp932": ["写真", "画像", "能力", "表示", "予定", "製品", "良品", "不良品", "みかん", "りんご", "ソース", "カメラ"],
    "gbk": ["照片", "训练", "红细胞", "白细胞", "汽车", "行人", "缺陷", "划痕", "安全帽", "不合格", "苹果", "香蕉"],
    "cp950": ["照片", "訓練", "紅血球", "白血球", "汽車", "功能", "缺陷", "火焰", "煙霧", "不合格", "蘋果", "香蕉"],
    "cp949": [
        "고양이",
        "강아지",
        "자동차",
        "사람",
        "사과",
        "바나나",
        "불량품",
        "양품",
        "사진",
        "학습",
        "검증",
        "이미지",
    ],
    "cp866": ["кошка", "собака", "машина", "человек", "дефект", "трещина", "яблоко", "огонь", "каска", "дым"],
    "cp850": ["äpfel", "nüsse", "größe", "übung", "vögel", "kühe", "straße", "öl", "löffel", "tür"],
}
Write = Callable[[str], tuple[bytes, int, bytes]]


def unicode_path(raw: bytes, name: str, crc: int | None = None) -> bytes:
    body = b"\1" + struct.pack("<I", zlib.crc32(raw) if crc is None else crc) + name.encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


def in_code_page(codec: str) -> Write:
    """Windows Explorer, 7-Zip and old WinZip: the code page of the system, and no word of it."""
    return lambda name: (name.encode(codec), 0, b"")


def with_unicode_path(codec: str) -> Write:
    """Info-ZIP and WinRAR: the same, and the name again in a field of its own."""
    return lambda name: (raw := name.encode(codec), 0, unicode_path(raw, name))


TELLING: dict[str, Write] = {
    "Python, 7-Zip with UTF-8": lambda name: (name.encode(), 0x800, b""),
    "macOS": lambda name: (unicodedata.normalize("NFD", name).encode(), 0, b""),
    "Info-ZIP": lambda name: (name.encode(), 0, b""),
    "PowerShell": lambda name: (name.replace("/", "\\").encode(), 0x800, b""),
    "a field that is not theirs, UTF-8": lambda name: (name.encode(), 0, unicode_path(b"", "other", 1)),
}


def written(names: Sequence[str], write: Write) -> bytes:
    """A zip of pictures whose names are the very bytes that a tool writes."""
    return raw_zip([write(name) for name in names])


def raw_zip(named: Sequence[tuple[bytes, int, bytes]], contents: Mapping[bytes, bytes] | None = None) -> bytes:
    body, directory = bytearray(), bytearray()
    for raw, flags, extra in named:
        content = (contents or {}).get(raw, image())
        fields = struct.pack(
            "<HHHHIIIHH", flags, 0, 0, 33, zlib.crc32(content), *[len(content)] * 2, len(raw), len(extra)
        )
        directory += b"PK\1\2\x14\0\x14\0" + fields + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + raw + extra
        body += b"PK\3\4\x14\0" + fields + raw + extra + content
    end = struct.pack("<HHHHIIH", 0, 0, len(named), len(named), len(directory), len(body), 0)
    return bytes(body + directory + b"PK\5\6" + end)


def listed(data: bytes) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.infolist()


def names_in(data: bytes) -> list[str]:
    return [normal_name(name) for name in read_names(listed(data)).written]


def several(codec: str) -> st.SearchStrategy[list[str]]:
    words = st.lists(st.sampled_from(WORDS[codec]), min_size=6, max_size=9, unique=True)
    return words.map(lambda chosen: [f"images/{word}/{number}_{word}.jpg" for number, word in enumerate(chosen)])


@pytest.mark.parametrize("codec", WORDS)
@pytest.mark.parametrize("tool", TELLING)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_names_that_can_be_known_are_right_and_nothing_is_reported(codec: str, tool: str, data: st.DataObject) -> None:
    names = data.draw(several(codec))
    packed = written(names, TELLING[tool])
    assert names_in(packed) == names
    assert read_names(listed(packed)).guess is None


@pytest.mark.parametrize("codec", WORDS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_unicode_path_field_counts_where_there_is_one(codec: str, data: st.DataObject) -> None:
    names = data.draw(several(codec))
    packed = written(names, with_unicode_path(codec))
    assert names_in(packed) == names
    assert read_names(listed(packed)).guess is None
    stale = raw_zip([(raw, flags, unicode_path(raw, "x.jpg", 7)) for raw, flags, _ in map(in_code_page(codec), names)])
    assert read_names(listed(stale)).guess is not None


@pytest.mark.parametrize("codec", WORDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_names_that_say_nothing_are_read_together_and_that_is_reported(codec: str, data: st.DataObject) -> None:
    """Six words of a language are enough to know its charset."""
    names = data.draw(several(codec))
    read = read_names(listed(written(names, in_code_page(codec))))
    assert read.guess is not None
    assert [normal_name(name) for name in read.written] == names
    assert read.guess.sure


@pytest.mark.parametrize("codec", ["cp932", "gbk", "cp950", "cp949"])
def test_names_of_two_tools_are_never_sure(codec: str) -> None:
    """UTF-8 without its flag beside a code page: no charset reads both right."""
    for word, other in pairwise(WORDS[codec]):
        read = read_names(listed(raw_zip([(word.encode(), 0, b""), (other.encode(codec), 0, b"")])))
        assert read.guess is not None
        assert not read.guess.sure


def test_half_a_letter_is_no_slash() -> None:
    """0x5C is the second byte of these letters."""
    for codec, letters in {"cp932": "表能予ソ十", "gbk": "誠乗俓", "cp950": "功許蓋"}.items():
        others = [f"images/{word}.jpg" for word in WORDS[codec]]
        names = [f"images/{letter}/{letter}.jpg" for letter in letters if b"\\" in letter.encode(codec)]
        assert names
        assert names_in(written([*names, *others], in_code_page(codec))) == [*names, *others]


def test_one_such_letter_alone_stays_in_its_name() -> None:
    assert names_in(written(["images/表.jpg"], in_code_page("cp932"))) == ["images/表.jpg"]


HOSTILE = st.sampled_from(["x/a", "X/a", "x/./a"]) | st.text(
    st.sampled_from("aAb/\\.:\0\n表能ò许ё. "), min_size=1, max_size=12
)


def place_of(written: str) -> str | None:
    """Where a name leads below the root, by a reading of its own; None if that is nowhere."""
    parts = [part for part in re.split(r"[/\\]", written) if part not in {"", "."}]
    leads_out = written[0] in "/\\" or ".." in parts or (parts[0][1:2] == ":" and parts[0][0] in string.ascii_letters)
    return None if leads_out or "\0" in written or "\n" in written else unicodedata.normalize("NFC", "/".join(parts))


@settings(max_examples=300, deadline=None)
@example(drawn=[(".\\a:", "utf-8")])  # a drive letter behind what is left out
@given(st.lists(st.tuples(HOSTILE, st.sampled_from(["utf-8", "flag", "cp932", "gbk", "cp950", "field"])), max_size=5))
def test_no_name_leads_outside_and_no_two_become_one(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str]]
) -> None:
    """What is left after reading is a plain place below the root, and what was put away is reported."""
    named = []
    for number, (name, way) in enumerate(drawn):
        text = f"{name}{number % 2}.jpg"
        codec = way if way.startswith("cp") or way == "gbk" else "utf-8"
        raw = b"\x95\x5c.jpg" if way == "field" else text.encode(codec, "ignore")
        named.append((raw, 0x800 if way == "flag" else 0, unicode_path(raw, text) if way == "field" else b""))
    path = tmp_path_factory.getbasetemp() / "hostile-names.zip"
    path.write_bytes(raw_zip(named or [(b"a.jpg", 0, b"")]))
    places = [place_of(written) for written in read_names(listed(path.read_bytes())).written]
    sound = [place for place in places if place]
    plain = [place for place in sound if not any(part.startswith(".") for part in place.split("/"))]  # none is hidden
    expected: dict[str, str] = {}
    for place in plain:
        expected.setdefault(place.lower(), place)
    archive, findings = open_archive(path, policy())
    assert archive is not None
    reported = Counter(str(finding.code) for finding in findings)
    with archive:
        assert [f"{archive.root}{name}" for name in archive.entries] == list(expected.values())
        assert reported["archive-unsafe-path"] == len(places) - len(sound)
        assert reported["archive-duplicate-entry"] == len(plain) - len(expected)
        assert bool(reported["archive-junk"]) == (len(plain) < len(sound))
        assert all(archive.read(name) == image() for name in archive.entries)
    entries = list_zip_images(io.BytesIO(path.read_bytes())).entries
    assert [entry.name for entry in entries if entry.fault is None] == list(dict.fromkeys(sound))
    assert len(entries) == len(places)


def test_a_letter_that_is_read_as_a_slash_and_two_dots_leads_nowhere(tmp_path: Path) -> None:
    """After the bytes are read, not before, it is decided where a name leads."""
    raw = "表/..\\..\\evil.jpg".encode("cp932")
    report = check(tmp_path, raw_zip([(raw, 0, b""), ("写真.jpg".encode("cp932"), 0, b"")]))
    assert codes(report)["archive-unsafe-path"] == "error"
    field = unicode_path(b"a.jpg", "../../evil.jpg")
    assert names_in(raw_zip([(b"a.jpg", 0, field)])) == ["a.jpg"]  # ASCII is the same in every charset
    raw = "写真.jpg".encode("cp932")
    report = check(tmp_path, raw_zip([(raw, 0, unicode_path(raw, "../../evil.jpg"))]))
    assert codes(report)["archive-unsafe-path"] == "error"


def test_a_class_whose_letters_are_unsure_is_an_error_and_one_that_is_guessed_a_warning(tmp_path: Path) -> None:
    def report(*classes: str) -> dict[str, tuple[str, str]]:
        names = [f"{split}/{name}/{number}.jpg" for name in classes for split in ("train", "val") for number in (1, 2)]
        found = check(tmp_path, written(names, in_code_page("gbk")))
        return {finding.code: (finding.severity.value, finding.message) for finding in found.findings}

    severity, message = report("猫", "狗")["archive-names"]
    assert severity == "warning"
    assert "read as GBK" in message
    assert "classes are named so: '狗', '猫'" in message
    severity, message = report("狗", "cat")["archive-names"]
    assert severity == "error"
    assert "other letters are nearly as likely" in message


def test_unsure_names_of_images_are_a_warning(tmp_path: Path) -> None:
    names = ["images/train/表.jpg", "images/val/b.jpg"]
    contents = {
        b"data.yaml": b"train: images/train\nval: images/val\nnames: [cat]\n",
        b"labels/val/b.txt": BOX.encode(),
    }
    named = [(name.encode("cp932"), 0, b"") for name in (*names, *map(bytes.decode, contents))]
    assert codes(check(tmp_path, raw_zip(named, contents)))["archive-names"] == "warning"


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("images/train/.a.jpg", "warning"),
        (".hidden/a.png", "warning"),
        ("images/.cache/clip.mp4", "warning"),
        ("__MACOSX/images/train/._a.jpg", "info"),
        ("images/train/._a.jpg", "info"),
        ("images/@eaDir/a.jpg", "info"),
        ("images/.DS_Store", "info"),
    ],
)
def test_images_among_junk_are_a_warning(tmp_path: Path, name: str, severity: str) -> None:
    report = check(tmp_path, raw_zip([(b"images/train/b.jpg", 0, b""), (name.encode(), 0, b"")]))
    assert codes(report)["archive-junk"] == severity


def test_check_and_inference_read_the_same_names(tmp_path: Path) -> None:
    names = [f"images/{word}/{number}.jpg" for number, word in enumerate(WORDS["cp932"])]
    for write in (*TELLING.values(), in_code_page("cp932"), with_unicode_path("cp932")):
        path = tmp_path / "x.zip"
        path.write_bytes(written(names, write))
        archive, _ = open_archive(path, policy())
        assert archive is not None
        with archive, path.open("rb") as file:
            assert sorted(f"{archive.root}{name}" for name in archive.entries) == sorted(names)
            listing = list_zip_images(file)
            assert [(entry.name, entry.fault) for entry in listing.entries] == [(name, None) for name in names]


def test_inference_tells_of_names_that_were_guessed() -> None:
    names = [f"images/{word}/{number}.jpg" for number, word in enumerate(WORDS["cp932"])]
    listing = list_zip_images(io.BytesIO(written(names, in_code_page("cp932"))))
    assert [(entry.name, entry.fault) for entry in listing.entries] == [(name, None) for name in names]
    (note,) = listing.notes
    assert f"found {len(names)} without, read as Shift JIS, such as 'images/写真/0.jpg'" in note
    unsure = list_zip_images(io.BytesIO(raw_zip([("表.jpg".encode("cp932"), 0, b"")])))
    assert "though other letters are nearly as likely" in unsure.notes[0]
