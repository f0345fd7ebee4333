"""Images of inputs, as a dataset can hold them."""

from dataclasses import replace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest

from tasks.inference.results.summary import Failure
from tasks.inference.usable_images import read_usable_image
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind

SOURCE = MediaSource(name="s3://media/a.jpg", bucket="media", key="a.jpg", etag="1", size=1, kind=MediaKind.IMAGE)
PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def encoded(ending: str) -> bytes:
    return cv2.imencode(ending, PIXELS)[1].tobytes()


@pytest.mark.parametrize(
    ("name", "body", "ending"),
    [("a.jpg", ".jpg", ".jpg"), ("a.JPEG", ".jpg", ".jpeg"), ("a.png", ".jpg", ".jpg"), ("a", ".png", ".png")],
)
def test_what_training_reads_stays_as_it_is(name: str, body: str, ending: str) -> None:
    media = MagicMock(read=lambda _: encoded(body))
    image = read_usable_image(media, replace(SOURCE, name=name))
    assert not isinstance(image, Failure)
    assert (image.data, image.ending, image.checksum[1]) == (encoded(body), ending, len(encoded(body)))


def test_other_formats_become_png_with_the_same_pixels() -> None:
    media = MagicMock(read=lambda _: encoded(".ppm"))
    image = read_usable_image(media, replace(SOURCE, name="a.ppm"))
    assert not isinstance(image, Failure)
    assert image.ending == ".png"
    assert np.asarray(cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)).tolist() == PIXELS.tolist()
    assert image.checksum[1] == len(encoded(".ppm"))


def test_what_is_no_image_says_why() -> None:
    small = cv2.imencode(".ppm", PIXELS[:4])[1].tobytes()
    for body, reason in ((b"", "empty"), (encoded(".jpg")[:200], "expected"), (small, "at least 10 pixels")):
        image = read_usable_image(MagicMock(read=lambda _, body=body: body), SOURCE)
        assert isinstance(image, Failure)
        assert reason in image.reason
    gone = MagicMock()
    gone.read.side_effect = MediaError("gone")
    assert read_usable_image(gone, SOURCE) == Failure(source=SOURCE.name, reason="gone")
