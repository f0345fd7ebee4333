import io
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tasks.dataset.image_stats import ImageStats, check_image, format_findings, is_image, is_unsupported_image
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind, sniff_kind
from tasks.media.images import decode_image
from tests.tasks.dataset.archives import huge_png, image

ENDINGS = [".jpg", ".png", ".bmp", ".tif", ".webp"]


def found(data: bytes, path: str = "a.jpg") -> list[str]:
    traits, findings = check_image(data, path)
    assert (traits is None) == any(finding.severity == "error" for finding in findings)
    return [finding.code for finding in findings]


def traits_of(data: bytes, path: str = "a.jpg") -> ImageStats:
    traits, _ = check_image(data, path)
    assert traits is not None
    return traits


def saved(kind: str, **options: object) -> bytes:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(seed: int = 0) -> np.ndarray:
    """A picture [240, 320, 3] whose JPEG has long runs of pixels to damage."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (15, 20, 3), dtype=np.uint8)
    return np.clip(cv2.resize(small, (320, 240)) + rng.normal(0, 6, (240, 320, 1)), 0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, **options: int) -> bytes:
    names = {"restart": cv2.IMWRITE_JPEG_RST_INTERVAL, "progressive": cv2.IMWRITE_JPEG_PROGRESSIVE}
    flat = [number for name, value in options.items() for number in (names[name], value)]
    return cv2.imencode(".jpg", picture, flat)[1].tobytes()


def with_exif(orientation: int, order: str = "<") -> bytes:
    """The smallest EXIF block that has an orientation."""
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
    return b"Exif\0\0" + tiff


def rotated(orientation: int, order: str = "<") -> bytes:
    exif, data = with_exif(orientation, order), image()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def with_thumbnail(data: bytes) -> bytes:
    """A JPEG as cameras write it: the header holds a small JPEG that is whole, end mark and all."""
    exif = b"Exif\0\0" + image()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_whole_images_give_nothing(ending: str) -> None:
    assert found(image(ending), f"images/a{ending.upper()}") == []


def cmyk() -> bytes:
    buffer = io.BytesIO()
    Image.new("CMYK", (32, 32), (10, 200, 30, 40)).save(buffer, "JPEG")
    return buffer.getvalue()


GOOD = {
    "progressive": (saved("JPEG", progressive=True), "a.jpg"),
    "bytes after the end": (image() + b"\0" * 99, "a.jpeg"),
    "fill bytes before a mark": (image()[:2] + b"\xff" + image()[2:], "a.jpg"),
    "with a thumbnail": (with_thumbnail(image()), "a.jpg"),
    "restart marks": (jpeg(photo(), restart=4), "a.jpg"),
    "CMYK": (cmyk(), "a.jpg"),
    "padded with zeros before the end": (image()[:-2] + bytes(40) + image()[-2:], "a.jpg"),
    "bytes of another program before the end": (image()[:-2] + b"maker note of some camera" + image()[-2:], "a.jpg"),
    "an unknown JFIF revision": (image().replace(b"JFIF\0\1", b"JFIF\0\0", 1), "a.jpg"),
    "upright by its EXIF": (rotated(1), "a.jpg"),
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


def test_the_end_mark_counts_where_the_decoder_is_lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some decoders fill the rest of a cut image with grey; the mark at the end of the thumbnail must not count."""
    lenient = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda data, *_, **__: lenient(data, "GRAY", strict=False))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((64, 64, 3), np.uint8))
    whole, png = with_thumbnail(image(".jpg", 64, 64)), image(".png", 64, 64)

    assert found(whole) == []
    assert found(whole[:-300]) == ["image-unreadable"]
    assert found(png, "a.png") == []
    assert found(png[:-20], "a.png") == ["image-unreadable"]


def zeros(data: bytes, at: int) -> bytes:
    return data[:at] + bytes(64) + data[at + 64 :]


def cut_out(data: bytes, at: int) -> bytes:
    return data[:at] + data[at + 2000 :]


def marks(data: bytes, at: int) -> bytes:
    return data[:at] + b"\xff\xbf" * 40 + data[at + 80 :]


