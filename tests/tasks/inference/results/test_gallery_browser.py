"""The gallery in a real browser: ten thousand items over HTTP, and a downloaded folder."""

import functools
import http.server
import io
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import pytest

from infra import demo_data
from tasks.inference.results.contact_sheet import CELL_HEIGHT, CELL_WIDTH, ContactSheet
from tasks.inference.results.gallery import write_gallery
from tasks.inference.results.summary import GalleryItem
from tasks.media.images import write_jpeg
from tests.infra.browser import Page
from tests.tasks.inference.results.test_gallery import HOSTILE, counted, item, summary

COUNT = 10_000
CODES = {"Escape": 27, "End": 35, "ArrowRight": 39, "ArrowDown": 40, "/": 191}


@dataclass
class Site:
    """A folder that is served, and the paths that were asked for."""

    address: str
    folder: Path
    asked: list[str] = field(default_factory=list)

    @property
    def sheets(self) -> set[str]:
        return {path for path in self.asked if "thumbnails/" in path}


class Handler(http.server.SimpleHTTPRequestHandler):
    site: ClassVar[Site]

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        self.site.asked.append(self.path)
        # A link of a store: its signature is no part of the name.
        self.path = self.path.removeprefix("/signed").partition("?")[0]
        return super().send_head()

    def log_message(self, *_: object) -> None:
        """Tests need no log."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        Handler.site = Site(f"http://127.0.0.1:{server.server_port}", folder)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Handler.site
        server.shutdown()


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    browser.resize(1280, 900)
    yield browser
    assert browser.js("told") == []


def level(number: int) -> int:
    """The grey of the thumbnail of an item."""
    return 60 + number % 64 * 3


def many() -> Iterator[GalleryItem]:
    """Every second item has a `red` of 0.9, every fifth a HOSTILE one of 0.4; one in a thousand is a video."""
    for number in range(COUNT):
        red = [counted(0, 2, 0.9)] if number % 2 == 0 else []
        other = [counted(1, 1, 0.4)] if number % 5 == 0 else []
        name = f"photos.zip/part {number // 100}/{number}"
        yield item(number, name, *red, *other, kind="video" if number % 1000 == 3 else "image")


@pytest.fixture(scope="module")
def large(site: Site) -> Site:
    """A run of 10,000 items with a link each."""
    sheet = ContactSheet()
    for number in range(64):
        sheet.add(np.full((CELL_HEIGHT, CELL_WIDTH, 3), level(number), np.uint8))
    sheet.write(site.folder / "thumbnails/000000-0.jpg")
    for number in range(1, -(-COUNT // 64)):
        shutil.copy(site.folder / "thumbnails/000000-0.jpg", site.folder / f"thumbnails/{number:06d}-0.jpg")
    write_jpeg(site.folder / "annotated/p-0.jpg", np.full((480, 640, 3), 99, np.uint8))
    demo_data.write_video(site.folder / "annotated/p-3.mp4", 5)
    items = list(many())
    paths = {each.sheet for each in items} | {each.annotated or "" for each in items}
    links = {path: f"{site.address}/signed/{path}?{'q' * 300}&signature={hash(path):064x}" for path in paths}
    write_gallery(site.folder / "index.html", summary(items), items, links, model_name="cells")
    return site


@pytest.fixture
def opened(large: Site, page: Page) -> Page:
    large.asked.clear()
    page.call("Network.clearBrowserCache")
    page.open(f"{large.address}/index.html?signature=x")
    page.wait("document.querySelectorAll('.card.seen').length > 5 && !document.querySelector('.card:not(.seen)')")
    return page


def enter(page: Page, name: str, value: str, event: str = "input") -> None:
    page.js(f"byId('{name}').value = '{value}'; byId('{name}').dispatchEvent(new Event('{event}'))")


def press(page: Page, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=CODES.get(key, 0))


def grey(page: Page, position: int) -> int:
    """The middle of a card's picture."""
    pixel = "getContext('2d').getImageData(128, 96, 1, 1).data[0]"
    return int(page.js(f"document.querySelector('[data-position=\"{position}\"] canvas').{pixel}"))


def test_only_what_is_near_the_window_is_loaded(opened: Page, large: Site) -> None:
    assert opened.js("byId('shown').textContent") == "10,000 of 10,000"
    assert len(large.sheets) == 1
    assert all(path.startswith("/signed/") for path in large.sheets)
    assert opened.js("document.querySelectorAll('.card').length") < 80
    assert [abs(grey(opened, number) - level(number)) < 4 for number in (0, 1, 9)] == [True] * 3

    opened.js("scrollTo(0, document.documentElement.scrollHeight / 2)")
    opened.wait("mounted.has(5000) && [...mounted.values()].every((card) => card.painted)")
    assert abs(grey(opened, 5000) - level(5000)) < 4
    assert len(large.sheets) <= 4
    opened.js("scrollTo(0, document.documentElement.scrollHeight)")
    opened.wait("mounted.has(9999) && mounted.get(9999).painted")
    assert opened.js("document.querySelectorAll('.card').length") < 80


def test_filters_give_the_right_counts_in_no_time(opened: Page) -> None:
    def shown() -> int:
        return int(opened.js("shown.length"))

    opened.js("document.querySelector('[data-class=\"1\"]').click()")
    assert shown() == 2000
    enter(opened, "confidence", "0.5")
    assert shown() == 0  # its own confidence counts, not that of the other class in the same picture
    assert opened.js("!byId('nothing').hidden")
    opened.js("document.querySelector('[data-class=\"0\"]').click()")
    assert shown() == 5000
    opened.js("byId('reset').click()")
    opened.js("document.querySelector('[data-show=none]').click()")
    assert shown() == 4000
    opened.js("document.querySelector('[data-show=video]').click()")
    assert shown() == 10
    opened.js("document.querySelector('[data-show=all]').click()")
    enter(opened, "search", "PART 99/")
    assert shown() == 100
    enter(opened, "search", "")
    enter(opened, "sort", "most", "change")
    assert opened.js("shown.slice(0, 3).map((each) => each.order)") == [0, 10, 20]
    timed = "(() => { const start = performance.now(); filter(); return performance.now() - start })()"
    assert min(opened.js(timed) for _ in range(3)) < 100


