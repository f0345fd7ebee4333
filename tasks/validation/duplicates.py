"""The same picture twice: by its bytes, by its pixels, or nearly, in one split or (worse) in two."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tasks.dataset.archive import ArchiveError
from tasks.dataset.findings import Finding, FindingBatch, Severity, batch_findings, error, make_finding
from tasks.dataset.image_stats import ImageStats, decode_colour
from tasks.disjoint_sets import DisjointSets
from tasks.errors import safe_repr
from tasks.finding_codes import Code
from tasks.validation.near_duplicates import find_near_duplicates
from tasks.vision.grey_stats import THUMBNAIL_SIDE

# Candidates for the same pixels are read and decoded once more; beyond these they can still be near.
MAX_READ_BYTES = 8 * 2**30
MAX_DECODED_PIXELS = 2 * 10**9
# JPEGs are measured with a faster and less exact decoder than other formats.
SAME_PIXELS_FROM = 0.999


class DuplicatePair(NamedTuple):
    """Two images that are the same or nearly so; `how` says what they share, `leak` that their splits differ."""

    later: str
    first: str
    how: str
    exact: bool
    leak: bool


class _Contents:
    """Reads images once more, as long as the bounds of this module allow."""

    def __init__(self, entries: Mapping[str, tuple[int, int]], read: Callable[[str], bytes]) -> None:
        self._entries = entries
        self._read = read
        self._bytes_left = MAX_READ_BYTES
        self._pixels_left = MAX_DECODED_PIXELS

    def digests(self, group: Sequence[str], pixels: int) -> dict[str, tuple[bytes, bytes]]:
        """Return the digests of the bytes and of the pixels (`pixels` of them each) of the images that can be read."""
        counts = Counter(self._entries[name] for name in group)
        files = {}
        for name in group:
            entry = self._entries[name]
            # Another checksum or another size are other bytes.
            file = self._file(name) if counts[entry] > 1 else b"%d %d" % entry
            if file is not None:
                files[name] = file
        first_of: dict[bytes, str] = {}
        for name, file in files.items():
            first_of.setdefault(file, name)
        several = len(first_of) > 1
        pictures = {file: (self._picture(name, pixels) if several else None) for file, name in first_of.items()}
        return {name: (file, pictures[file] or file) for name, file in files.items()}

    def same_pixels(self, one: str, other: str, images: Mapping[str, ImageStats]) -> bool:
        """Return whether two images decode to the same, as a PNG does that was made from a JPEG."""
        sizes = [(images[name].width, images[name].height) for name in (one, other)]
        if sizes[0] != sizes[1]:
            return False
        pictures = [self._picture(name, sizes[0][0] * sizes[0][1]) for name in (one, other)]
        return pictures[0] is not None and pictures[0] == pictures[1]

    def _load(self, name: str) -> bytes | None:
        size = self._entries[name][1]
        if size > self._bytes_left:
            return None
        self._bytes_left -= size
        try:
            return self._read(name)
        except ArchiveError:
            return None

    def _file(self, name: str) -> bytes | None:
        data = self._load(name)
        return None if data is None else hashlib.sha256(data).digest()

    def _picture(self, name: str, pixels: int) -> bytes | None:
        if pixels > self._pixels_left:
            return None
        data = self._load(name)
        if data is None:
            return None
        self._pixels_left -= pixels
        picture = decode_colour(data)
        return None if picture is None else hashlib.sha256(np.ascontiguousarray(picture).data).digest()


def duplicate_findings(
    twins: Sequence[DuplicatePair], splits_of: Mapping[str, Collection[str]]
) -> list[Finding | FindingBatch]:
    """Return what is wrong with images that are the same or nearly so: one finding for each later one, by name.

    `twins` and `splits_of` are those of `find_duplicates`.
    """
    kinds = [(exact, leak) for exact in (True, False) for leak in (True, False)]
    batches = (_batch([twin for twin in twins if (twin.exact, twin.leak) == kind], *kind) for kind in kinds)
    return [*_shared_entries(splits_of), *chain.from_iterable(batches)]


def find_duplicates(
    images: Mapping[str, ImageStats],
    entries: Mapping[str, tuple[int, int]],
    splits_of: Mapping[str, Collection[str]],
    read: Callable[[str], bytes],
) -> list[DuplicatePair]:
    """Return each image that is the same as an earlier one by name, or nearly so, with one such; by name.

    One of another split is preferred. `images` are those that can be used; `entries` maps them to the checksum and size
    of the zip's directory, `splits_of` to the names of their splits (an image in none may be left out). `read` returns
    an entry's bytes; if it raises ArchiveError the image has no exact duplicate.
    """
    splits = {name: tuple(sorted(set(splits_of.get(name, ())))) for name in sorted(images)}
    contents = _Contents(entries, read)
    twins = list(_find_exact_duplicates(images, splits, contents))
    twins += _find_near_duplicates(images, splits, {twin.later for twin in twins}, contents)
    return sorted(twins)


def link_twins(twins: Sequence[DuplicatePair]) -> list[list[str]]:
    """Return the sets of images that are the same or nearly so, one by one or through others."""
    sets = DisjointSets(chain.from_iterable((twin.later, twin.first) for twin in twins))
    for twin in twins:
        sets.join(twin.later, twin.first)
    return sets.sets()


def _shared_entries(splits_of: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    """Yield one finding for each set of splits that have images in common: the same folder is named twice."""
    shared: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, splits in splits_of.items():
        if len(set(splits)) > 1:
            shared[tuple(sorted(set(splits)))].append(name)
    for splits, names in sorted(shared.items()):
        found = f"{len(names)} in {' and '.join(splits)}, such as {safe_repr(min(names))}"
        fix = "Name another folder for each split in data.yaml: what was trained on says nothing in a test."
        yield error(Code.SPLIT_LEAK, "each image in one split", found, fix, path=min(names))


def _batch(twins: Sequence[DuplicatePair], exact: bool, leak: bool) -> list[FindingBatch]:
    severity = Severity.ERROR if exact and leak else Severity.WARNING
    duplicate = Code.IMAGE_DUPLICATE if exact else Code.IMAGE_NEAR_DUPLICATE
    code = Code.SPLIT_LEAK if leak else duplicate
    expected = "an image that no other split has" if leak else "an image that is there once"
    keep = "Keep one of them, unless both are meant to count."
    part = "Put both into one split, or take one of them out."

    def write(twin: DuplicatePair) -> Finding:
        found = f"{twin.how} {safe_repr(twin.first)}"
        fix = part if leak else keep
        return make_finding(severity, code, expected, found, fix, path=twin.later, other=twin.first)

    return batch_findings(code, severity, twins, write)


def _find_exact_duplicates(
    images: Mapping[str, ImageStats], splits: Mapping[str, tuple[str, ...]], contents: _Contents
) -> Iterator[DuplicatePair]:
    """Only images of equal traits can have equal pixels; those are read once more and compared by digests."""
    alike: defaultdict[ImageStats, list[str]] = defaultdict(list)
    for name in splits:
        alike[images[name]._replace(orientation=1)].append(name)
    for traits, group in alike.items():
        # For each picture the first image of each set of splits.
        seen: defaultdict[bytes, dict[tuple[str, ...], str]] = defaultdict(dict)
        digests = contents.digests(group, traits.width * traits.height) if len(group) > 1 else {}
        for name, (file, pixels) in digests.items():
            others = seen[pixels]
            own = splits[name]
            leak = next((first for split, first in others.items() if own and split and split != own), None)
            first = leak or next(iter(others.values()), None)
            if first is not None:
                how = f"the same {'bytes' if digests[first][0] == file else 'pixels'} as"
                yield DuplicatePair(name, first, how, exact=True, leak=leak is not None)
            others.setdefault(own, name)


def _find_near_duplicates(
    images: Mapping[str, ImageStats],
    splits: Mapping[str, tuple[str, ...]],
    done: Collection[str],
    contents: _Contents,
) -> Iterator[DuplicatePair]:
    """Yield the images that are near to an earlier one, of another split if possible; not those in `done`."""
    names = list(splits)
    thumbnails = np.frombuffer(b"".join(images[name].thumbnail for name in names), np.uint8)
    numbers = {split: number for number, split in enumerate(sorted({(), *splits.values()}))}
    groups = [numbers[splits[name]] for name in names]
    wanted = [name not in done for name in names]
    for pair in find_near_duplicates(thumbnails.reshape(-1, THUMBNAIL_SIDE**2), groups, wanted):
        later, first = names[pair.later], names[pair.first]
        same = pair.correlation >= SAME_PIXELS_FROM and contents.same_pixels(later, first, images)
        measured = f"({pair.bits} of 63 bits of its hash apart, correlation {pair.correlation:.3f})"
        how = "the same pixels as" if same else f"nearly the same picture {measured} as"
        leak = bool(splits[later] and splits[first] and splits[later] != splits[first])
        yield DuplicatePair(later, first, how, exact=same, leak=leak)
