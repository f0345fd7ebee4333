"""Images and label files, sound ones and mutated: mutant I of seed N is always the same bytes.

Unlike the archives of `mutants`, most of these are changed so little that some tool may still take them, because what
matters is what one tool takes and another does not.
"""

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

TASKS = ("detect", "segment", "pose", "obb", "classify")
CLASSES, KEYPOINTS = 3, (2, 3)

Rng = random.Random  # noqa: S311 - mutants, not secrets
Change = Callable[[bytes, Rng], bytes]


class Mutant(NamedTuple):
    """An image file with its ending, and its label file (None: there is none), for a task; `changes` made the image."""

    task: str
    ending: str
    image: bytes
    label: bytes | None
    changes: tuple[Change, ...]


def mutant(seed: int, index: int) -> Mutant:
    """Return an image and a label; of some only one is changed."""
    rng = Rng(f"{seed}:{index}")
    task = TASKS[index % len(TASKS)]
    ending, image = rng.choice(sound_images())
    changes = []
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        changes.append(rng.choice((*_ANY, *_OF_KIND.get(ending, ()) * 3)))
        image = changes[-1](image, rng)
    label = None if task == "classify" or rng.random() < 0.02 else _label(task, rng)
    return Mutant(task, rng.choice((ending, ending, ending.upper())), image, label, tuple(changes))


def kinds() -> set[object]:
    """What there is of each sort: tasks, endings, and changes of images."""
    return {*TASKS, *(ending for ending, _ in sound_images()), *_ANY, *chain.from_iterable(_OF_KIND.values())}


def kinds_of(one: Mutant) -> set[object]:
    """Which of these a mutant is of."""
    return {one.task, one.ending.lower(), *one.changes}


@functools.cache
def sound_images() -> tuple[tuple[str, bytes], ...]:
    """Small pictures of every kind that the check takes, as (ending, bytes)."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    colour = np.asarray(cv2.resize(noise, (48, 36), interpolation=cv2.INTER_CUBIC), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found: list[tuple[str, bytes]] = []

    def add(ending: str, kind: str, mode: str = "RGB", **options: Any) -> None:
        buffer = io.BytesIO()
        Image.fromarray(colour).convert(mode).save(buffer, kind, **options)
        found.append((ending, buffer.getvalue()))

    def pages() -> dict[str, Any]:
        return {"save_all": True, "append_images": [Image.fromarray(colour), Image.fromarray(colour)]}

    for options in ({}, {"progressive": True}, {"exif": exif}, {"subsampling": 0, "quality": 30}, {"optimize": True}):
        add(".jpg", "JPEG", **options)
    for mode in ("L", "CMYK"):
        add(".jpeg", "JPEG", mode)
    add(".jpg", "JPEG", restart_marker_blocks=2, icc_profile=b"not a profile" * 9)
    add(".jpg", "MPO", **pages())
    add(".mpo", "MPO", **pages())
    for mode in ("RGB", "L", "LA", "RGBA", "P", "1"):
        add(".png", "PNG", mode)
    add(".png", "PNG", exif=exif, icc_profile=b"not a profile" * 9, dpi=(72, 72))
    add(".png", "PNG", **pages())
    for mode in ("RGB", "L", "P", "1", "RGBA"):
        add(".bmp", "BMP", mode)
    for options in ({}, {"lossless": True}, {"exif": exif}, pages()):
        add(".webp", "WEBP", **options)
    add(".webp", "WEBP", "RGBA")
    for mode in ("RGB", "L", "RGBA", "CMYK", "LA", "P", "1", "F", "I"):
        add(".tif", "TIFF", mode)
    for method in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        add(".tiff", "TIFF", compression=method)
    add(".tif", "TIFF", **pages())
    add(".tif", "TIFF", tiffinfo={0x0112: 6})
    deep = colour.astype(np.uint16) * 257
    tiffs = (deep, colour.astype(np.float32) / 255, deep[..., 0])
    found += [(".tif", cv2.imencode(".tif", picture)[1].tobytes()) for picture in tiffs]
    found.append((".png", cv2.imencode(".png", deep)[1].tobytes()))
    return tuple(found)


def _bytes(rng: Rng, most: int = 40) -> bytes:
    return rng.choice((rng.randbytes(rng.randrange(most)), b"\0" * rng.randrange(most), b"\xff\xd9", b"\xff\xd8\xff"))


def _truncate(data: bytes, rng: Rng) -> bytes:
    return data[: len(data) - rng.choice((1, 2, 3, rng.randrange(1, len(data))))]


def _tail(data: bytes, rng: Rng) -> bytes:
    return data + rng.choice((_bytes(rng), b"\n", rng.choice(sound_images())[1], b"\xff\xd9" + _bytes(rng)))


def _flip(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    within = len(data) if rng.random() < 0.5 else min(len(data), 200)
    for _ in range(rng.choice((1, 1, 2, 4))):
        changed[rng.randrange(within)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _resized(data: bytes, rng: Rng) -> bytes:
    """Another picture of the same kind, some sides of which are too small."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, mode = str(image.format), image.mode
        buffer = io.BytesIO()
        sides = rng.randrange(7, 14), rng.choice((9, 10, 11, 40))
        Image.new(mode, sides).save(buffer, kind)
    except (OSError, ValueError, SyntaxError, KeyError, ImportError, Image.DecompressionBombError):
        return data
    return buffer.getvalue()


