"""An AVIF makes a decoder do no more than the picture that it claims to be."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.media import avif
from tasks.media.errors import MediaError
from tasks.media.file_type import image_size
from tasks.media.images import decode_image
from tests.tasks.media.samples import photo

SIDES = 60, 40
CLAIMED = SIDES[0] * SIDES[1]


def encoded(mode: str = "RGB", size: tuple[int, int] = SIDES, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(*size)).convert(mode).save(buffer, "AVIF", speed=10, **options)
    return buffer.getvalue()


def film(count: int) -> bytes:
    return encoded(save_all=True, append_images=[Image.fromarray(photo(*SIDES)).rotate(9 * n) for n in range(1, count)])


def claiming(data: bytes, width: int, height: int) -> bytes:
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def built(coded: bytes, *, items: int = 1, parts: int = 1) -> bytes:
    """An AVIF of so many pictures, all made of the same bytes, each so many times."""
    infos = [box(b"infe", struct.pack(">IHH4sx", 2 << 24, number + 1, 0, b"av01")) for number in range(items)]

    def meta(start: int) -> bytes:
        extents = struct.pack(">II", start, len(coded)) * parts
        places = b"".join(struct.pack(">HHH", number + 1, 0, parts) + extents for number in range(items))
        return box(
            *(b"meta", bytes(4), box(b"pitm", struct.pack(">IH", 0, 1))),
            box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, *SIDES)))),
            box(b"iloc", struct.pack(">IHH", 0, 0x4400, items), places),
            box(b"iinf", struct.pack(">IH", 0, items), *infos),
        )

    head = box(b"ftyp", b"avif", bytes(4), b"avifmif1")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", coded)


def coded_in(data: bytes) -> bytes:
    """What a decoder gets of an AVIF of one picture: behind the head of its last box."""
    return data[data.index(b"mdat") + 4 :]


FRAMES = coded_in(film(8))
COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "a large frame in a small picture": (lambda: claiming(encoded(size=(600, 400)), *SIDES), "frames of 600x400"),
    "many frames in one picture": (lambda: built(FRAMES * 80), "pixels in a picture of 2400"),
    "pictures": (lambda: built(coded_in(encoded()), items=1001), "more than 1000 boxes"),
    "empty parts": (lambda: built(b"", parts=11_000), "more than 10000 parts"),
    "parts": (lambda: built(FRAMES, parts=100), "share their bytes"),
    "pictures of the same bytes": (lambda: built(FRAMES, items=3), "share their bytes"),
    "units": (lambda: built(coded_in(encoded()) + b"\x7a\0" * 11_000), "more than 10000 units"),
    "boxes": (lambda: encoded() + box(b"free") * 1001, "more than 1000 boxes"),
    "tracks": (lambda: encoded() + box(b"moov", *[box(b"trak")] * 5), "more than 4 tracks"),
    "no bytes": (lambda: encoded().replace(b"(iinf", b"\2iinf"), "ends before its name"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_too_costly_is_reported_and_not_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, found = COSTLY[name]
    data = make()
    assert found in avif.too_costly(data, CLAIMED)
    monkeypatch.setattr("tasks.media.images.AvifImageFile", lambda *_: pytest.fail("decoded"))
    with pytest.raises(MediaError, match="the time of an ordinary one"):
        decode_image(data)


TAKEN = {
    "colour": encoded(),
    "grey": encoded("L"),
    "alpha": encoded("RGBA"),
    "odd sides": encoded(size=(37, 51)),
    "film": film(8),
    "lossless": encoded(quality=100, subsampling="4:4:4"),
    "profile and EXIF": encoded(icc_profile=b"none", exif=Image.Exif().tobytes()),
    "tiles": encoded(size=(1024, 512), tile_cols=2, tile_rows=2),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_encoders_write_is_taken(name: str) -> None:
    size = image_size(TAKEN[name])
    assert size is not None
    assert avif.too_costly(TAKEN[name], size[0] * size[1]) == ""
    assert decode_image(TAKEN[name]).shape == (size[1], size[0], 3)


@given(st.sampled_from(sorted(TAKEN)), st.floats(0.01, 1.5), st.floats(0.01, 1.5))
def test_whoever_claims_fewer_pixels_than_are_coded_is_refused(name: str, wide: float, high: float) -> None:
    width, height = image_size(TAKEN[name]) or (0, 0)
    claimed = max(int(width * wide), 1), max(int(height * high), 1)
    data = claiming(TAKEN[name], *claimed)
    assert image_size(data) == claimed
    assert bool(avif.too_costly(data, claimed[0] * claimed[1])) == (claimed[0] * claimed[1] < width * height)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
@given(st.sampled_from(sorted(TAKEN)), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6))
@example("film", [(511, 1)])  # the width of its track
@settings(max_examples=150, deadline=None)
def test_a_decoder_never_gets_more_pixels_than_were_claimed(name: str, flips: list[tuple[int, int]]) -> None:
    """Whatever is in the boxes: it is refused, or its frames together are at most four times the picture."""
    changed = bytearray(TAKEN[name])
    for place, value in flips:
        changed[place % len(changed)] = value
    data = bytes(changed)
    claimed = image_size(data)
    if claimed is None or not 0 < claimed[0] * claimed[1] < 4e6:
        return
    if avif.too_costly(data, claimed[0] * claimed[1]):
        return
    try:
        picture = decode_image(data)
    except MediaError:
        return
    assert picture.dtype == np.uint8
    assert picture.shape[0] * picture.shape[1] <= claimed[0] * claimed[1]
