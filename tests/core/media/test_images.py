"""Pictures of every format, whole, broken and hostile."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.media import (
    Kind,
    MediaError,
    decode_image,
    headers,
    images,
    kind_of,
    read_image,
)
from tests.core.media.samples import encoded, photo, with_orientation

ENDINGS = [".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff", ".ppm", ".jp2", ".avif"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_known_by_its_content_and_its_size_before_decoding(ending: str) -> None:
    data = encoded(photo(), ending)
    assert kind_of("no-ending", data[: headers.HEAD_BYTES]) is Kind.IMAGE
    assert headers.image_size(data) == (60, 40)
    assert decode_image(data).shape == (40, 60, 3)
    assert np.abs(decode_image(data)[5, 5].astype(int) - (220, 20, 20)).max() < 40


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_picture_is_an_error(ending: str, share: float) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8), ending)
    with pytest.raises(MediaError, match=r"expected .* found"):
        decode_image(data[: int(len(data) * share)])


CORNERS = {1: (5, 5), 2: (5, -5), 3: (-5, -5), 4: (-5, 5), 5: (5, 5), 6: (5, -5), 7: (-5, -5), 8: (-5, 5)}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_mirrored_ones_too(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "camera.jpg"
    path.write_bytes(with_orientation(encoded(photo(), ".jpg"), orientation))
    image = read_image(path)
    assert image.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    row, column = CORNERS[orientation]
    assert image[row, column, 0] > 150
    assert image[-row, -column, 0] < 100


def test_grey_alpha_and_16_bits_become_8_bit_rgb() -> None:
    grey16 = np.full((8, 9), 0x8000, np.uint16)
    assert decode_image(encoded(grey16)).tolist() == np.full((8, 9, 3), 0x80).tolist()
    colour16 = np.zeros((8, 9, 3), np.uint16)
    colour16[..., 0] = 0xFFFF
    assert decode_image(encoded(colour16))[0, 0].tolist() == [255, 0, 0]
    alpha = cv2.imencode(".png", np.full((8, 9, 4), (10, 20, 30, 0), np.uint8))[1].tobytes()
    assert decode_image(alpha)[0, 0].tolist() == [30, 20, 10]


def test_a_bomb_is_refused_by_its_header() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    with pytest.raises(MediaError, match=r"found 60000x60000 in the header"):
        decode_image(bomb)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"not a picture", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff"]
)
def test_junk_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk.jpg"
    path.write_bytes(data)
    with pytest.raises(MediaError, match="expected a whole JPEG"):
        read_image(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file"):
        read_image(tmp_path / "none.jpg")


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    path = tmp_path / "big.jpg"
    path.write_bytes(bytes(11))
    with pytest.raises(MediaError, match="at most 10 bytes"):
        read_image(path)


@given(st.binary(max_size=300), st.sampled_from([b"", *(encoded(photo(), ending)[:40] for ending in ENDINGS)]))
def test_no_header_brings_the_reader_down(data: bytes, start: bytes) -> None:
    headers.image_size(start + data)
    kind_of("x", start + data)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("holiday.mp4", b"\0\0\0\x18ftypisom", Kind.VIDEO),
        ("clip", b"\x1a\x45\xdf\xa3", Kind.VIDEO),
        ("photo.mp4", b"\xff\xd8\xff\xe0", Kind.IMAGE),
        ("pack.jpg", b"PK\x03\x04", Kind.ARCHIVE),
        ("broken.JPEG", b"??", Kind.IMAGE),
        ("broken.mkv", b"", Kind.VIDEO),
        ("BMW.txt", b"BMW is a car maker", Kind.UNKNOWN),
        ("notes", b"hello", Kind.UNKNOWN),
    ],
)
def test_the_content_tells_the_kind_and_the_ending_only_where_it_is_silent(name: str, head: bytes, kind: Kind) -> None:
    assert kind_of(name, head) is kind