def _exif(rng: Rng) -> bytes:
    if rng.random() < 0.3:
        return b"Exif\0\0" + rng.choice((b"II*\0", b"MM\0*", b"")) + _bytes(rng)
    entries = [(0x0112, 3, 1, rng.randrange(12))]
    entries += [(rng.randrange(65536), rng.randrange(14), rng.randrange(5), rng.randrange(1 << 32)) for _ in range(3)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + body + struct.pack("<I", rng.choice((0, 0, 8, 99999)))


def _segment(data: bytes, rng: Rng) -> bytes:
    """A segment more before those of a JPEG."""
    payloads = (
        *(b"JFIF\0" + _bytes(rng), _exif(rng), _exif(rng), b"ICC_PROFILE\0" + _bytes(rng), b"MPF\0" + _bytes(rng)),
        *(b"Adobe" + _bytes(rng), b"Photoshop 3.0\0" + b"8BIM" + _bytes(rng), b"http://ns.adobe.com/xap/1.0/\0", b""),
        _bytes(rng),
    )
    mark = rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xE1, 0xEF, 0xDD, 0xDB, 0xC4, 0xF0, 0x01))
    payload = rng.choice(payloads)
    length = len(payload) + 2 + rng.choice((0,) * 9 + (1, -1))
    return data[:2] + b"\xff" * rng.choice((1, 1, 1, 3)) + struct.pack(">BH", mark, max(length, 0)) + payload + data[2:]


def _chunks(data: bytes) -> list[bytes]:
    found, at = [], 8
    while at + 8 <= len(data):
        size = 12 + int.from_bytes(data[at : at + 4])
        found.append(data[at : at + size])
        at += size
    return found


_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"pHYs", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")


