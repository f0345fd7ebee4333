import time
import zlib
from collections.abc import Callable, Mapping
from itertools import chain

import cv2
import numpy as np
import pytest

from tasks.dataset.archive import ArchiveError
from tasks.dataset.findings import Finding, FindingBatch, error
from tasks.dataset.image_stats import ImageStats, check_image
from tasks.finding_codes import Code
from tasks.validation import duplicates
from tasks.validation.duplicates import duplicate_findings, find_duplicates

Files = Mapping[str, bytes]


def picture(seed: int = 0, width: int = 320, height: int = 240) -> np.ndarray:
    """Blobs on a ramp [height, width, 3]: pictures of different seeds have nothing in common."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(100, 160), np.uint8)
    for _ in range(30):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, centre, int(rng.integers(10, 60)), tuple(map(int, rng.integers(0, 255, 3))), -1)
    return cv2.GaussianBlur(image, (0, 0), 2)


def encoded(image: np.ndarray, ending: str = ".jpg", quality: int = 95) -> bytes:
    return cv2.imencode(ending, image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def written(results: list[Finding | FindingBatch]) -> list[Finding]:
    return list(
        chain.from_iterable(map(r.make, range(r.count)) if isinstance(r, FindingBatch) else [r] for r in results)
    )


def seen(data: bytes, name: str) -> ImageStats:
    traits, _ = check_image(data, name)
    assert traits is not None
    return traits


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def find(files: Files, splits: Mapping[str, tuple[str, ...]] | None = None) -> list[Finding]:
    traits = {name: seen(data, name) for name, data in files.items()}
    entries = {name: (zlib.crc32(data), len(data)) for name, data in files.items()}
    return written(search(traits, entries, splits or {}, files.__getitem__))


def search(
    images: Mapping[str, ImageStats],
    entries: Mapping[str, tuple[int, int]],
    splits: Mapping[str, tuple[str, ...]],
    read: Callable[[str], bytes],
) -> list[Finding | FindingBatch]:
    return duplicate_findings(find_duplicates(images, entries, splits, read), splits)


def pairs(findings: list[Finding]) -> list[tuple[str, str, str | None, str | None]]:
    return [(finding.code.value, finding.severity.value, finding.path, finding.other) for finding in findings]


A, B = encoded(picture(0)), encoded(picture(1))
TRAIN, VAL = ("train",), ("val",)


def png(image: np.ndarray, level: int) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes()


def test_different_images_give_nothing() -> None:
    files = {f"{seed}.jpg": encoded(picture(seed)) for seed in range(40)}

    assert find(files, dict.fromkeys(files, TRAIN) | {"3.jpg": VAL}) == []
    assert find({}) == []


SAME = {
    "bytes": ({"a.jpg": A, "b.jpg": A}, "the same bytes as 'a.jpg'"),
    "a PNG and a BMP": (
        {"a.png": png(picture(), 1), "b.bmp": encoded(picture(), ".bmp")},
        "the same pixels as 'a.png'",
    ),
    "a PNG packed anew": ({"a.png": png(picture(), 1), "b.png": png(picture(), 9)}, "the same pixels as 'a.png'"),
    "a PNG made of a JPEG": ({"a.jpg": A, "b.png": png(decoded(A), 1)}, "the same pixels as 'a.jpg'"),
    "plain images": ({"a.png": png(picture() * 0, 1), "b.bmp": encoded(picture() * 0, ".bmp")}, "the same pixels as"),
}


@pytest.mark.parametrize(("files", "message"), SAME.values(), ids=SAME)
def test_the_same_bytes_or_pixels_are_duplicates_and_leaks_between_splits(files: Files, message: str) -> None:
    first, later = files

    (finding,) = find(files, dict.fromkeys(files, TRAIN))
    assert pairs([finding]) == [("image-duplicate", "warning", later, first)]
    assert message in finding.message
    assert pairs(find(files)) == [("image-duplicate", "warning", later, first)]
    assert pairs(find(files, {first: TRAIN})) == [("image-duplicate", "warning", later, first)]
    (leak,) = find(files, {first: TRAIN, later: VAL})
    assert pairs([leak]) == [("split-leak", "error", later, first)]
    assert message in leak.message


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 1.1, 0, 255).astype(np.uint8)


NEAR = {
    "quality 50": encoded(picture(), quality=50),
    "three quarters of the size": encoded(cv2.resize(picture(), None, fx=0.75, fy=0.75)),
    "brighter": encoded(brighter(picture())),
    "1 % cut off each side": encoded(picture()[2:-2, 3:-3]),
}


@pytest.mark.parametrize("near", NEAR.values(), ids=NEAR)
@pytest.mark.parametrize("others", [0, 30])
def test_nearly_the_same_picture_is_a_warning_that_says_how_near(near: bytes, others: int) -> None:
    later = "b.jpg"
    files = {"a.jpg": A, later: near} | {f"c{seed}.jpg": encoded(picture(seed + 5)) for seed in range(others)}

    (finding,) = find(files, dict.fromkeys(files, TRAIN))
    assert pairs([finding]) == [("image-near-duplicate", "warning", later, "a.jpg")]
    assert "nearly the same picture" in finding.message
    assert "of 63 bits" in finding.message
    assert pairs(find(files, {"a.jpg": TRAIN, later: VAL})) == [("split-leak", "warning", later, "a.jpg")]


FAR = {
    "mirrored": picture()[:, ::-1],
    "upside down": picture()[::-1],
    "a negative": 255 - picture(),
    "a quarter of it": picture()[60:180, 80:240],
    "another picture": picture(1),
}


@pytest.mark.parametrize("far", FAR.values(), ids=FAR)
def test_other_pictures_are_not_near(far: np.ndarray) -> None:
    assert find({"a.jpg": A, "b.jpg": encoded(np.ascontiguousarray(far))}) == []


def test_one_backdrop_with_another_object_is_another_picture() -> None:
    """What a camera over a conveyor sees: everything is alike but for what lies there."""
    ramp = np.linspace(90, 190, 320)[None, :, None] + np.zeros((240, 320, 3))
    scenes = [ramp.astype(np.uint8) for _ in range(2)]
    for scene in scenes:
        cv2.circle(scene, (100, 90), 40, (30, 30, 200), -1)
    cv2.rectangle(scenes[1], (190, 20), (214, 44), (70, 170, 40), -1)

    assert find({f"{index}.png": png(scene, 1) for index, scene in enumerate(scenes)}) == []


def test_pictures_that_show_next_to_nothing_are_not_near() -> None:
    """A light in the night: what their hash says is where the one light is."""
    night = [np.full((240, 320, 3), 5, np.uint8) for _ in range(3)]
    for index, image in enumerate(night):
        cv2.circle(image, (100 + index, 100), 8 + index, (255, 255, 255), -1)

    assert find({f"{index}.png": png(image, 1) for index, image in enumerate(night)}) == []


def test_what_all_images_share_makes_none_near() -> None:
    """Pages of one layout, different words; the copy of one of them is found all the same."""
    rng = np.random.default_rng(0)
    pages = {}
    for number in range(30):
        page = np.full((640, 480, 3), 250, np.uint8)
        for y in range(40, 600, 18):
            words = "".join(chr(rng.integers(97, 123)) if rng.random() < 0.85 else " " for _ in range(34))
            cv2.putText(page, words, (40, y), 0, 0.6, (20, 20, 20), 1)
        pages[f"{number:02}.jpg"] = encoded(page)
    copy = encoded(decoded(pages["07.jpg"]), quality=60)

    assert find(pages) == []
    assert pairs(find(pages | {"copy.jpg": copy})) == [("image-near-duplicate", "warning", "copy.jpg", "07.jpg")]


def test_the_same_grey_in_other_colours_is_near_and_not_the_same() -> None:
    """Equal traits only make candidates: their colours decide."""
    red, blue = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    red[..., 2], blue[..., 0] = 38, 100
    traits = [seen(png(image, 1), "a.png") for image in (red, blue)]

    assert traits[0] == traits[1]
    assert find({"a.png": png(red, 1), "b.png": png(blue, 1)}) == []


def test_each_later_image_of_a_group_names_the_first_and_the_other_split_first() -> None:
    files = dict.fromkeys(["d.jpg", "c.jpg", "b.jpg", "a.jpg"], A)

    assert pairs(find(files)) == [("image-duplicate", "warning", name, "a.jpg") for name in ("b.jpg", "c.jpg", "d.jpg")]
    assert pairs(find(files, {"a.jpg": TRAIN, "b.jpg": VAL, "c.jpg": VAL})) == [
        ("split-leak", "error", "b.jpg", "a.jpg"),
        ("split-leak", "error", "c.jpg", "a.jpg"),
        ("image-duplicate", "warning", "d.jpg", "a.jpg"),
    ]
    assert pairs(find(files, {"b.jpg": TRAIN, "d.jpg": VAL}))[0] == ("split-leak", "error", "d.jpg", "b.jpg")


def test_near_images_name_one_of_another_split_where_there_is_one() -> None:
    files = {"a.jpg": A, "b.jpg": NEAR["quality 50"], "c.jpg": NEAR["brighter"]}

    assert pairs(find(files, {"a.jpg": VAL, "b.jpg": TRAIN, "c.jpg": TRAIN})) == [
        ("split-leak", "warning", "b.jpg", "a.jpg"),
        ("split-leak", "warning", "c.jpg", "a.jpg"),
    ]
    found = pairs(find(files, {"a.jpg": TRAIN, "b.jpg": VAL, "c.jpg": TRAIN}))
    assert ("split-leak", "warning", "c.jpg", "b.jpg") in found


def test_a_folder_named_by_two_splits_is_one_error_with_its_counts() -> None:
    files = {"a.jpg": A, "b.jpg": B, "c.jpg": A}
    (shared, duplicate) = find(files, dict.fromkeys(files, ("val", "train")))

    assert (shared.code, shared.severity, shared.path) == ("split-leak", "error", "a.jpg")
    assert "3 in train and val, such as 'a.jpg'" in shared.message
    assert pairs([duplicate]) == [("image-duplicate", "warning", "c.jpg", "a.jpg")]
    assert find({"a.jpg": A}, {"a.jpg": TRAIN, "absent.jpg": TRAIN}) == []


def test_equal_checksums_of_different_bytes_are_no_duplicates() -> None:
    traits = seen(A, "a.jpg")
    images, entries = {"a.jpg": traits, "b.jpg": traits}, dict.fromkeys(["a.jpg", "b.jpg"], (7, 9))
    found = written(search(images, entries, {}, {"a.jpg": A, "b.jpg": B}.__getitem__))

    assert [finding.code for finding in found] == ["image-near-duplicate"]


def test_an_image_that_cannot_be_read_again_is_left_out() -> None:
    def read(name: str) -> bytes:
        if name == "a.jpg":
            raise ArchiveError(error(Code.ARCHIVE_UNREADABLE, "an image", "damage", "Copy it again.", path=name))
        return B

    traits = seen(B, "a.jpg")
    images = dict.fromkeys(["a.jpg", "b.jpg", "c.jpg"], traits)
    found = written(search(images, dict.fromkeys(images, (7, 9)), {}, read))

    assert ("image-duplicate", "warning", "c.jpg", "b.jpg") in pairs(found)
    assert not any(finding.code == "image-duplicate" and finding.other == "a.jpg" for finding in found)


@pytest.mark.parametrize("bound", ["MAX_READ_BYTES", "MAX_DECODED_PIXELS"])
def test_beyond_the_bounds_the_same_pixels_are_still_near(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, bound, 10)
    files = {"a.png": png(picture(), 1), "b.png": png(picture(), 9)}

    assert pairs(find(files)) == [("image-near-duplicate", "warning", "b.png", "a.png")]


def synthetic(thumbnails: np.ndarray) -> dict[str, ImageStats]:
    return {
        f"{number:06}.jpg": ImageStats(640, 480, sharpness=number * 1e-6, thumbnail=row.tobytes())
        for number, row in enumerate(thumbnails)
    }


def many(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "random":
        return rng.integers(0, 256, (count, 256), dtype=np.uint8)
    base = rng.integers(20, 236, (1, 256))
    spread = 0 if kind == "the same" else 12
    return (base + rng.integers(-spread, spread + 1, (count, 256))).astype(np.uint8)


@pytest.mark.parametrize(("kind", "expected"), [("random", 0), ("the same", 9_999), ("near", 9_999)])
def test_ten_thousand_images_of_any_kind_take_little_time(kind: str, expected: int) -> None:
    images = synthetic(many(kind, 10_000))
    splits = {name: TRAIN if index % 2 else VAL for index, name in enumerate(images)}
    began = time.perf_counter()
    found = search(images, {name: (index, 1) for index, name in enumerate(images)}, splits, lambda _: b"")

    assert time.perf_counter() - began < 5
    assert sum(batch.count for batch in found if isinstance(batch, FindingBatch)) == expected


def test_a_twin_is_found_across_blocks() -> None:
    thumbnails = many("random", 9000)
    thumbnails[8999] = thumbnails[17] // 2 + 60
    images = synthetic(thumbnails)
    entries = {name: (index, 1) for index, name in enumerate(images)}

    (finding,) = written(search(images, entries, {}, lambda _: b""))

    assert (finding.path, finding.other) == ("008999.jpg", "000017.jpg")
