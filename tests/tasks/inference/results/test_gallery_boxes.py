"""The boxes of the gallery in a real browser: what the slider leaves of them, and what is counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.inference.results import gallery
from tasks.inference.results.annotator import AnnotatedVideo, Annotator
from tasks.inference.results.chunk_results import ChunkResultWriter, merge_chunk_results
from tasks.inference.results.gallery import read_gallery_items, write_gallery
from tasks.inference.results.overlay import box_text, confidence_steps_of
from tasks.rendering.palette import class_colour
from tasks.vision.detections import Detections
from tests.infra.browser import Page
from tests.tasks.inference.results.examples import model
from tests.tasks.inference.results.test_gallery import HOSTILE, counted, item, summary
from tests.tasks.inference.results.test_gallery_browser import enter, press

NAMES = ("red", HOSTILE, "blue")
SIZE = 640, 480
COUNT = 10_000


def crowd(seed: int, count: int = 60, source: str = "", frame: int | None = None) -> Detections:
    """So many boxes of 12 to 90 pixels of a picture of 640 x 480, as in a field of cells: some lie over others."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(12, 90, (count, 2))
    start = rng.uniform(0, 1, (count, 2)) * (np.array(SIZE) - sides)
    sure = np.sort(rng.integers(2500, 9900, count) / 10_000)[::-1].astype(np.float32)
    moment = None if frame is None else 40.0 * frame
    boxes = np.hstack([start, start + sides]).astype(np.float32)
    ids = rng.choice(3, count, p=[0.8, 0.1, 0.1]).astype(np.int32)
    return Detections(
        width=SIZE[0],
        height=SIZE[1],
        xyxy=boxes,
        confidence=sure,
        class_id=ids,
        source=source or f"crowd-{seed}.jpg",
        frame=frame,
        timestamp_ms=moment,
    )


def lone(source: str, *rows: tuple[float, float, float, float, float, int]) -> Detections:
    """A picture with a few boxes: x1, y1, x2, y2, confidence, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(
        width=SIZE[0],
        height=SIZE[1],
        xyxy=table[:, :4],
        confidence=table[:, 4],
        class_id=table[:, 5].astype(np.int32),
        source=source,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as `run-inference` leaves it: eight crowds, a picture with three boxes, an empty one, and a video."""
    folder = tmp_path_factory.mktemp("run")
    plain = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    painter = Annotator(folder, 0, NAMES, annotate=False)
    three = lone("three.jpg", (64, 48, 320, 240, 0.9, 0), (400, 300, 600, 420, 0.5, 1), (40, 300, 300, 440, 0.3, 2))
    stills = [crowd(1), three, lone("empty.jpg"), *(crowd(seed) for seed in range(2, 9))]
    with ChunkResultWriter(folder, 0, model(names=NAMES)) as part:
        for found in stills:
            part.item(painter.to_gallery_item(painter.annotate(plain, found)))
            part.add(found)
        with AnnotatedVideo(painter, "clip.mp4") as clip:
            for frame, count in enumerate((5, 40, 20)):
                found = crowd(100 + frame, count, "clip.mp4", frame)
                clip.add(plain, found)
                part.add(found)
        part.item(clip.item())
        painter.finish()
    totals = merge_chunk_results([part.path], folder)
    write_gallery(folder / "index.html", totals, read_gallery_items(folder), {})
    return folder


@pytest.fixture
def page(browser: Page, run: Path) -> Iterator[Page]:
    browser.resize(1280, 900)
    show(browser, run / "index.html")
    yield browser
    assert browser.js("told") == []


def show(page: Page, path: Path) -> None:
    # The mouse of the test before must be at nothing.
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    page.open(path.as_uri())
    page.wait("document.querySelectorAll('.card').length && !document.querySelector('.card:not(.seen, .missing)')")


