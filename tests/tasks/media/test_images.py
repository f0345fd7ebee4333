"""Pictures of every format, whole, broken and hostile."""

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from ultralytics.utils.patches import imread

from tasks.media import file_type, image_header, images
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind, sniff_kind
from tasks.media.images import decode_image, peak_decode_bytes_of, read_image
from tests.tasks.media.samples import encoded, in_own_process, photo, png_bomb, with_orientation

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
    assert found.size * 2 <= peak_decode_bytes_of(FILES[name])
    assert images.peak_decode_bytes(path) == peak_decode_bytes_of(FILES[name]) + len(FILES[name])


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_known_by_its_content_and_its_size_before_decoding(ending: str) -> None:
    data = encoded(photo(), ending)
    assert sniff_kind("no-ending", data[: file_type.HEAD_BYTES]) is MediaKind.IMAGE
    assert file_type.image_size(data) == (60, 40)
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
    bomb = png_bomb(60_000, 60_000)
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb)
    for refused in (
        lambda: decode_image(bomb),
        lambda: peak_decode_bytes_of(bomb),
        lambda: images.peak_decode_bytes(path),
    ):
        with pytest.raises(MediaError, match=r"found 60000x60000 in the header"):
            refused()


def decoy_jpeg() -> bytes:
    """A marker 00 with a length: whoever skips by it lands behind the picture, at a frame of 1 x 1 pixel."""
    whole = encoded(photo(), ".jpg")
    frame_of_one = b"\xff\xc0" + struct.pack(">HBHHB3B", 11, 8, 1, 1, 1, 1, 0x11, 0)
    return whole[:2] + b"\xff\0" + struct.pack(">H", len(whole)) + whole[2:] + frame_of_one


def decoy_bmp() -> bytes:
    """A header of 268 bytes, whose size ends in the byte 12 of the old header with two bytes a side."""
    width = 0x10001
    header = struct.pack("<IiiHHIIiiII", 268, width, 1, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 268) + header.ljust(268, b"\0") + bytes(width * 3 + 1)


def decoy_tiff(*extra: tuple[int, int, int]) -> bytes:
    """A grey TIFF of 60 x 40 pixels with more entries of (tag, type, value) behind the real ones of the same tag."""
    real = [
        (256, 3, 60),
        (257, 3, 40),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (277, 3, 1),
        (278, 3, 40),
        (279, 4, 2400),
    ]
    entries = sorted([*real, (273, 4, 200), *extra], key=lambda entry: entry[0])
    packed = [
        struct.pack("<HHIHH" if kind == 3 else "<HHII", tag, kind, 1, value, *[0] * (kind == 3))
        for tag, kind, value in entries
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(packed) + bytes(4)
    return head.ljust(200, b"\0") + bytes(2400)


def decoy_jp2() -> bytes:
    """The start of a codestream of 1 x 1 pixel in a box that every reader skips."""
    whole = encoded(photo(), ".jp2")
    decoy = b"\xff\x4f\xff\x51" + struct.pack(">HHII", 47, 0, 1, 1)
    behind_type = 12 + struct.unpack_from(">I", whole, 12)[0]
    return whole[:behind_type] + struct.pack(">I4s", 8 + len(decoy), b"free") + decoy + whole[behind_type:]


DECOYS = {
    "jpeg": decoy_jpeg(),
    "bmp": decoy_bmp(),
    "pnm": b"P5\n#\r60 40 255\n1 1 255\n" + bytes(2400),
    "pnm as webp": b"P5\n#1234WEBPVP8X" + bytes(14) + b"\n60 40 255\n" + bytes(2400),
    "tiff": decoy_tiff((256, 3, 1), (257, 3, 1)),
    "tiff of other types": decoy_tiff((256, 4, 1), (257, 4, 1)),
    "jp2": decoy_jp2(),
}


@pytest.mark.parametrize("name", DECOYS)
def test_no_header_is_read_as_smaller_than_opencv_reads_it(name: str) -> None:
    decoded = cv2.imdecode(np.frombuffer(DECOYS[name], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    height, width = decoded.shape[:2]
    assert (width, height) == ((65_537, 1) if name == "bmp" else (60, 40))
    # What a reader does not know for sure, it refuses.
    assert file_type.image_size(DECOYS[name]) in {None, (width, height)}
    assert file_type.image_size(DECOYS[name]) or name in {"jpeg", "pnm as webp"}


def test_a_tiff_whose_sides_have_an_odd_type_is_refused() -> None:
    data = bytearray(decoy_tiff())
    assert file_type.image_size(bytes(data)) == (60, 40)
    struct.pack_into("<H", data, 12, 16)
    assert file_type.image_size(bytes(data)) is None


def test_endless_boxes_are_not_walked_to_their_end() -> None:
    head = encoded(photo(), ".jp2")[:12]
    assert file_type.image_size(head + struct.pack(">I4s", 8, b"free") * 5000) is None
    assert file_type.image_size(head + struct.pack(">I4s", 0, b"free") * 5000) is None
    assert file_type.image_size(head + struct.pack(">I4sQ", 1, b"free", 2**64 - 1) * 5000) is None
    assert file_type.image_size(encoded(photo(), ".jp2")[12:]) is None


def test_opencv_itself_refuses_more_than_any_reader_accepts(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bomb(14_000, 14_000))
    code = """if True:
        import os, sys, tasks, cv2, numpy
        print(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"])
        try:
            cv2.imdecode(numpy.fromfile(sys.argv[1], numpy.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            print(error)
    """
    limit, error = in_own_process(code, path).split("\n", 1)
    assert int(limit) == max(image_header.MAX_PIXELS, images.MAX_PIXELS)
    assert "CV_IO_MAX_IMAGE_PIXELS" in error


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"not a picture", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff"]
)
def test_a_file_that_is_no_whole_image_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk.jpg"
    path.write_bytes(data)
    for read in (read_image, images.peak_decode_bytes):
        with pytest.raises(MediaError, match="expected a whole JPEG"):
            read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for read in (read_image, images.peak_decode_bytes):
        with pytest.raises(MediaError, match="No such file"):
            read(tmp_path / "none.jpg")


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    path = tmp_path / "big.jpg"
    path.write_bytes(bytes(11))
    with pytest.raises(MediaError, match="at most 10 bytes"):
        read_image(path)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", *(encoded(photo(), ending)[:40] for ending in ENDINGS)]),
    st.sampled_from([18, 18, 40]) | st.integers(0, 40),
)
def test_any_bytes_have_a_size_of_pixels_or_none(data: bytes, start: bytes, kept: int) -> None:
    size = file_type.image_size(start[:kept] + data)
    assert size is None or min(size) >= 0
    assert sniff_kind("x", start[:kept] + data) in MediaKind


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("holiday.mp4", b"\0\0\0\x18ftypisom", MediaKind.VIDEO),
        ("clip", b"\x1a\x45\xdf\xa3", MediaKind.VIDEO),
        ("photo.mp4", b"\xff\xd8\xff\xe0", MediaKind.IMAGE),
        ("pack.jpg", b"PK\x03\x04", MediaKind.ARCHIVE),
        ("broken.JPEG", b"??", MediaKind.IMAGE),
        ("broken.mkv", b"", MediaKind.VIDEO),
        ("BMW.txt", b"BMW is a car maker", MediaKind.UNKNOWN),
        ("notes", b"hello", MediaKind.UNKNOWN),
    ],
)
def test_the_content_tells_the_kind_and_the_ending_only_where_it_is_silent(
    name: str, head: bytes, kind: MediaKind
) -> None:
    assert sniff_kind(name, head) is kind