@pytest.mark.parametrize("damage", [zeros, cut_out, marks])
@pytest.mark.parametrize(
    ("options", "share"),
    [*(({}, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)), ({"restart": 4}, 0.5), ({"progressive": 1}, 0.3)],
)
def test_a_jpeg_damaged_before_its_end_mark_is_unreadable(
    damage: Callable[[bytes, int], bytes], options: dict[str, int], share: float
) -> None:
    """OpenCV decodes most of these without a word, the rest of the picture grey or shifted."""
    data = jpeg(photo(), **options)
    broken = damage(data, int(len(data) * share))

    assert found(broken) == ["image-unreadable"]


def test_a_jpeg_of_endless_scans_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan goes over all pixels and may be some bytes long: a file of a megabyte would take hours."""
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    data = jpeg(np.zeros((3000, 3000, 3), np.uint8), progressive=1)
    start = data.rfind(b"\xff\xda")

    assert found(data[:-2] + data[start:-2] * 500 + data[-2:]) == ["image-unreadable"]


@pytest.mark.parametrize(
    "filling", [b"\xff", b"\0", b"\xff\0", b"\xff\xe5\0\2"], ids=["fill", "zeros", "both", "segments"]
)
def test_a_header_of_many_megabytes_is_refused_in_little_time(filling: bytes) -> None:
    data = image()[:2] + filling * (2**25 // len(filling)) + image()[2:]
    began = time.process_time()
    _, (finding,) = check_image(data, "a.jpg")
    assert time.process_time() - began < 3
    assert finding.code == "image-unreadable"
    assert "expected an image that decodes in the time of an ordinary one" in finding.message.lower()


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_that_moves_what_is_drawn_is_a_warning(orientation: int, order: str) -> None:
    traits, (finding,) = check_image(rotated(orientation, order), "a.jpg")

    assert (finding.code, finding.severity, finding.path) == ("image-exif-rotated", "warning", "a.jpg")
    assert f"24x16 with EXIF orientation {orientation}, which" in finding.message
    assert f"is shown, {'16x24' if orientation > 4 else '24x16'}, found" in finding.message
    assert traits is not None
    assert (traits.width, traits.height, traits.orientation) == (24, 16, orientation)


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("JPEG", "jpg")])
def test_exif_is_read_in_every_format(kind: str, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    buffer = io.BytesIO()
    Image.new("RGB", (24, 16)).save(buffer, kind, exif=exif)
    (finding,) = check_image(buffer.getvalue(), f"a.{ending}")[1]
    assert finding.code == "image-exif-rotated"
    assert "is shown, 16x24, found 24x16 with EXIF orientation 6" in finding.message


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_other_orientations_give_nothing(orientation: int) -> None:
    assert found(rotated(orientation)) == []


@pytest.mark.parametrize("block", [b"", b"II", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_is_no_fault_of_the_image(block: bytes) -> None:
    data = image()
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block

    assert found(data[:2] + segment + data[2:]) == []


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
    "a PNG chunk that claims gigabytes": (
        image(".png")[:33] + b"\x7f\xff\xff\xff" + image(".png")[37:],
        "a.png",
        "image-unreadable",
    ),
    "narrow": (image(width=9), "a.jpg", "image-too-small"),
    "low": (image(height=9), "a.jpg", "image-too-small"),
}


@pytest.mark.parametrize(("data", "path", "code"), BAD.values(), ids=BAD)
def test_faulty_images_give_their_code(data: bytes, path: str, code: str) -> None:
    assert found(data, path) == [code]


def test_a_bomb_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))

    _, (finding,) = check_image(huge_png(30_000, 30_000), "a.png")

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


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".tif"])
def test_traits_say_what_the_picture_shows(ending: str) -> None:
    picture = np.full((100, 200, 3), 40, np.uint8)
    picture[:, 100:] = 200
    traits = traits_of(cv2.imencode(ending, picture)[1].tobytes(), f"a{ending}")

    assert traits[:3] == (200, 100, 1)
    assert (traits.dark, traits.bright) == pytest.approx((200, 40), abs=3)
    assert traits.entropy == pytest.approx(1, abs=0.5)
    assert traits.thumbnail[:16] == pytest.approx([40] * 8 + [200] * 8, abs=2)


def test_blur_lowers_sharpness_and_contrast_does_not() -> None:
    sharp = cv2.resize(np.random.default_rng(0).integers(0, 2, (24, 32), np.uint8) * 200, (640, 480), None, 0, 0, 0)
    soft, faint = cv2.GaussianBlur(sharp, (0, 0), 3), sharp // 4
    values = [traits_of(jpeg(picture)).sharpness for picture in (sharp, soft, faint)]

    assert values[1] < values[0] / 2
    assert values[2] == pytest.approx(values[0], rel=0.1)


def test_the_same_pixels_have_the_same_traits_whatever_the_format() -> None:
    picture = photo()
    kinds = [traits_of(cv2.imencode(ending, picture)[1].tobytes(), f"a{ending}") for ending in (".png", ".bmp", ".tif")]

    assert kinds[0] == kinds[1] == kinds[2]


@pytest.mark.parametrize(("width", "height"), [(10, 10), (30_000, 10), (10, 5000), (321, 479)])
def test_every_shape_is_measured(width: int, height: int) -> None:
    traits = traits_of(image(".png", width, height), "a.png")

    assert (traits.width, traits.height, len(traits.thumbnail)) == (width, height, 256)


def test_many_threads_find_what_one_finds() -> None:
    files = [(image(ending, 64, 48, seed), f"a{ending}") for ending in ENDINGS for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda file: check_image(*file), files * 5))

    assert together == [check_image(*file) for file in files] * 5


def test_images_that_training_does_not_read_are_named() -> None:
    names = ["b/photo.HEIC", "a.gif", "a.jpg", "notes.txt", "images.gif/a.png", "gif"]
    (batch,) = format_findings(names)
    findings = [batch.make(number) for number in range(batch.count)]

    assert [finding.path for finding in findings] == ["a.gif", "b/photo.HEIC"]
    assert {(finding.code, finding.severity) for finding in findings} == {("image-format", "warning")}
    assert "convert it to JPEG or PNG" in findings[0].message
    assert [name for name in names if is_unsupported_image(name)] == ["b/photo.HEIC", "a.gif"]
    assert format_findings(["a.jpg", "data.yaml"]) == []


@pytest.mark.parametrize("order", ["II", "MM"])
def test_a_big_tiff_is_refused_by_all_that_read_images(order: str) -> None:
    """Its cost and its orientation are not read, so an archive with one is not valid either."""
    data = saved("TIFF", big_tiff=True)
    assert data[:4] == b"II+\0"
    if order == "MM":
        data = b"MM\0+" + data[4:]
    (finding,) = check_image(data, "a.tif")[1]
    assert finding.code == "image-unreadable"
    assert "Expected an ordinary TIFF, which any file of less than 4 GiB can be, found a BigTIFF" in finding.message
    with pytest.raises(MediaError, match="found a BigTIFF, where an ordinary TIFF would do; save it again"):
        decode_image(data)
    assert sniff_kind("photo", data[:400]) is MediaKind.IMAGE


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_damaged_tiff_is_unreadable(compression: str) -> None:
    """OpenCV leaves the rows as they come, and only logs it."""
    data = bytearray(saved("TIFF", compression=compression))
    assert found(bytes(data), "a.tif") == []
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)

    assert found(bytes(data), "a.tif") == ["image-unreadable"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file"),
        (bytes(99), "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC"),
        (b"  <!doctype html><html>", "web page"),
    ],
)
def test_what_was_taken_for_an_image_is_named(data: bytes, told: str) -> None:
    _, (finding,) = check_image(data, "a.jpg")

    assert told in finding.message


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_tiff_is_measured_as_it_is_stored(orientation: int) -> None:
    """OpenCV turns it, whatever its flags say."""
    files = []
    for tag in (1, orientation):
        written = io.BytesIO()
        Image.fromarray(photo()).save(written, "TIFF", tiffinfo={274: tag})
        files.append(written.getvalue())
    ordinary, turned = (traits_of(data, "a.tif") for data in files)
    assert turned == ordinary._replace(orientation=orientation)
