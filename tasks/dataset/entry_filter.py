"""Which entries of a hostile zip may be read: unsafe, locked, doubled and junk ones are sorted out by the directory."""

import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from posixpath import commonpath
from typing import NamedTuple

from tasks.dataset.findings import Finding, error, info, warning
from tasks.dataset.safe_zip import EntryFault, ZipPolicy, entry_fault, unsafe_entry_reason
from tasks.dataset.zip_names import (
    MAX_NAME,
    WRITE_UTF8,
    EntryNames,
    is_apple_double,
    is_folder,
    is_junk,
    normal_name,
    read_names,
    unsafe_reason,
)
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.media.formats import IMAGE_ENDINGS, VIDEO_ENDINGS

# Folders that mean something in a dataset are never taken for a wrapping folder.
_LAYOUT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test", "images", "labels"})
_MEDIA = IMAGE_ENDINGS | VIDEO_ENDINGS


def parent_folder(name: str) -> str:
    """Return the folder of an entry, without a slash at its end; `""` for an entry at the root."""
    return name.rpartition("/")[0]


class FilteredEntries(NamedTuple):
    """The files by name, relative to `root` (empty, or the wrapping folder and a slash).

    Unsafe, doubled and junk entries are not among them. `places` holds their names and those of the explicit folders,
    these with a slash, in order. `refused` says why some files must not be read, bombs and encrypted ones: they are
    there all the same, and no rule may call them absent.
    """

    root: str
    entries: Mapping[str, zipfile.ZipInfo]
    places: Sequence[str]
    refused: Mapping[str, Finding]


def filter_entries(directory: Sequence[zipfile.ZipInfo], policy: ZipPolicy) -> tuple[FilteredEntries, list[Finding]]:
    """Leave out unsafe, doubled and junk entries, list those that must not be read, and find the root.

    The findings name all that was left out or refused, and names that had to be guessed.
    """
    safe: list[tuple[str, zipfile.ZipInfo]] = []
    folders: list[str] = []
    findings: list[Finding] = []
    names = read_names(directory)
    for entry, written in zip(directory, names.written, strict=True):
        if reason := unsafe_entry_reason(entry, written):
            findings.append(_unsafe_path(written, reason))
        elif name := normal_name(written):
            if is_folder(written):
                folders.append(name)
            else:
                safe.append((name, entry))
    entries, duplicates = _unique((name, entry) for name, entry in safe if not is_junk(name))
    root = _wrapping_folder(entries)
    relative = {name.removeprefix(root): entry for name, entry in entries.items()}
    places = {f"{name}/".removeprefix(root) for name in folders if name.startswith(root)}
    refused = _refused(relative, policy)
    # One finding stands for all locked entries, so it is there several times.
    findings += [*dict.fromkeys(refused.values()), *duplicates, *_root_notes(root), *_junk_notes(safe)]
    findings += _guess_notes(names, relative)
    return FilteredEntries(root, relative, sorted({*relative, *places}), refused), findings


def _refused(entries: Mapping[str, zipfile.ZipInfo], policy: ZipPolicy) -> dict[str, Finding]:
    faults = {name: fault for name, entry in entries.items() if (fault := entry_fault(entry, policy))}
    refused = {name: _bomb(name, entries[name], policy) for name in faults if faults[name] is EntryFault.RATIO}
    if locked := [name for name in faults if faults[name] in {EntryFault.ENCRYPTED, EntryFault.PACKING}]:
        found = f"{len(locked)} that are encrypted or packed by another method, such as {safe_repr(locked[0])}"
        fix = "Make the archive anew without a password, with the method 'deflate' or 'store'."
        # If nothing can be unpacked, the finding is about the archive, else about the first of them.
        path = locked[0] if len(locked) < len(entries) else None
        one = error(Code.ARCHIVE_UNREADABLE, "entries that anybody can unpack", found, fix, path=path)
        refused |= dict.fromkeys(locked, one)
    return refused


