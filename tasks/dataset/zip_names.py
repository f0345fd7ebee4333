"""The names of a zip's entries: one reader of names for all that reads archives.

A zip says that a name is UTF-8, or says nothing: then the tool that wrote it took UTF-8 (macOS, Info-ZIP) or the code
page of its Windows, and the letters have to show which.
"""

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import chardet

# Far more than any dataset needs, and less than any file system takes; findings repeat these names.
MAX_NAME = 1000
_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_SAMPLE_BYTES = 20_000
# By chardet's name: Python's codecs, the name that people use, and how usual it is in zips: Windows writes names in the
# code page of its consoles. In most of them each byte is a letter of its own.
_CODE_PAGES: dict[str, tuple[tuple[str, ...], str, float]] = {
    "cp932": (("cp932",), "Shift JIS", 1.0),
    "gb18030": (("gb18030",), "GBK", 1.0),
    "big5hkscs": (("cp950", "big5hkscs"), "Big5", 1.0),
    "cp949": (("cp949",), "Korean (code page 949)", 1.0),
    "cp866": (("cp866",), "Cyrillic (code page 866)", 1.0),
    "cp852": (("cp852",), "Central European (code page 852)", 1.0),
    "cp850": (("cp850",), "Western European (code page 850)", 1.0),
    "cp437": (("cp437",), "the code page of old DOS (437)", 1.0),
    "cp737": (("cp737",), "Greek (code page 737)", 0.5),
    "cp1251": (("cp1251",), "Cyrillic (Windows-1251)", 0.5),
    "cp1252": (("cp1252",), "Western European (Windows-1252)", 0.5),
    "cp857": (("cp857",), "Turkish (code page 857)", 0.2),
    "cp862": (("cp862",), "Hebrew (code page 862)", 0.2),
    "cp874": (("cp874",), "Thai (code page 874)", 0.2),
}
_OF_TWO_BYTES = ("cp932", "gb18030", "big5hkscs", "cp949")
# A reading is sure if it is so much likelier than the next with other letters, and has so many bytes beyond ASCII.
_SURE = 1.3
_ENOUGH_BYTES = 4
_JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
_JUNK_NAMES = frozenset({"Thumbs.db", "desktop.ini"})
_SYSTEMS_NAMES = _JUNK_NAMES | {".DS_Store", ".localized"}
# Advice for the owner of a zip with names in a code page.
WRITE_UTF8 = "zip it with a tool that writes UTF-8 (7-Zip: method parameter cu=on)"
_JUNK_ENDINGS = (".cache", ".zip")


@dataclass(frozen=True, kw_only=True)
class Guess:
    """How names without a charset were read: the charset in words, and the places of those names.

    It is not `sure` if another charset gives other letters that are nearly as likely, as UTF-8 does for some names of
    an archive that two tools wrote.
    """

    charset: str
    sure: bool
    places: frozenset[int]

    def __str__(self) -> str:
        """Return how they were read, in words."""
        return f"read as {self.charset}{'' if self.sure else ', though other letters are nearly as likely'}"


@dataclass(frozen=True)
class EntryNames:
    """The names of all entries, in the directory's order, as their tool wrote them; `guess` if letters decided."""

    written: Sequence[str]
    guess: Guess | None


def read_names(entries: Sequence[zipfile.ZipInfo]) -> EntryNames:
    """Read the names of an archive's entries; those that say nothing are taken together, as one tool wrote them all."""
    written = [entry.orig_filename for entry in entries]
    unknown: dict[int, bytes] = {}
    for place, entry in enumerate(entries):
        if entry.orig_filename.isascii() or entry.flag_bits & _UTF8_FLAG:
            continue
        raw = entry.orig_filename.encode("cp437")  # zipfile decoded it so, which loses nothing
        unicode_path = _unicode_path(entry.extra, raw)
        if unicode_path is None:
            unknown[place] = raw
        else:
            written[place] = unicode_path
    guess = None
    if unknown:
        codec, charset, sure = _charset(set(unknown.values()))
        for place, raw in unknown.items():
            written[place] = raw.decode(codec)
        guess = Guess(charset=charset, sure=sure, places=frozenset(unknown)) if codec != "utf-8" else None
    return EntryNames(written, guess)


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in Info-ZIP's Unicode path field, which counts only if it belongs to the name in the header."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        body = extra[4 : 4 + size]
        if kind == _UNICODE_PATH and body[:5] == b"\1" + struct.pack("<I", zlib.crc32(raw)):
            return body[5:].decode("utf-8") if _reads("utf-8", [body[5:]]) else None
        extra = extra[4 + size :]
    return None


