"""Which entries of a hostile zip may be read: unsafe, locked, doubled and junk ones are sorted out by the directory."""

import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from posixpath import commonpath
from typing import NamedTuple

from tasks.core.codes import Code
from tasks.core.findings import Finding, error, explain, info, quoted
from tasks.core.parameters import ValidationPolicy

# Folders that mean something in a dataset are never taken for a wrapping folder.
_LAYOUT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test", "images", "labels"})
# Those whose names begin with a dot, as .DS_Store and .ipynb_checkpoints, are junk as well.
_JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
_JUNK_NAMES = frozenset({"Thumbs.db", "desktop.ini"})
_JUNK_ENDINGS = (".cache", ".zip")
# Far more than any dataset needs, and less than any file system takes; findings repeat these names.
_MAX_NAME = 1000
_UTF8_FLAG = 0x800
# Blank images and short label files pack very well and are harmless, so the ratio counts from this size on.
_RATIO_FROM_BYTES = 2**20


def folder_of(name: str) -> str:
    """Return the folder of an entry, without a slash at its end; `""` for an entry at the root."""
    return name.rpartition("/")[0]


class Screened(NamedTuple):
    """The files by name, relative to `root` (empty, or the wrapping folder and a slash).

    `places` holds their names and those of the explicit folders, these with a slash, in order. `refused` says why some
    files must not be read: they are there all the same, and no rule may call them absent.
    """

    root: str
    entries: Mapping[str, zipfile.ZipInfo]
    places: Sequence[str]
    refused: Mapping[str, Finding]


def screen(directory: Iterable[zipfile.ZipInfo], policy: ValidationPolicy) -> tuple[Screened, list[Finding]]:
    """Leave out unsafe, doubled and junk entries, mark those that must not be read, and find the root.

    The findings name all that was left out or refused.
    """
    safe: list[tuple[str, zipfile.ZipInfo]] = []
    faults: list[Finding] = []
    for entry in directory:
        written = _written_name(entry)
        if fault := _unsafe_fault(entry, written):
            faults.append(fault)
        elif name := _normal_name(written):
            safe.append((name, entry))
    files = [(name, entry) for name, entry in safe if not _is_folder(entry)]
    entries, duplicates = _unique((name, entry) for name, entry in files if not _is_junk(name))
    root = _wrapping_folder(entries)
    relative = {name.removeprefix(root): entry for name, entry in entries.items()}
    folders = {f"{name}/".removeprefix(root) for name, entry in safe if _is_folder(entry) and name.startswith(root)}
    refused = _refused(relative, policy)
    # One finding stands for all locked entries, so it is there several times.
    faults += [*dict.fromkeys(refused.values()), *duplicates, *_root_notes(root), *_junk_notes(files)]
    return Screened(root, relative, sorted({*relative, *folders}), refused), faults


def _refused(entries: Mapping[str, zipfile.ZipInfo], policy: ValidationPolicy) -> dict[str, Finding]:
    bombs = {name: fault for name, entry in entries.items() if (fault := _ratio_fault(name, entry, policy))}
    locked = [name for name, entry in entries.items() if not _is_readable(entry)]
    return {**bombs, **dict.fromkeys(locked, _locked_fault(locked, len(entries)))} if locked else bombs


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)


def _written_name(entry: zipfile.ZipInfo) -> str:
    """macOS writes UTF-8 without the flag that says so, and zipfile then reads the code page of old DOS."""
    name = entry.orig_filename
    if name.isascii() or entry.flag_bits & _UTF8_FLAG:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _normal_name(name: str) -> str:
    # Old Windows tools write backslashes; `zip -r x.zip .` may write a leading dot.
    plain = "/".join(part for part in name.replace("\\", "/").split("/") if part not in {"", "."})
    return composed(plain)


