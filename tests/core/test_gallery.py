"""The gallery page: as text, and in a real browser where one is installed."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tasks.core.gallery import render_gallery
from tasks.core.media import write_jpeg
from tasks.core.served import ServedModel
from tasks.core.summary import ClassTally, Failure, GalleryItem, InferenceSummary

RunFolder = tuple[Path, InferenceSummary]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = (
    "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">'\"&{{7*7}}.jpg"
)
MODEL = ServedModel("cells", 7, "detect", 640, ("red", HOSTILE, "never"), "run-1")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")


def item(
    source: str, *classes: ClassTally, kind: Literal["image", "video"] = "image", annotated: bool = True
) -> GalleryItem:
    ending = "jpg" if kind == "image" else "mp4"
    stem = f"p{abs(hash(source))}"
    place = f"annotated/{stem}.{ending}" if annotated else None
    frames = 1 if kind == "image" else 50
    return GalleryItem(source, kind, f"thumbnails/{stem}.jpg", place, 40, 30, frames, classes)


def summary(*items: GalleryItem, failures: tuple[Failure, ...] = ()) -> InferenceSummary:
    count = sum(tally.count for each in items for tally in each.classes)
    histogram = (0,) * 18 + (count, 0)
    return InferenceSummary(
        inputs=len(items),
        images=len(items),
        videos=0,
        frames=0,
        detections=count,
        seconds=2.0,
        images_per_second=12.5,
        classes={},
        histogram=histogram,
        items=items,
        failures=failures,
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    """A finished run: four items with real thumbnails, hostile names among them."""
    items = (
        item("a/one.jpg", ClassTally(0, 3, 0.95)),
        item(HOSTILE, ClassTally(1, 1, 0.4), ClassTally(0, 2, 0.3)),
        item("a/none.jpg"),
        item("clip.mp4", ClassTally(1, 9, 0.8), kind="video", annotated=False),
    )
    for each in items:
        write_jpeg(tmp_path / each.thumbnail, np.full((30, 40, 3), 99, np.uint8))
        if each.annotated:
            write_jpeg(tmp_path / each.annotated, np.full((30, 40, 3), 99, np.uint8))
    return tmp_path, summary(*items, failures=(Failure(HOSTILE, "expected <b>, found </b>"),))


def between(before: str, text: str, after: str) -> str:
    return text.split(before, 1)[1].split(after, 1)[0]


def data_of(page: str) -> dict[str, Any]:
    return dict(json.loads(between('<script type="application/json" id="data">', page, "</script>")))


def browse(folder: Path, page: str, script: str = "") -> str:
    """Return the DOM of the page after its scripts and `script` have run; only the latter needs the policy to go."""
    if script:
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        page = page.replace("</body>", f"<script>{script}</script></body>")
    (folder / "index.html").write_text(page, encoding="utf-8")
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    quiet += " --disable-component-update --disable-sync --virtual-time-budget=4000 --window-size=1400,900"
    command = [BROWSER or "", *quiet.split(), f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, (folder / "index.html").as_uri()], capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8", "replace")


def said(dom: str) -> dict[str, Any]:
    return dict(json.loads(html.unescape(between('data-said="', dom, '"'))))


def test_hostile_names_are_text_and_nothing_else(run_folder: RunFolder) -> None:
    page = render_gallery(run_folder[1], MODEL, {})
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert page.count("<script") == 2
    assert "&lt;/script&gt;&lt;script&gt;" in page
    assert data_of(page)["items"][1]["source"] == HOSTILE
    assert "expected &lt;b&gt;, found &lt;/b&gt;" in page


def test_the_page_loads_nothing_of_its_own(run_folder: RunFolder) -> None:
    page = render_gallery(run_folder[1], MODEL, {})
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_links_come_first_and_the_relative_path_stays(run_folder: RunFolder) -> None:
    one, two = run_folder[1].items[:2]
    links = {one.thumbnail: "https://s3.example/x?a=1&b=2", two.thumbnail: "javascript:alert(1)"}
    items = data_of(render_gallery(run_folder[1], MODEL, links))["items"]
    assert items[0]["thumbnail"] == ["https://s3.example/x?a=1&b=2", one.thumbnail]
    assert items[1]["thumbnail"] == [two.thumbnail]
    assert items[3]["annotated"] == []


def test_totals_classes_and_histogram_are_there(run_folder: RunFolder) -> None:
    page = render_gallery(run_folder[1], MODEL, {})
    assert "version 7" in page
    assert [each["count"] for each in data_of(page)["classes"]] == [10, 5]
    assert "0.90 to 0.95: 15" in page
    assert "12.5" in page


def test_a_run_without_anything_still_gives_a_page() -> None:
    page = render_gallery(summary(), MODEL, {})
    assert "Nothing was found." in page
    assert 'id="failures"' not in page


def test_names_that_are_no_unicode_do_not_stop_the_page() -> None:
    assert render_gallery(summary(item("a\udcff.jpg")), MODEL, {}).encode("utf-8")


@needs_browser
def test_the_browser_shows_a_card_an_item_and_runs_no_foreign_script(run_folder: RunFolder) -> None:
    folder, found = run_folder
    dom = browse(folder, render_gallery(found, MODEL, {}))
    assert dom.count('class="card"') == 4
    assert "4 of 4" in dom
    assert "pwned" not in between("<title>", dom, "</title>")
    assert 'class="missing"' not in dom


@needs_browser
def test_filters_viewer_and_keys_work(run_folder: RunFolder) -> None:
    folder, found = run_folder
    dom = browse(
        folder,
        render_gallery(found, MODEL, {}),
        """
        const count = () => document.querySelectorAll(".card").length;
        const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        const set = (id, value, kind) => { byId(id).value = value; byId(id).dispatchEvent(new Event(kind)); };
        const told = {};
        byId("classes").querySelector('[data-class="0"]').click();
        told.red = count();
        set("confidence", "0.5", "input");
        told.sureRed = count();
        byId("classes").querySelector('[data-class="0"]').click();
        told.sure = count();
        set("confidence", "0", "input");
        byId("empty").click();
        told.empty = count();
        byId("empty").click();
        set("search", "A/", "input");
        told.searched = count();
        set("search", "", "input");
        set("sort", "most", "change");
        told.most = document.querySelector(".card").title;
        document.querySelector(".card").click();
        told.open = byId("viewer").open;
        press("ArrowRight"); press("ArrowRight"); press("ArrowLeft");
        told.second = byId("name").textContent;
        told.source = byId("stage").firstChild.getAttribute("src");
        byId("close").click();
        told.closed = !byId("viewer").open;
        document.body.dataset.said = JSON.stringify(told);
        """,
    )
    told = said(dom)
    assert (told["red"], told["sureRed"], told["sure"], told["empty"], told["searched"]) == (2, 1, 2, 1, 2)
    assert told["most"] == "clip.mp4"
    assert told["open"]
    assert told["closed"]
    assert told["second"] == "a/one.jpg"
    assert told["source"] == found.items[0].annotated


@needs_browser
def test_a_link_that_fails_falls_back_to_the_relative_path(run_folder: RunFolder) -> None:
    folder, found = run_folder
    links = {found.items[0].thumbnail: "http://127.0.0.1:9/expired.jpg"}
    page = render_gallery(found, MODEL, links).replace('location.protocol === "file:"', "false")
    waited = """
        setTimeout(() => {
          const picture = document.querySelector(".card img");
          const told = { source: picture.getAttribute("src"), width: picture.naturalWidth };
          document.body.dataset.said = JSON.stringify(told);
        }, 2500);
    """
    assert said(browse(folder, page, waited)) == {"source": found.items[0].thumbnail, "width": 40}


@needs_browser
def test_ten_thousand_items_are_drawn_as_they_are_scrolled_to(tmp_path: Path) -> None:
    page = render_gallery(summary(*(item(f"{number}.jpg") for number in range(10_000))), MODEL, {})
    dom = browse(tmp_path, page)
    assert "10,000 of 10,000" in dom
    assert 120 <= dom.count('class="card"') <= 1200
    assert 'loading="lazy"' in dom
