"""Damaged archives: a good one, changed in its bytes or in what it holds. Mutant I of seed N is always the same."""

import random
import re
import zipfile
import zlib
from collections.abc import Callable

from tests.benchmarks.archives import layouts, zipped

Mutation = Callable[[bytearray, random.Random], None]

# Offset and size of the fields after the signature of a zip's records.
_FIELDS = {
    b"PK\3\4": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\1\2": (
        *((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2)),
        *((30, 2), (32, 2), (34, 2), (36, 2), (38, 4), (42, 4)),
    ),
    b"PK\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}
_NAME_AT = {b"PK\3\4": 30, b"PK\1\2": 46}
_NAMES = (b"../", b"/", b"C:\\", b"\0", b"\x1b[2J", b"\xff\xfe", b"__MACOSX/", b"A", b"images/../", b"data.yaml")
_TOKENS = (
    *(b"nan", b"-inf", b"1e999", b"0x1", b"0,5", b"1_0", b"-0", b"-1", b"1e-320", b"99999999999999999999", b"9" * 5000),
    *("\u0665 \u2028 \ufeff".encode(), b"\0", b"\x1b[31m", b"\xff", b"\xed\xa0\x80", b"\r", b"\n", b"\t", b" " * 3000),
    *(b"&a", b"*a", b"!!python/object/apply:os.system [touch x]", b"!!int x", b"!!binary x", b"<<: ", b"[" * 300),
    *(b"{", b"- ", b"? ", b"| ", b"names: ", b"nc: ", b"path: /", b"../", b"download: x", b"kpt_shape: [1000, 3]\n"),
    *(b"task: segment\n", b"2020-99-99", b"1:60:60", b"~", b"yes", b"0.5 0.5 0.5 0.5\n" * 50, b" 0.5" * 20_000),
)


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 16)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data)), rng.randint(1, 64)
    data[at : at + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))[: len(data) - at]


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.choice((rng.randrange(len(data)), max(0, len(data) - rng.randint(1, 100)))) :]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 100, 5000)))


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 100, 5000))]


def _move(data: bytearray, rng: random.Random) -> None:
    at, to, length = rng.randrange(len(data)), rng.randrange(len(data)), rng.randint(1, 2000)
    data[to:to] = data[at : at + length]


def _splice(data: bytearray, rng: random.Random) -> None:
    other = zipped(rng.choice(list(layouts().values())))
    at, start = rng.randrange(len(data)), rng.randrange(len(other))
    data[at : at + rng.choice((0, 100, 5000))] = other[start : start + rng.choice((100, 5000, 50_000))]


def _extreme(data: bytearray, rng: random.Random) -> None:
    """Sizes lie early in an image's header, so half of the places are there."""
    at, length = rng.randrange(rng.choice((len(data), min(len(data), 700)))), rng.choice((1, 2, 4, 8))
    data[at : at + length] = _number(length, rng)[: len(data) - at]


def _number(length: int, rng: random.Random) -> bytes:
    top = 256**length - 1
    number = rng.choice((0, 1, 2, 8, 12, 99, 1000, top, top - 1, top // 2, top // 2 + 1, rng.randint(0, top)))
    return bytes(min(number, top).to_bytes(length, rng.choice(("little", "big"))))


def _field(data: bytearray, rng: random.Random) -> None:
    """Change a field of a zip record, wherever records still are."""
    if found := list(re.finditer(b"PK(?:\3\4|\1\2|\5\6)", data)):
        # There are as many end records as archives, one, so it is preferred.
        match = rng.choice([*found, *found[-1:] * (len(found) // 3)])
        at, length = rng.choice(_FIELDS[match.group()])
        data[match.start() + at : match.start() + at + length] = _number(length, rng)


def _name(data: bytearray, rng: random.Random) -> None:
    """Write over the beginning of an entry's name, in the directory or before its data."""
    if found := list(re.finditer(b"PK(?:\3\4|\1\2)", data)):
        match = rng.choice(found)
        at, name = match.start() + _NAME_AT[match.group()], rng.choice(_NAMES)
        data[at : at + len(name)] = name


def _token(data: bytearray, rng: random.Random) -> None:
    """Put an odd word between two words or instead of one."""
    words = list(re.finditer(rb"[^\s,:\[\]]+", data)) or list(re.finditer(b"$", data))
    start, end = rng.choice(words).span()
    data[start : rng.choice((start, end))] = rng.choice(_TOKENS) + rng.choice((b"", b" "))


_ANY: tuple[Mutation, ...] = (_flip, _overwrite, _truncate, _insert, _remove, _move, _splice, _extreme)
_OF_ZIP: tuple[Mutation, ...] = (*_ANY, _field, _field, _field, _name)
_OF_TEXT: tuple[Mutation, ...] = (_flip, _truncate, _insert, _remove, _move, *[_token] * 8)


def mutant(seed: int, index: int) -> bytes:
    """Return a damaged archive: half of them as a zip, half in what a sound zip holds."""
    rng = random.Random(f"{seed}:{index}")  # noqa: S311
    entries = dict(rng.choice(list(layouts().values())))
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    if rng.random() < 0.5:
        return _mutated(zipped(entries, method), _OF_ZIP, rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        _mutate_entry(entries, rng)
    return zipped(entries, method)


def _mutate_entry(entries: dict[str, bytes], rng: random.Random) -> None:
    texts = [name for name in entries if name.endswith((".yaml", ".txt"))]
    kind = rng.random()
    if kind < 0.1:
        name = rng.choice(list(entries))
        entries[f"{rng.choice(_NAMES).decode('latin-1')}{name}"] = entries.pop(name)
    elif kind < 0.6 and texts:
        name = rng.choice([*texts, *[name for name in texts if "/" not in name] * 4])
        entries[name] = _mutated(entries[name], _OF_TEXT, rng)
    else:
        name = rng.choice([name for name in entries if name not in texts])
        entries[name] = _with_png_checksum(_mutated(entries[name], _ANY, rng))


def _with_png_checksum(data: bytes) -> bytes:
    """Sign the header of a PNG anew: a decoder must meet its sizes, not its checksum."""
    return data[:29] + zlib.crc32(data[12:29]).to_bytes(4) + data[33:] if data[12:16] == b"IHDR" else data


def _mutated(data: bytes, mutations: tuple[Mutation, ...], rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if changed:
            rng.choice(mutations)(changed, rng)
    return bytes(changed)