def composed(name: str) -> str:
    """Return a name in the one Unicode form that all names of an archive are compared in; macOS writes the other."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.orig_filename.endswith(("/", "\\"))


def _is_readable(entry: zipfile.ZipInfo) -> bool:
    return not entry.flag_bits & 1 and entry.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def _is_junk(name: str) -> bool:
    *folders, base = name.split("/")
    named = base in _JUNK_NAMES or base.startswith(".") or base.lower().endswith(_JUNK_ENDINGS)
    return named or any(folder.startswith(".") or folder in _JUNK_FOLDERS for folder in folders)


def _unsafe_fault(entry: zipfile.ZipInfo, name: str) -> Finding | None:
    reason = _unsafe_name(name) or _unsafe_kind(entry.external_attr >> 16)
    if reason is None:
        return None
    fix = "Make the archive anew from inside the dataset's folder, with ordinary files only."
    message = explain("a path inside the archive to an ordinary file", f"{reason}: {quoted(name)}", fix)
    return error(Code.ARCHIVE_UNSAFE_PATH, message, path=_printable(name[:_MAX_NAME]))


def _unsafe_name(name: str) -> str | None:
    if not name:
        return "an empty name"
    if len(name) > _MAX_NAME:
        return f"a path of {len(name)} characters"
    # Most names are printable, and asking that of a whole name is fast.
    if not name.isprintable() and any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        return "a control character such as NUL"
    if name.startswith(("/", "\\")):
        return "an absolute path"
    if re.match("[A-Za-z]:", name):
        return "a drive letter"
    return "a path with '..'" if ".." in name and ".." in re.split(r"[/\\]", name) else None


def _unsafe_kind(mode: int) -> str | None:
    kind = stat.S_IFMT(mode)
    if kind in {0, stat.S_IFREG, stat.S_IFDIR}:
        return None
    return "a symbolic link" if kind == stat.S_IFLNK else "a device, pipe or socket"


def _ratio_fault(name: str, entry: zipfile.ZipInfo, policy: ValidationPolicy) -> Finding | None:
    if entry.file_size < _RATIO_FROM_BYTES or entry.file_size <= policy.max_ratio * entry.compress_size:
        return None
    expected = f"at most {policy.max_ratio:g} times its packed size"
    found = f"{entry.file_size} bytes packed into {entry.compress_size}"
    message = explain(expected, found, "Take this file out, or raise max_ratio in the policy.")
    return error(Code.ARCHIVE_TOO_LARGE, message, path=name)


def _unique(named: Iterable[tuple[str, zipfile.ZipInfo]]) -> tuple[dict[str, zipfile.ZipInfo], list[Finding]]:
    """Keep the first of names that are one and the same file on macOS or Windows."""
    first: dict[str, str] = {}
    kept: dict[str, zipfile.ZipInfo] = {}
    faults = []
    fix = "Keep one of them and rename or remove the other."
    for name, entry in named:
        key = unicodedata.normalize("NFC", name).lower()
        if key in first:
            message = explain("each name once", f"{quoted(name)} besides {quoted(first[key])}", fix)
            faults.append(error(Code.ARCHIVE_DUPLICATE_ENTRY, message, path=name))
        else:
            first[key] = name
            kept[name] = entry
    return kept, faults


def _wrapping_folder(names: Iterable[str]) -> str:
    shared = commonpath([folder_of(name) for name in names] or [""])
    parts = takewhile(lambda part: part and part.lower() not in _LAYOUT_FOLDERS, shared.split("/"))
    return "".join(f"{part}/" for part in parts)


def _root_notes(root: str) -> list[Finding]:
    if not root:
        return []
    found = f"everything under {quoted(root)}"
    return [
        info(Code.ARCHIVE_NESTED_ROOT, explain("data.yaml at the top", found, "It is read from there: nothing to fix."))
    ]


def _junk_notes(files: list[tuple[str, zipfile.ZipInfo]]) -> list[Finding]:
    junk = [name for name, _ in files if _is_junk(name)]
    if not junk:
        return []
    found = f"{len(junk)} other files, such as {quoted(junk[0])}"
    message = explain("nothing but the dataset", found, "They are ignored; leave them out to save space.")
    return [info(Code.ARCHIVE_JUNK, message, path=junk[0])]


def _locked_fault(locked: list[str], total: int) -> Finding:
    """One finding for all; where nothing can be unpacked it is about the archive, and else about the first of them."""
    found = f"{len(locked)} that are encrypted or packed by another method, such as {quoted(locked[0])}"
    fix = "Make the archive anew without a password, with the method 'deflate' or 'store'."
    path = locked[0] if len(locked) < total else None
    return error(Code.ARCHIVE_UNREADABLE, explain("entries that anybody can unpack", found, fix), path=path)