def _chunk(data: bytes, rng: Rng) -> bytes:
    """A chunk more in a PNG, or one less, one changed, or two in another order; some with a wrong checksum."""
    chunks = _chunks(data)
    if not chunks:
        return data
    at = rng.randrange(1, len(chunks) + 1)
    what = rng.random()
    if what < 0.6:
        kind = rng.choice((*_CHUNKS, b"sRGB", b"bKGD", b"tIME", b"prVt", b"PRVT", b"IDAT", b"PLTE", b"IEND"))
        payloads = (b"key\0\0" + zlib.compress(_bytes(rng)), b"key\0" + _bytes(rng), _exif(rng)[6:], _bytes(rng), b"")
        payload = rng.choice(payloads)
        check = zlib.crc32(kind + payload) ^ (rng.random() < 0.15)
        chunks.insert(at, struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", check))
    elif what < 0.7:
        del chunks[at - 1]
    elif what < 0.85:
        chunks[at - 1] = _flip(chunks[at - 1], rng)
    else:
        rng.shuffle(chunks)
    return data[:8] + b"".join(chunks)


def _riff(data: bytes, rng: Rng) -> bytes:
    payload = _bytes(rng)
    kind = rng.choice((b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"ALPH", b"abcd"))
    more = kind + struct.pack("<I", len(payload) + rng.choice((0, 0, 0, 1, 9))) + payload + b"\0" * (len(payload) % 2)
    changed = rng.choice((data + more, data[:12] + more + data[12:]))
    size = len(changed) - 8 + rng.choice((0, 0, 0, 1, -1, -20))
    return changed[:4] + struct.pack("<I", max(size, 0)) + changed[8:]


def _directory(data: bytes, rng: Rng) -> bytes:
    """A field of an entry of a TIFF's directory changed."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        start = struct.unpack_from(f"{order}I", data, 4)[0]
        count = struct.unpack_from(f"{order}H", data, start)[0]
        entry = start + 2 + 12 * rng.randrange(max(count, 1))
        offset, layout = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "H")))
        changed = bytearray(data)
        value = rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 16, 32, 274, 277, 339, 65535, rng.randrange(65536)))
        struct.pack_into(order + layout, changed, entry + offset, value)
    except struct.error:
        return data
    return bytes(changed)


_ANY: tuple[Change, ...] = (_tail, _flip, _truncate, _resized)
_OF_KIND: dict[str, tuple[Change, ...]] = {
    ".jpg": (_segment, _segment, _tail),
    ".jpeg": (_segment, _segment, _tail),
    ".mpo": (_segment, _segment, _tail),
    ".png": (_chunk, _chunk, _chunk),
    ".webp": (_riff, _riff),
    ".tif": (_directory, _directory),
    ".tiff": (_directory, _directory),
}

_NUMBERS = (
    *(
        "-0.01",
        "-0.0100001",
        "-0.01000000001",
        "-0.005",
        "1.01",
        "1.0100001",
        "1.01000000001",
        "1.005",
        "0",
        "-0",
        "-0.0",
    ),
    *("1", "1.0", "1e-50", "1e-46", "1e-45", "5e-324", "1e-320", "nan", "inf", "-inf", "1e400", "1e39", "-1", "2", "3"),
    *("0.5", "+.5", "5e-1", "0.50", "0.500000001", "00.5", ".", "1_0", "0x1p-1", "0,5", "\u0660.\u0665", "\uff10.5"),
    *("9" * 30, "0." + "3" * 70, "1e", "--1", "True", "None"),
)
_CLASS_TOKENS = (
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-0",
    "+1",
    "00",
    "1.0",
    "1e0",
    "0.5",
    "9999999999",
    "16777217",
    "\u0661",
    "nan",
)
_VISIBLE = ("0", "1", "2", "2.0", "-1", "3", "0.5", "1e-9", "-0", "nan")
_SPACES = (" ", " ", " ", "  ", "\t", "\u00a0", "\u3000", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\u2028", "\u200b")
_ENDS = (
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    " \n",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\n\r",
)


def _label(task: str, rng: Rng) -> bytes:
    rows = [_row(task, rng) for _ in range(rng.randrange(6))]
    changes = rng.choice((0, 0, 1, 1, 1, 2))
    for _ in range(changes if rows else 0):
        row = rng.choice(rows)
        what = rng.random()
        if what < 0.15:
            again = list(row)
            again[rng.randrange(1, len(row))] += rng.choice(("", "0", "00000001", "000000000001"))
            rows.insert(rng.randrange(len(rows) + 1), again)
        elif what < 0.3:
            row[0] = rng.choice(_CLASS_TOKENS)
        elif what < 0.4 and task == "pose":
            row[min(rng.choice((7, 10)), len(row) - 1)] = rng.choice(_VISIBLE)
        elif what < 0.5:
            row.append(rng.choice(("0.5", "0.9", "#", "0")))
        elif what < 0.55:
            del row[max(len(row) - 1, 2) :]
        else:
            row[rng.randrange(1, len(row))] = rng.choice(_NUMBERS)
    gap, end = (rng.choice(_SPACES), rng.choice(_ENDS)) if rng.random() < 0.3 else (" ", "\n")
    text = "".join(gap.join(row) + end for row in rows)
    text = text.rstrip("\n") if rng.random() < 0.2 else text
    return rng.choice((b"",) * 9 + (b"\xef\xbb\xbf",)) + text.encode()


def _row(task: str, rng: Rng) -> list[str]:
    def near(low: float, high: float) -> str:
        return f"{rng.uniform(low, high):.{rng.choice((2, 6, 9))}f}"

    class_id = str(rng.randrange(CLASSES))
    if task in {"segment", "obb"}:
        low, high = rng.choice(((0.1, 0.4), (-0.01, 0.01))), rng.choice(((0.6, 0.9), (0.99, 1.01)))
        corners = [near(*low), near(*low), near(*high), near(*low), near(*high), near(*high), near(*low), near(*high)]
        return [
            class_id,
            *corners,
            *((near(*low), near(0.45, 0.55)) if task == "segment" and rng.random() < 0.5 else ()),
        ]
    box = [near(0.3, 0.7), near(0.3, 0.7), near(0.1, 0.5), near(0.1, 0.5)]
    points = [part for _ in range(KEYPOINTS[0]) for part in (near(0, 1), near(0, 1), rng.choice("012"))]
    return [class_id, *box, *(points if task == "pose" else ())]
