"""Pictures of every format, whole, broken and hostile."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ultralytics.utils.patches import imread

from tasks.core.media import (
    Kind,
    MediaError,
    decode_image,
    decoded_bytes,
    headers,
    images,
    kind_of,
    read_image,
)
from tests.core.media.samples import encoded, photo, with_orientation

ENDINGS = [".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff", ".ppm", ".jp2", ".avif"]


def noise(*shape: int, top: int = 256) -> Any:
    """Smooth colours of 0 to `top` - 1, 40 x 60 pixels unless told."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.random((8, 12, *shape)), (60, 40), interpolation=cv2.INTER_CUBIC)
    return (np.clip(picture, 0, 1) * (top - 1)).astype(np.uint8 if top == 256 else np.uint16)


def pillow(mode: str, ending: str, **options: Any) -> bytes:
    """A picture in one of Pillow's modes; `turned` gives it EXIF orientation 6, `frames` more pictures."""
    picture = Image.fromarray(noise(3)).convert("RGBA")
    picture.putalpha(Image.fromarray(noise()))
    picture = picture.quantize(16) if mode == "P" else picture.convert(mode)
    if options.pop("turned", False):
        exif = Image.Exif()
        exif[0x112] = 6
        options |= {"tiffinfo": {0x112: 6}} if ending == ".tif" else {"exif": exif}
    if frames := options.pop("frames", 0):
        options |= {"save_all": True, "append_images": [picture.rotate(180)] * frames}
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[ending], **options)
    return file.getvalue()


FILES = {
    **{f"colour{ending}": encoded(noise(3), ending) for ending in ENDINGS},
    **{f"grey{ending}": encoded(noise(), ending) for ending in (".jpg", ".png", ".tif", ".webp", ".pgm", ".jp2")},
    **{f"colour16{ending}": encoded(noise(3, top=65536), ending) for ending in (".png", ".tif", ".ppm", ".jp2")},
    **{f"grey16{ending}": encoded(noise(top=65536), ending) for ending in (".png", ".tif", ".pgm", ".jp2")},
    **{f"alpha16{ending}": encoded(noise(4, top=65536)[..., [2, 1, 0, 3]], ending) for ending in (".png", ".tif")},
    **{f"alpha{ending}": pillow("RGBA", ending) for ending in (".png", ".tif", ".webp", ".avif", ".jp2")},
    **{f"turned{ending}": pillow("RGB", ending, turned=True) for ending in (".jpg", ".png", ".webp", ".tif", ".avif")},
    **{f"palette{ending}": pillow("P", ending) for ending in (".png", ".gif", ".tif", ".bmp")},
    **{f"bits{ending}": pillow("1", ending) for ending in (".png", ".tif", ".bmp")},
    **{f"many{ending}": pillow("RGB", ending, frames=3) for ending in (".gif", ".tif", ".webp", ".png", ".avif")},
    "see-through.png": pillow("P", ".png", transparency=3),
    "see-through.gif": pillow("P", ".gif", transparency=3),
    "grey-alpha.png": pillow("LA", ".png"),
    "many-grey.tif": pillow("L", ".tif", frames=2),
    "turned-grey.tif": pillow("L", ".tif", turned=True),
    "cmyk.jpg": pillow("CMYK", ".jpg"),
    "cmyk.tif": pillow("CMYK", ".tif"),
    "progressive.jpg": pillow("RGB", ".jpg", progressive=True, subsampling=0),
    "packed.tif": pillow("RGB", ".tif", compression="tiff_lzw"),
    "jpeg.tif": pillow("RGB", ".tif", compression="jpeg"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_that_ultralytics_sees(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    expected = imread(path)
    assert expected is not None
    assert expected.dtype == np.uint8
    found = read_image(path)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected[..., ::-1])
    assert found.size * 2 <= decoded_bytes(FILES[name])
    assert images.read_bytes(path) == decoded_bytes(FILES[name]) + len(FILES[name])


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
def test_the_exif_orientation_is_applied_mirrored_ones_too(orientation: int) -> None:
    image = decode_image(with_orientation(encoded(photo(), ".jpg"), orientation))
    assert image.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
    row, column = CORNERS[orientation]
    assert image[row, column, 0] > 150
    assert image[-row, -column, 0] < 100


def test_samples_that_are_no_colours_are_refused() -> None:
    with pytest.raises(MediaError, match="samples of type float32"):
        decode_image(encoded(noise(3).astype(np.float32) / 255, ".tif"))


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    for refused in (lambda: decode_image(bomb), lambda: decoded_bytes(bomb), lambda: images.read_bytes(path)):
        with pytest.raises(MediaError, match=r"found 60000x60000 in the header"):
            refused()


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"not a picture", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff"]
)
def test_junk_is_an_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk.jpg"
    path.write_bytes(data)
    for read in (read_image, images.read_bytes):
        with pytest.raises(MediaError, match="expected a whole JPEG"):
            read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for read in (read_image, images.read_bytes):
        with pytest.raises(MediaError, match="No such file"):
            read(tmp_path / "none.jpg")


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