def test_cards_open_and_keys_lead_on(opened: Page, large: Site) -> None:
    opened.js("document.querySelector('.card').click()")
    opened.wait("document.querySelector('img.media')?.naturalWidth === 640 && !document.querySelector('.thumbnail')")
    assert "/signed/annotated/p-0.jpg" in opened.js("document.querySelector('img.media').src")
    assert opened.js("byId('file').href") == opened.js("document.querySelector('img.media').src")
    for _ in range(3):
        press(opened, "ArrowRight")
    opened.wait("document.querySelector('video.media')?.readyState >= 2")
    source = opened.js("document.querySelector('video.media').src")
    assert source.startswith(f"{large.address}/signed/annotated/p-3.mp4?")
    assert opened.js("document.querySelector('video.media').controls")
    press(opened, "Escape")
    opened.wait("!byId('viewer').open && document.activeElement.dataset.position === '3'")
    press(opened, "ArrowDown")
    columns = opened.js("shape.columns")
    assert opened.js("Number(document.activeElement.dataset.position)") == 3 + columns
    press(opened, "End")
    assert opened.js("Number(document.activeElement.dataset.position)") == COUNT - 1
    press(opened, "/")
    assert opened.js("document.activeElement.id") == "search"


def test_a_picture_that_is_away_gives_its_thumbnail_and_says_so(opened: Page) -> None:
    opened.js("view(1)")
    opened.wait("document.querySelector('.lost') !== null")
    assert opened.js("document.querySelector('.stage canvas').width") == CELL_WIDTH - 2
    press(opened, "Escape")


def test_a_downloaded_folder_works_without_links(page: Page, tmp_path: Path) -> None:
    """From file://, also where the links in the page have expired."""
    items = [item(0, HOSTILE, counted(1, 1, 0.4)), item(1, "b.jpg", annotated=False)]
    sheet = ContactSheet()
    for _ in items:
        sheet.add(np.full((192, 256, 3), 120, np.uint8))
    sheet.write(tmp_path / items[0].sheet)
    write_jpeg(tmp_path / str(items[0].annotated), np.full((48, 64, 3), 99, np.uint8))
    gone = dict.fromkeys([items[0].sheet, items[0].annotated or "", "coco.json"], "http://127.0.0.1:9/gone")
    write_gallery(tmp_path / "index.html", summary(items), items, gone)
    page.open((tmp_path / "index.html").as_uri())
    page.wait("document.querySelectorAll('.card.seen').length === 2")
    assert page.js("document.querySelector('.class bdi').textContent") == HOSTILE
    assert "pwned" not in page.js("document.title")
    assert page.js("document.querySelector('[data-path]').href") == (tmp_path / "coco.json").as_uri()
    page.js("document.querySelector('.card').click()")
    page.wait("document.querySelector('img.media')?.naturalWidth === 64")
    press(page, "ArrowRight")
    page.wait("byId('facts').textContent.startsWith('thumbnail')")
    assert page.js("byId('stage').children.length") == 1


def test_an_expired_link_falls_back_to_the_path_and_a_lost_sheet_is_reported(site: Site, page: Page) -> None:
    folder = site.folder / "old"
    items = [item(0, "a.jpg"), item(64, "b.jpg")]
    sheet = ContactSheet()
    sheet.add(np.full((192, 256, 3), 120, np.uint8))
    sheet.write(folder / items[0].sheet)
    links = dict.fromkeys([items[0].sheet], f"{site.address}/signed/expired.jpg")
    write_gallery(folder / "index.html", summary(items), items, links)
    page.open(f"{site.address}/old/index.html?signature=x")
    page.wait("document.querySelectorAll('.card.seen, .card.missing').length === 2")
    assert page.js("[...document.querySelectorAll('.card')].map((card) => card.className)") == [
        "card seen",
        "card missing",
    ]
    assert page.js("!byId('broken').hidden")


def test_beside_its_pictures_no_link_is_used(large: Site, page: Page) -> None:
    page.open("about:blank")  # the page before asks for nothing any more
    large.asked.clear()
    page.call("Network.clearBrowserCache")
    page.open(f"{large.address}/index.html")
    page.wait("document.querySelectorAll('.card.seen').length > 5")
    page.js("document.querySelector('.card').click()")
    page.wait("document.querySelector('img.media')?.naturalWidth === 640")
    assert large.sheets
    linked = [path.removeprefix("/signed/").partition("?")[0] for path in large.asked if path.startswith("/signed/")]
    # The neighbour is loaded ahead, and its picture is not there: for that one the link is right.
    assert not [path for path in linked if (large.folder / path).exists()]


@pytest.mark.parametrize("width", [360, 800, 1280, 2560])
def test_nothing_is_wider_than_the_window(opened: Page, width: int) -> None:
    opened.resize(width, 800)
    opened.wait(f"innerWidth === {width} && document.querySelectorAll('.card').length > 3")
    assert opened.js("document.documentElement.scrollWidth <= innerWidth")
    right = "[...document.querySelectorAll('.card')].every((card) => card.getBoundingClientRect().right <= innerWidth)"
    opened.wait(right)


def test_it_is_dark_where_the_system_is(opened: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.js(ground)
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert opened.js(ground) != light
    opened.call("Emulation.setEmulatedMedia", features=[])
