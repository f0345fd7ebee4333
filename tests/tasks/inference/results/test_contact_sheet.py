"""Contact sheets, and the painter that fills them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.inference.results.annotator import AnnotatedVideo, Annotator
from tasks.inference.results.contact_sheet import (
    BACKGROUND_GREY,
    CELL_HEIGHT,
    CELL_WIDTH,
    CELLS,
    COLUMNS,
    ContactSheet,
    cut_cells,
    fast_downscale,
    thumbnail,
)
from tasks.media.images import read_image
from tasks.vision.detections import Detections
from tasks.vision.geometry import Rgb
from tests.tasks.media.samples import read_frames

NAMES = ("red", "blue")


def plain(width: int, height: int, level: int = 90) -> Rgb:
    return np.full((height, width, 3), level, np.uint8)


def found(
    *boxes: tuple[float, float, float, float], size: tuple[int, int] = (640, 480), frame: int | None = None
) -> Detections:
    n = len(boxes)
    corners, sure = np.array(boxes, np.float32).reshape(n, 4), np.full(n, 0.9, np.float32)
    moment = None if frame is None else frame * 40.0
    return Detections(
        width=size[0],
        height=size[1],
        xyxy=corners,
        confidence=sure,
        class_id=np.zeros(n, np.int32),
        source=f"a/{size}.jpg",
        frame=frame,
        timestamp_ms=moment,
    )


def cell_of(image: Rgb, cell: int) -> Rgb:
    row, column = divmod(cell, COLUMNS)
    return image[row * CELL_HEIGHT :, column * CELL_WIDTH :][:CELL_HEIGHT, :CELL_WIDTH]


def test_any_thumbnails_of_a_sheet_are_cut_out_side_by_side() -> None:
    sheet = ContactSheet()
    for number in range(COLUMNS + 3):
        sheet.add(plain(CELL_WIDTH, CELL_HEIGHT, 20 * number))
    cut = cut_cells(sheet.pixels(), [COLUMNS + 2, 0, COLUMNS - 1])
    assert cut.shape == (CELL_HEIGHT, 3 * CELL_WIDTH, 3)
    for place, number in enumerate((COLUMNS + 2, 0, COLUMNS - 1)):
        assert (cut[:, place * CELL_WIDTH : (place + 1) * CELL_WIDTH] == 20 * number).all()


def test_cells_are_filled_row_by_row_and_each_picture_is_in_the_middle(tmp_path: Path) -> None:
    sheet = ContactSheet()
    for number in range(COLUMNS + 1):
        assert sheet.add(plain(100, 192, 20 * number + 60)) == number
    sheet.write(tmp_path / "thumbnails" / "x.jpg")
    image = read_image(tmp_path / "thumbnails" / "x.jpg")
    assert image.shape == (2 * CELL_HEIGHT, COLUMNS * CELL_WIDTH, 3)
    for number in range(COLUMNS + 1):
        cell = cell_of(image, number)
        assert abs(int(cell[96, 128, 0]) - (20 * number + 60)) < 8
        assert np.abs(cell[96, 20].astype(int) - BACKGROUND_GREY).max() < 8
    assert [path.name for path in (tmp_path / "thumbnails").iterdir()] == ["x.jpg"]


def test_a_full_sheet_and_a_picture_larger_than_a_cell_are_refused() -> None:
    sheet = ContactSheet()
    with pytest.raises(ValueError, match="found number 1 of 257x10"):
        sheet.add(plain(257, 10))
    for _ in range(CELLS):
        sheet.add(plain(1, 1))
    with pytest.raises(ValueError, match="begin another sheet"):
        sheet.add(plain(1, 1))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (256, 192)),
        ((1920, 1080), (256, 144)),
        ((1080, 1921), (108, 192)),
        ((32, 32), (192, 192)),
        ((9000, 3), (256, 1)),
        ((1, 1), (192, 192)),
        ((4001, 3001), (256, 192)),
    ],
)
def test_a_thumbnail_fills_its_cell_and_keeps_its_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = thumbnail(plain(*size), *size)
    assert small.shape == (expected[1], expected[0], 3)
    assert (small == 90).all()


@pytest.mark.parametrize("size", [(301, 203), (640, 480), (1281, 721), (2563, 1537)])
def test_shrinking_in_steps_gives_what_an_average_over_areas_gives(size: tuple[int, int]) -> None:
    x, y = np.meshgrid(np.linspace(0, 9, size[0]), np.linspace(0, 7, size[1]))
    image = np.repeat((127 + 60 * np.sin(x) + 60 * np.cos(y)).astype(np.uint8)[..., None], 3, axis=2)
    exact = cv2.resize(image, (256, 160), interpolation=cv2.INTER_AREA)
    assert np.abs(fast_downscale(image, (256, 160)).astype(int) - exact.astype(int)).max() <= 4


def test_nothing_is_drawn_on_a_thumbnail_and_its_boxes_go_with_the_item(tmp_path: Path) -> None:
    """What is painted into a picture nobody can hide."""
    painter = Annotator(tmp_path, 0, NAMES, annotate=False)
    item = painter.to_gallery_item(painter.annotate(plain(640, 480), found((320, 240, 480, 360))))
    painter.finish()
    assert np.ptp(cell_of(read_image(tmp_path / item.sheet), 0)) < 4
    (tally,) = item.classes
    assert (len(tally.boxes), tally.steps) == (8, ((90, 1),))


def test_a_painter_gives_cells_in_order_and_begins_a_sheet_when_one_is_full(tmp_path: Path) -> None:
    painter = Annotator(tmp_path, 12, NAMES, annotate=False)
    annotated = painter.annotate(plain(64, 48), found(size=(64, 48)))
    items = [painter.to_gallery_item(annotated) for _ in range(CELLS + 2)]
    painter.finish()
    assert [(item.sheet, item.cell) for item in items[:2]] == [("thumbnails/000012-0.jpg", 0), (items[0].sheet, 1)]
    assert [(item.sheet, item.cell) for item in items[-2:]] == [("thumbnails/000012-1.jpg", 0), (items[-1].sheet, 1)]
    assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == ["000012-0.jpg", "000012-1.jpg"]
    assert read_image(tmp_path / items[-1].sheet).shape[0] == CELL_HEIGHT


def test_an_annotated_picture_is_written_in_its_own_size(tmp_path: Path) -> None:
    painter = Annotator(tmp_path, 0, NAMES, annotate=True)
    item = painter.to_gallery_item(
        painter.annotate(plain(640, 480), found((100, 100, 300, 300)), small=plain(320, 240))
    )
    assert item.annotated is not None
    drawn = read_image(tmp_path / item.annotated)
    assert drawn.shape == (480, 640, 3)
    assert drawn[200, 98:103].max() > 150
    assert (item.width, item.height, item.frames) == (640, 480, 1)
    assert [(tally.class_id, tally.count) for tally in item.classes] == [(0, 1)]


def test_the_thumbnail_of_a_video_is_its_first_frame_with_the_most_detections(tmp_path: Path) -> None:
    painter, box = Annotator(tmp_path, 3, NAMES, annotate=True), (10, 10, 60, 60)
    with AnnotatedVideo(painter, "a/clip.mp4") as clip:
        for frame, boxes in enumerate([(), (box,), (box,), ()]):
            clip.add(plain(96, 64, 40 * frame + 20), found(*boxes, size=(96, 64), frame=frame))
    item = clip.item()
    painter.finish()
    assert (item.kind, item.frames, item.width, item.height, item.cell) == ("video", 4, 96, 64, 0)
    assert abs(int(cell_of(read_image(tmp_path / item.sheet), 0)[96, 240, 0]) - 60) < 8
    assert item.annotated is not None
    assert len(list(read_frames(tmp_path / item.annotated))) == 4


def test_a_film_that_cannot_be_written_costs_neither_rows_nor_place(tmp_path: Path) -> None:
    painter = Annotator(tmp_path, 3, NAMES, annotate=True)
    with AnnotatedVideo(painter, "wide.mp4") as clip:
        for frame in range(3):
            clip.add(plain(40_000, 2), found(size=(40_000, 2), frame=frame))
    assert clip.failure is not None
    assert "its detections are kept" in clip.failure.reason
    assert (clip.item().annotated, clip.frames) == (None, 3)
    assert not list(tmp_path.rglob("*.part"))


def test_a_video_without_frames_has_no_place(tmp_path: Path) -> None:
    with AnnotatedVideo(Annotator(tmp_path, 3, NAMES, annotate=False), "a.mp4") as clip:
        pass
    with pytest.raises(ValueError, match="list it among the failures"):
        clip.item()