def _charset(names: Iterable[bytes]) -> tuple[str, str, bool]:
    """Return the codec that reads all of these names, its usual name, and whether no other is nearly as likely."""
    names = list(names)
    if _reads("utf-8", names):
        return "utf-8", "UTF-8", True
    # Folders are the same in thousands of names, and ASCII is the same in every charset.
    parts = sorted({part for name in names for part in re.split(rb"[/.]", name) if not part.isascii()})
    sample = b"\n".join(parts)[:_SAMPLE_BYTES]
    readings: list[tuple[float, str, str]] = []
    for each in chardet.detect_all(sample, include_encodings=_CODE_PAGES, compat_names=False, ignore_threshold=True):
        kind = str(each["encoding"])
        codecs, charset, usual = _CODE_PAGES.get(kind, ((), "", 0.0))
        for codec in codecs:
            if _fits(codec, names) and (kind in _OF_TWO_BYTES or _is_text(sample.decode(codec, "replace"))):
                readings.append((usual * each["confidence"], codec, charset))
                break
    if not readings:  # too few letters to decide; old DOS read any bytes at all
        kind = next((kind for kind in _OF_TWO_BYTES if _fits(_CODE_PAGES[kind][0][0], names)), "cp437")
        return _CODE_PAGES[kind][0][0], _CODE_PAGES[kind][1], False
    likelihood, codec, charset = max(readings, key=lambda each: each[0])
    letters = sample.decode(codec, "replace")
    rival = max((other for other, name, _ in readings if sample.decode(name, "replace") != letters), default=0.0)
    is_enough = sum(byte > 127 for byte in sample) >= _ENOUGH_BYTES
    mixed = any(map(_is_plainly_utf8, names))
    return codec, charset, is_enough and not mixed and likelihood >= _SURE * rival


def _fits(codec: str, names: Iterable[bytes]) -> bool:
    """Return whether it reads all names, none with both slashes: a backslash may be the second half of a letter."""
    return _reads(codec, names) and not any({"/", "\\"} <= set(name.decode(codec)) for name in names if b"\\" in name)


def _is_text(letters: str) -> bool:
    """Return whether all beyond ASCII are letters; a wrong code page gives signs of frames and quotes."""
    return all(letter.isascii() or unicodedata.category(letter)[0] in "LM" for letter in letters)


def _is_plainly_utf8(name: bytes) -> bool:
    """Return whether a name is UTF-8, by letters of three bytes: those of two are letters of Chinese, too."""
    return _reads("utf-8", [name]) and max(name.decode()) > "\u07ff"


def _reads(codec: str, names: Iterable[bytes]) -> bool:
    try:
        for name in names:
            name.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def normal_name(written: str) -> str:
    """Return a name with plain slashes alone, in the one Unicode form that all names of an archive are compared in."""
    # Old Windows tools write backslashes; `zip -r x.zip .` may write a leading dot.
    return normalize_unicode("/".join(part for part in written.replace("\\", "/").split("/") if part not in {"", "."}))


def normalize_unicode(name: str) -> str:
    """Return a name in the Unicode form that all tools but those of macOS write."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_folder(written: str) -> bool:
    """Return whether an entry is a folder by its name, also by that of a tool that writes backslashes."""
    return written.endswith(("/", "\\"))


def is_junk(name: str) -> bool:
    """Return whether a file is what a system or a tool left among others: hidden, an index, a cache, an archive."""
    *folders, base = name.split("/")
    named = base in _JUNK_NAMES or base.startswith(".") or base.lower().endswith(_JUNK_ENDINGS)
    return named or any(folder.startswith(".") or folder in _JUNK_FOLDERS for folder in folders)


def is_apple_double(name: str) -> bool:
    """Return whether a junk file is what macOS and network drives put beside each file of somebody's own."""
    *folders, base = name.split("/")
    return base.startswith("._") or not _JUNK_FOLDERS.isdisjoint(folders)


def is_operating_system_file(name: str) -> bool:
    """Return whether a file is the system's own: a shadow of another, or an index of its folder."""
    return is_apple_double(name) or name.rpartition("/")[2] in _SYSTEMS_NAMES


def unsafe_reason(written: str) -> str | None:
    """Return why a name must not be followed, None if it may."""
    if not written:
        return "an empty name"
    if len(written) > MAX_NAME:
        return f"a path of {len(written)} characters"
    # Most names are printable, and that test is fast.
    if not written.isprintable() and any(unicodedata.category(character) in {"Cc", "Cs"} for character in written):
        return "a control character such as NUL"
    if written.startswith(("/", "\\")):
        return "an absolute path"
    if re.match(r"(\.[/\\]+)*[A-Za-z]:", written):
        return "a drive letter"
    return "a path with '..'" if ".." in written and ".." in re.split(r"[/\\]", written) else None
