import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from tasks.core.images import check_image, is_image
from tests.core.archives import huge_png, image

ENDINGS = [".jpg", ".png", ".bmp", ".tif", ".webp"]


def found(data: bytes, path: str = "a.jpg") -> list[str]:
    return [finding.code for finding in check_image(data, path)]


def saved(kind: str, **options: object) -> bytes:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_thumbnail(data: bytes) -> bytes:
    """A JPEG as cameras write it: the header holds a small JPEG that is whole, end mark and all."""
    exif = b"Exif\0\0" + image()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_whole_images_give_nothing(ending: str) -> None:
    assert found(image(ending), f"images/a{ending.upper()}") == []


GOOD = {
    "progressive": (saved("JPEG", progressive=True), "a.jpg"),
    "bytes after the end": (image() + b"\0" * 99, "a.jpeg"),
    "fill bytes before a mark": (image()[:2] + b"\xff" + image()[2:], "a.jpg"),
    "with a thumbnail": (with_thumbnail(image()), "a.jpg"),
    "several pictures": (saved("MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))]), "a.jpg"),
    "grey": (cv2.imencode(".png", np.zeros((20, 20), np.uint8))[1].tobytes(), "a.png"),
    "16 bits": (cv2.imencode(".png", np.zeros((20, 20), np.uint16))[1].tobytes(), "a.png"),
    "smallest": (image(width=10, height=10), "a.jpg"),
}


@pytest.mark.parametrize(("data", "path"), GOOD.values(), ids=GOOD)
def test_unusual_but_whole_images_give_nothing(data: bytes, path: str) -> None:
    assert found(data, path) == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.98])
def test_cut_images_are_unreadable(ending: str, share: float) -> None:
    data = image(ending, 64, 64)

    assert found(data[: int(len(data) * share)], f"a{ending}") == ["image-unreadable"]


@pytest.mark.parametrize("left_out", [1, 2, 3])
def test_a_jpeg_without_its_last_bytes_is_unreadable(left_out: int) -> None:
    assert found(image()[:-left_out]) == ["image-unreadable"]


def test_a_cut_progressive_jpeg_is_unreadable() -> None:
    data = saved("JPEG", progressive=True)

    assert {tuple(found(data[: int(len(data) * share)])) for share in (0.3, 0.7, 0.95)} == {("image-unreadable",)}


@pytest.mark.parametrize("decoder", [lambda *_: np.zeros((1, 1, 3), np.uint8)])
def test_the_end_mark_counts_where_the_decoder_is_lenient(monkeypatch: pytest.MonkeyPatch, decoder: object) -> None:
    """Older OpenCV fills the rest of a cut image with grey; the mark at the end of the thumbnail must not count."""
    monkeypatch.setattr(cv2, "imdecode", decoder)
    whole, png = with_thumbnail(image(".jpg", 64, 64)), image(".png", 64, 64)

    assert found(whole) == []
    assert found(whole[:-300]) == ["image-unreadable"]
    assert found(png, "a.png") == []
    assert found(png[:-20], "a.png") == ["image-unreadable"]


BAD = {
    "text": (b"hello", "a.jpg", "image-unreadable"),
    "only a start": (b"\xff\xd8\xff", "a.jpg", "image-unreadable"),
    "pixels that cannot be unpacked": (
        image(".png")[:60] + bytes(40) + image(".png")[100:],
        "a.png",
        "image-unreadable",
    ),
    "PNG under .jpg": (image(".png"), "a.jpg", "image-unreadable"),
    "JPEG under .png": (image(), "a.png", "image-unreadable"),
    "GIF under .png": (saved("GIF"), "a.png", "image-unreadable"),
    "bomb": (huge_png(30_000, 30_000), "a.png", "image-unreadable"),
    "bomb that Pillow only warns of": (huge_png(10_000, 10_000), "a.png", "image-unreadable"),
    "narrow": (image(width=9), "a.jpg", "image-too-small"),
    "low": (image(height=9), "a.jpg", "image-too-small"),
}


@pytest.mark.parametrize(("data", "path", "code"), BAD.values(), ids=BAD)
def test_faulty_images_give_their_code(data: bytes, path: str, code: str) -> None:
    assert found(data, path) == [code]


def test_a_bomb_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))

    (finding,) = check_image(huge_png(30_000, 30_000), "a.png")

    assert "pixels" in finding.message
    assert finding.path == "a.png"


def test_the_limit_holds_where_another_library_lifted_that_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))

    assert found(huge_png(30_000, 30_000), "a.png") == ["image-unreadable"]


@pytest.mark.parametrize("seed", range(5))
def test_mutated_images_never_raise(seed: int) -> None:
    """Bytes changed anywhere, in each format: the answer may be that it is whole, but there is one."""
    rng = np.random.default_rng(seed)
    for ending in ENDINGS:
        for _ in range(20):
            data = bytearray(image(ending, 32, 32))
            for at in rng.integers(0, min(len(data), 400), 4):
                data[at] = rng.integers(256)
            assert set(found(bytes(data), f"a{ending}")) <= {"image-unreadable", "image-too-small"}


def test_images_are_known_by_their_ending() -> None:
    assert is_image("x/a.JPG")
    assert not is_image("x/jpg")
    assert not is_image("a.gif")