def _unsafe_path(name: str, reason: str) -> Finding:
    printable = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name[:MAX_NAME])
    expected = "a path inside the archive to an ordinary file"
    fix = "Make the archive anew from inside the dataset's folder, with ordinary files only."
    return error(Code.ARCHIVE_UNSAFE_PATH, expected, f"{reason}: {safe_repr(name)}", fix, path=printable)


def _bomb(name: str, entry: zipfile.ZipInfo, policy: ZipPolicy) -> Finding:
    expected = f"at most {policy.max_ratio:g} times its packed size"
    found = f"{entry.file_size} bytes packed into {entry.compress_size}"
    fix = "Take this file out, or raise max_ratio in the policy."
    return error(Code.ARCHIVE_TOO_LARGE, expected, found, fix, path=name)


def _unique(named: Iterable[tuple[str, zipfile.ZipInfo]]) -> tuple[dict[str, zipfile.ZipInfo], list[Finding]]:
    """Keep the first of names that are one and the same file on macOS or Windows."""
    first: dict[str, str] = {}
    kept: dict[str, zipfile.ZipInfo] = {}
    faults = []
    for name, entry in named:
        key = unicodedata.normalize("NFC", name).lower()
        if key not in first:
            first[key] = name
            kept[name] = entry
            continue
        two_ways = name == first[key] and entry.filename != kept[name].filename
        found = f"{safe_repr(name)} besides {safe_repr(first[key])}"
        found += ", which the zip spells in another way" * two_ways
        fix = "Keep one of them and rename or remove the other."
        faults.append(error(Code.ARCHIVE_DUPLICATE_ENTRY, "each name once", found, fix, path=name))
    return kept, faults


def _wrapping_folder(names: Iterable[str]) -> str:
    shared = commonpath([parent_folder(name) for name in names] or [""])
    parts = takewhile(lambda part: part and part.lower() not in _LAYOUT_FOLDERS, shared.split("/"))
    return "".join(f"{part}/" for part in parts)


def _root_notes(root: str) -> list[Finding]:
    found = f"everything under {safe_repr(root)}"
    fix = "It is read from there: nothing to fix."
    return [info(Code.ARCHIVE_NESTED_ROOT, "data.yaml at the top", found, fix)] if root else []


def _junk_notes(files: list[tuple[str, zipfile.ZipInfo]]) -> Iterator[Finding]:
    junk = [name for name, _ in files if is_junk(name)]
    hidden = [name for name in junk if not is_apple_double(name) and PurePosixPath(name).suffix.lower() in _MEDIA]
    if hidden:
        found = f"{len(hidden)} with a hidden name, such as {safe_repr(hidden[0])}"
        fix = "They are ignored: give them names without a dot in front, or take them out."
        yield warning(Code.ARCHIVE_JUNK, "images that are not hidden", found, fix, path=hidden[0])
    passed = set(hidden)
    if others := [name for name in junk if name not in passed]:
        found = f"{len(others)} other files, such as {safe_repr(others[0])}"
        fix = "They are ignored; leave them out to save space."
        yield info(Code.ARCHIVE_JUNK, "nothing but the dataset", found, fix, path=others[0])


def _guess_notes(names: EntryNames, entries: Mapping[str, zipfile.ZipInfo]) -> list[Finding]:
    """Return a warning for names without a charset, and an error if classes are named so and the charset is unsure."""
    guess = names.guess
    guessed = [names.written[place] for place in sorted(guess.places)] if guess else []
    guessed = [normal_name(name) for name in guessed if not unsafe_reason(name)]
    if guess is None or not guessed:
        return []
    folders = {part for name in guessed for part in parent_folder(name).split("/") if not part.isascii()}
    # Without a data.yaml the folders of a tree are its classes.
    classes = [] if any(name.endswith((".yaml", ".yml")) for name in entries) else sorted(folders)
    named = f"; classes are named so: {', '.join(map(safe_repr, classes[:5]))}" if classes else ""
    found = f"{len(guessed)} without, {guess}, such as {safe_repr(guessed[0])}{named}"
    fix = f"If these letters are wrong, {WRITE_UTF8}."
    make = error if classes and not guess.sure else warning
    return [make(Code.ARCHIVE_NAMES, "names that say they are UTF-8", found, fix, path=guessed[0])]