def pixels(page: Page, selector: str) -> np.ndarray:
    """What is drawn over a picture, uint8 [H, W, 4]."""
    script = f"""(() => {{
        const canvas = document.querySelector('{selector}');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, canvas.height, [...data].map((value) => String.fromCharCode(value)).join('')];
    }})()"""
    width, height, text = page.js(script)
    return np.frombuffer(text.encode("latin-1"), np.uint8).reshape(height, width, 4)


def card(page: Page, position: int) -> np.ndarray:
    return pixels(page, f'[data-position="{position}"] .marks')


def drawn(image: np.ndarray, class_id: int) -> np.ndarray:
    """Where a colour of a class is, [H, W]."""
    is_near = np.abs(image[..., :3].astype(int) - class_colour(class_id)).max(axis=-1) < 8
    return np.asarray(is_near & (image[..., 3] > 200))


def slide(page: Page, confidence: float) -> None:
    enter(page, "confidence", str(confidence))


def told(page: Page) -> dict[str, int]:
    """What the list of classes says."""
    rows = page.js("[...byId('classes').children].map((node) => [node.title, node.querySelector('b').textContent])")
    return {name: int(count.replace(",", "")) for name, count in rows}


def tallies(page: Page, position: int) -> dict[str, int]:
    entries = f"""[...document.querySelectorAll('[data-position="{position}"] .tally')]"""
    rows = page.js(f"{entries}.map((node) => [node.children[1].textContent, node.children[2].textContent])")
    return {name: int(count) for name, count in rows}


def inside(box: tuple[float, float, float, float], image: np.ndarray) -> np.ndarray:
    """The part of what is drawn over a card that belongs to a box of the picture."""
    height, width = image.shape[:2]
    left, top, right, bottom = (np.array(box) / [*SIZE, *SIZE] * [width, height, width, height]).round().astype(int)
    return image[max(top - 2, 0) : bottom + 3, max(left - 2, 0) : right + 3]


def test_the_slider_hides_boxes_and_leaves_the_pictures(page: Page) -> None:
    boxes = (64, 48, 320, 240), (400, 300, 600, 420), (40, 300, 300, 440)
    for confidence, left in ((0, {0, 1, 2}), (0.4, {0, 1}), (0.5, {0, 1}), (0.51, {0}), (0.95, set())):
        slide(page, confidence)
        image = card(page, 1)
        assert {number for number, box in enumerate(boxes) if drawn(inside(box, image), number).any()} == left
        assert (image[..., 3] > 0).any() == bool(left)
        assert page.js("byId('shown').textContent") == "11 of 11"
    assert page.js("""document.querySelector('[data-position="1"] .none').textContent""") == "none of 3"


def test_a_box_is_where_it_was_found_to_a_pixel(page: Page) -> None:
    image = card(page, 1)
    height, width = image.shape[:2]
    y, x = np.nonzero(drawn(image, 0))
    # A pixel of the thumbnail is cut off on each side, so all else is a little larger.
    expected = [(share * cell - 1) / (cell - 2) for share, cell in ((0.1, 256), (0.5, 256), (0.1, 192), (0.5, 192))]
    found = [x.min() / width, (x.max() + 1) / width, y.min() / height, (y.max() + 1) / height]
    assert np.abs(np.array(found) - expected).max() * width < 1.5


def test_counts_follow_the_slider_and_are_those_of_the_table(page: Page, run: Path) -> None:
    """Of each class, of each picture and of the video, and in all."""
    table = pq.read_table(run / "predictions.parquet")
    sure = table["confidence"].to_numpy()
    names, sources = np.array(table["class_name"].to_pylist()), np.array(table["source"].to_pylist())
    assert len(sure) == 8 * 60 + 3 + 65
    for step in (0, 25, 26, 43, 50, 77, 90, 99, 100):
        slide(page, step / 100)
        left = sure >= np.float32(step / 100)
        assert told(page) == {name: int((left & (names == name)).sum()) for name in NAMES}
        assert page.js("byId('detections').textContent") == f"{left.sum():,}"
        for position, source in ((0, "crowd-1.jpg"), (1, "three.jpg"), (10, "clip.mp4")):
            counts = Counter(names[left & (sources == source)].tolist())
            said = tallies(page, position)
            assert said.items() <= counts.items()
            assert sorted(said.values()) == sorted(counts.values())[-2:]


