"""Which entries of a hostile zip may be read: unsafe, locked, doubled and junk ones are sorted out by the directory."""

import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from posixpath import commonpath
from typing import NamedTuple

from tasks.dataset.findings import Finding, error, info, warning
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
from tasks.errors import expected_found_fix, safe_repr
from tasks.finding_codes import Code
from tasks.media.formats import IMAGE_ENDINGS, VIDEO_ENDINGS
from tasks.parameters import ValidationPolicy

# Folders that mean something in a dataset are never taken for a wrapping folder.
_LAYOUT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test", "images", "labels"})
_MEDIA = IMAGE_ENDINGS | VIDEO_ENDINGS
# Blank images and short label files pack very well and are harmless, so the ratio counts from this size on.
_RATIO_FROM_BYTES = 2**20


def parent_folder(name: str) -> str:
    """Return the folder of an entry, without a slash at its end; `""` for an entry at the root."""
    return name.rpartition("/")[0]


class FilteredEntries(NamedTuple):
    """The files by name, relative to `root` (empty, or the wrapping folder and a slash).

    `places` holds their names and those of the explicit folders, these with a slash, in order. `refused` says why some
    files must not be read: they are there all the same, and no rule may call them absent.
    """

    root: str
    entries: Mapping[str, zipfile.ZipInfo]
    places: Sequence[str]
    refused: Mapping[str, Finding]


def filter_entries(
    directory: Sequence[zipfile.ZipInfo], policy: ValidationPolicy
) -> tuple[FilteredEntries, list[Finding]]:
    """Leave out unsafe, doubled and junk entries, mark those that must not be read, and find the root.

    The findings name all that was left out or refused, and names that had to be guessed.
    """
    safe: list[tuple[str, zipfile.ZipInfo]] = []
    folders: list[str] = []
    faults: list[Finding] = []
    names = read_names(directory)
    for entry, written in zip(directory, names.written, strict=True):
        if fault := _unsafe_fault(entry, written):
            faults.append(fault)
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
    faults += [*dict.fromkeys(refused.values()), *duplicates, *_root_notes(root), *_junk_notes(safe)]
    faults += _guess_notes(names, relative)
    return FilteredEntries(root, relative, sorted({*relative, *places}), refused), faults


def _refused(entries: Mapping[str, zipfile.ZipInfo], policy: ValidationPolicy) -> dict[str, Finding]:
    bombs = {name: fault for name, entry in entries.items() if (fault := _ratio_fault(name, entry, policy))}
    locked = [name for name, entry in entries.items() if not _is_readable(entry)]
    return {**bombs, **dict.fromkeys(locked, _locked_fault(locked, len(entries)))} if locked else bombs


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in name)


def _is_readable(entry: zipfile.ZipInfo) -> bool:
    return not entry.flag_bits & 1 and entry.compress_type in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def _unsafe_fault(entry: zipfile.ZipInfo, name: str) -> Finding | None:
    reason = unsafe_reason(name) or _unsafe_kind(entry.external_attr >> 16)
    if reason is None:
        return None
    fix = "Make the archive anew from inside the dataset's folder, with ordinary files only."
    message = expected_found_fix("a path inside the archive to an ordinary file", f"{reason}: {safe_repr(name)}", fix)
    return error(Code.ARCHIVE_UNSAFE_PATH, message, path=_printable(name[:MAX_NAME]))


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
    message = expected_found_fix(expected, found, "Take this file out, or raise max_ratio in the policy.")
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
            two_ways = name == first[key] and entry.filename != kept[name].filename
            found = (
                f"{safe_repr(name)} besides {safe_repr(first[key])}"
                + ", which the zip spells in another way" * two_ways
            )
            message = expected_found_fix("each name once", found, fix)
            faults.append(error(Code.ARCHIVE_DUPLICATE_ENTRY, message, path=name))
        else:
            first[key] = name
            kept[name] = entry
    return kept, faults


def _wrapping_folder(names: Iterable[str]) -> str:
    shared = commonpath([parent_folder(name) for name in names] or [""])
    parts = takewhile(lambda part: part and part.lower() not in _LAYOUT_FOLDERS, shared.split("/"))
    return "".join(f"{part}/" for part in parts)


def _root_notes(root: str) -> list[Finding]:
    if not root:
        return []
    found = f"everything under {safe_repr(root)}"
    return [
        info(
            Code.ARCHIVE_NESTED_ROOT,
            expected_found_fix("data.yaml at the top", found, "It is read from there: nothing to fix."),
        )
    ]


def _junk_notes(files: list[tuple[str, zipfile.ZipInfo]]) -> list[Finding]:
    junk = [name for name, _ in files if is_junk(name)]
    hidden = [name for name in junk if not is_apple_double(name) and PurePosixPath(name).suffix.lower() in _MEDIA]
    told = []
    if hidden:
        found = f"{len(hidden)} with a hidden name, such as {safe_repr(hidden[0])}"
        fix = "They are ignored: give them names without a dot in front, or take them out."
        told.append(
            warning(Code.ARCHIVE_JUNK, expected_found_fix("images that are not hidden", found, fix), path=hidden[0])
        )
    others = [name for name in junk if name not in set(hidden)] if hidden else junk
    if others:
        found = f"{len(others)} other files, such as {safe_repr(others[0])}"
        message = expected_found_fix(
            "nothing but the dataset", found, "They are ignored; leave them out to save space."
        )
        told.append(info(Code.ARCHIVE_JUNK, message, path=others[0]))
    return told


def _guess_notes(names: EntryNames, entries: Mapping[str, zipfile.ZipInfo]) -> list[Finding]:
    """Names that do not say what they are: a warning, and an error where classes are named so and it is not sure."""
    guess = names.guess
    places = sorted(guess.places) if guess else []
    guessed = [normal_name(name) for name in (names.written[place] for place in places) if not unsafe_reason(name)]
    if guess is None or not guessed:
        return []
    folders = {part for name in guessed for part in parent_folder(name).split("/") if not part.isascii()}
    # Without a data.yaml the folders of a tree are its classes.
    classes = [] if any(name.endswith((".yaml", ".yml")) for name in entries) else sorted(folders)
    named = f"; classes are named so: {', '.join(map(safe_repr, classes[:5]))}" if classes else ""
    found = f"{len(guessed)} without, {guess}, such as {safe_repr(guessed[0])}{named}"
    fix = f"If these letters are wrong, {WRITE_UTF8}."
    tell = error if classes and not guess.sure else warning
    return [tell(Code.ARCHIVE_NAMES, expected_found_fix("names that say they are UTF-8", found, fix), path=guessed[0])]


def _locked_fault(locked: list[str], total: int) -> Finding:
    """One finding for all; where nothing can be unpacked it is about the archive, and else about the first of them."""
    found = f"{len(locked)} that are encrypted or packed by another method, such as {safe_repr(locked[0])}"
    fix = "Make the archive anew without a password, with the method 'deflate' or 'store'."
    path = locked[0] if len(locked) < total else None
    return error(Code.ARCHIVE_UNREADABLE, expected_found_fix("entries that anybody can unpack", found, fix), path=path)