def test_a_class_that_is_chosen_is_drawn_alone_and_counted_alone(page: Page) -> None:
    page.js("document.querySelector('.class[data-class=\"2\"]').click()")
    position = page.js("shown.findIndex((each) => each.source === 'three.jpg')")
    image = card(page, position)
    assert [drawn(image, number).any() for number in range(3)] == [False, False, True]
    assert page.js("byId('detections').textContent") == str(told(page)["blue"])
    assert page.js("byId('of').textContent") == "of 548 detections"


def test_of_a_run_with_more_than_the_page_shows_all_are_counted(
    browser: Page, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MAX_ITEMS", 2)
    items = list(read_gallery_items(run))
    totals = replace(summary(items), class_names=NAMES)
    write_gallery(tmp_path / "index.html", totals, items, {})
    show(browser, tmp_path / "index.html")
    sure = pq.read_table(run / "predictions.parquet")["confidence"].to_numpy()
    for confidence in (0, 0.6):
        slide(browser, confidence)
        assert sum(told(browser).values()) == (sure >= np.float32(confidence)).sum()
    assert browser.js("byId('shown').textContent") == "2 of 2"


def test_sixty_boxes_on_a_thumbnail_leave_the_picture_to_be_seen(page: Page) -> None:
    """Thin lines: they cover little, each box can be told, and what is in it can be seen."""
    image = card(page, 0)
    height, width = image.shape[:2]
    assert 180 < width < 280  # the default size
    covered = image[..., 3] > 0
    assert covered.mean() < 0.15
    found = crowd(1)
    places = found.xyxy * (np.array([width, height, width, height]) / [*SIZE, *SIZE])
    inner = []
    for (left, top, right, bottom), number in zip(places.round().astype(int), found.class_id.tolist(), strict=True):
        there = np.s_[max(top - 2, 0) : bottom + 3, max(left - 2, 0) : right + 3]
        rows = [covered[max(edge - 2, 0) : edge + 3, left:right].any(axis=0) for edge in (top, bottom)]
        columns = [covered[top:bottom, max(edge - 2, 0) : edge + 3].any(axis=1) for edge in (left, right)]
        assert min(side.mean() for side in (*rows, *columns)) > 0.7
        assert drawn(image, number)[there].sum() > 0.5 * (right - left + bottom - top)
        inner.append(covered[top + 2 : bottom - 1, left + 2 : right - 1])
    assert np.mean([part.mean() for part in inner if part.size]) < 0.2


def test_the_class_that_is_pointed_at_stands_out(page: Page) -> None:
    before = card(page, 1)
    place = page.js(
        "(() => { const at = document.querySelector('.class[data-class=\"1\"]').getBoundingClientRect();"
        " return [at.x + 20, at.y + 9] })()"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    after = card(page, 1)
    assert [drawn(before, number).any() for number in range(3)] == [True] * 3
    assert [drawn(after, number).any() for number in range(3)] == [False, True, False]
    assert (after[..., 3] > 0).sum() > 0.9 * (before[..., 3] > 0).sum()  # the others are faint, not gone
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert (card(page, 1) == before).all()


def test_the_box_that_is_pointed_at_says_what_it_is(page: Page) -> None:
    """Its name is a stranger's: it is drawn as text and nothing else."""
    place = page.js(
        """(() => { const at = document.querySelector('[data-position="1"] .frame').getBoundingClientRect();"""
        " return [at.x + at.width * 500 / 640, at.y + at.height * 360 / 480] })()"
    )
    page.js(
        "window.texts = []; const write = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {"
        " texts.push(text); write.call(this, text, ...rest) }"
    )
    assert page.js("texts") == []
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    assert page.js("texts.at(-1)") == f"{HOSTILE[:39]}… 0.50"
    assert drawn(card(page, 1), 1).sum() > 800
    assert "pwned" not in page.js("document.title")


def test_the_enlarged_view_shows_what_the_slider_leaves_with_labels(page: Page) -> None:
    slide(page, 0.4)
    page.js("view(1)")
    page.wait("document.querySelector('.thumbnail canvas').width === 254")
    assert page.js("byId('facts').textContent").startswith("thumbnail · 2 of 3 detections")
    image = pixels(page, ".thumbnail .marks")
    assert image.shape[1] > 600
    assert [drawn(image, number).any() for number in range(3)] == [True, True, False]
    lines = 2 * 2 * (0.4 * image.shape[1] + 0.4 * image.shape[0])
    assert drawn(image, 0).sum() > lines + 500  # a label is more than a line
    press(page, "Escape")


def test_a_picture_has_its_file_enlarged_where_nothing_is_hidden_and_else_its_boxes(
    browser: Page, run: Path, tmp_path: Path
) -> None:
    items = [
        replace(each, annotated="annotated/x.jpg") for each in read_gallery_items(run) if each.source == "three.jpg"
    ]
    write_gallery(tmp_path / "index.html", replace(summary(items), class_names=NAMES), items, {})
    show(browser, tmp_path / "index.html")
    for confidence, files in ((0, 1), (0.4, 0)):
        slide(browser, confidence)
        browser.js("view(0)")
        assert browser.js("byId('file').href").endswith("annotated/x.jpg")
        assert browser.js("byId('stage').querySelectorAll('.media, .lost').length") == files
        press(browser, "Escape")
        browser.wait("!byId('viewer').open")


def test_pictures_with_too_many_boxes_say_so(
    browser: Page, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "ROOM", 12 * 20 * 8)
    items = list(read_gallery_items(run))
    write_gallery(tmp_path / "index.html", replace(summary(items), class_names=NAMES), items, {})
    show(browser, tmp_path / "index.html")
    assert "9 pictures with very many detections" in browser.js("byId('crowded').textContent")
    assert browser.js("marks(items[0]).length") == 20
    assert browser.js("everything(items[0])") == 60
    browser.js("view(0)")
    assert "the surest 20 boxes" in browser.js("byId('facts').textContent")
    press(browser, "Escape")


def test_ten_thousand_pictures_of_sixty_boxes_follow_the_slider_at_once(browser: Page, tmp_path: Path) -> None:
    found = crowd(1)
    order = [np.flatnonzero(found.class_id == number) for number in range(3)]
    classes = [
        replace(counted(number, len(rows), float(found.confidence[rows[0]])), steps=steps(boxes), boxes=boxes)
        for number, rows in enumerate(order)
        for boxes in [box_text(found, rows)]
    ]
    items = (item(number, f"{number}.jpg", *classes) for number in range(COUNT))
    totals = replace(summary([]), images=COUNT, detections=60 * COUNT, class_names=NAMES)
    write_gallery(tmp_path / "index.html", totals, items, {})
    assert (tmp_path / "index.html").stat().st_size < 7_000_000
    browser.open((tmp_path / "index.html").as_uri())
    assert sum(told(browser).values()) == 60 * COUNT
    timed = """[0.5, 0.6, 0.7].map((value) => {
        const start = performance.now();
        byId('confidence').value = value;
        byId('confidence').dispatchEvent(new Event('input'));
        return performance.now() - start;
    })"""
    assert min(browser.js(timed)) < 100
    assert sum(told(browser).values()) == COUNT * (found.confidence >= np.float32(0.7)).sum()


def steps(boxes: str) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(confidence_steps_of(boxes)).items(), reverse=True))
