"""The gallery page as text; test_gallery_browser.py opens it."""

import json
import re
import tracemalloc
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest

from tasks.inference.results import gallery
from tasks.inference.results.gallery import write_gallery
from tasks.inference.results.summary import ClassCount, Failure, GalleryItem, InferenceSummary

HOSTILE = (
    "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">'\"&{{7*7}}.jpg"
)
NAMES = ("red", HOSTILE, "never")


def item(
    number: int,
    source: str,
    *classes: ClassCount,
    kind: Literal["image", "video"] = "image",
    annotated: bool = True,
) -> GalleryItem:
    place = f"annotated/p-{number}.{'jpg' if kind == 'image' else 'mp4'}" if annotated else None
    frames = 1 if kind == "image" else 50
    sheet = f"thumbnails/{number // 64:06d}-0.jpg"
    return GalleryItem(
        source=source,
        kind=kind,
        sheet=sheet,
        cell=number % 64,
        annotated=place,
        width=640,
        height=480,
        frames=frames,
        classes=classes,
    )


def counted(class_id: int, count: int, confidence: float) -> ClassCount:
    """A class whose detections all have one confidence, without boxes."""
    steps = ((int(100 * confidence), count),)
    return ClassCount(class_id=class_id, count=count, confidence=confidence, steps=steps)


def page_of(
    items: Iterable[GalleryItem], summary: InferenceSummary, links: Mapping[str, str], model_name: str = ""
) -> str:
    """The text of the page, as it is written."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "index.html")
        write_gallery(path, summary, items, links, model_name=model_name)
        return path.read_text(encoding="utf-8")


def summary(items: Iterable[GalleryItem], failures: tuple[Failure, ...] = ()) -> InferenceSummary:
    items = list(items)
    count = sum(tally.count for each in items for tally in each.classes)
    return InferenceSummary(
        inputs=len(items) + len(failures),
        failed_inputs=len(failures),
        images=len(items),
        videos=sum(each.kind == "video" for each in items),
        frames=0,
        detections=count,
        seconds=2.0,
        classes={},
        histogram=(0,) * 18 + (count, 0),
        failures=failures,
        failure_count=len(failures),
        versions=(7, 8),
        class_names=NAMES,
    )


ITEMS = (
    item(0, "a/one.jpg", counted(0, 3, 0.95)),
    item(1, HOSTILE, counted(1, 1, 0.4), counted(0, 2, 0.3)),
    item(2, "a/none.jpg"),
    item(64, "clip.mp4", counted(1, 9, 0.8), kind="video", annotated=False),
)
SUMMARY = summary(ITEMS, (Failure(source=HOSTILE, reason="expected <b>, found </b>"),))


def data_of(page: str) -> dict[str, Any]:
    return dict(json.loads(page.split('<script type="application/json" id="data">', 1)[1].split("</script>", 1)[0]))


def unpacked(page: str) -> list[dict[str, Any]]:
    """The rows as the script reads them."""
    before = {"source": "", "annotated": "", "link": ""}
    read = []
    for row in data_of(page)["rows"]:
        here: dict[str, Any] = {"shared": row[0], "classes": row[11:]}
        for what, at in (("source", 0), ("annotated", 7), ("link", 9)):
            shared, rest = row[at : at + 2]
            here[what] = before[what][:shared] + rest
            before[what] = here[what] or before[what]
        read.append(here | {"link": here["link"].replace("\n", here["annotated"])})
    return read


def test_hostile_names_are_text_and_nothing_else() -> None:
    page = page_of(ITEMS, SUMMARY, {}, model_name=HOSTILE)
    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert page.count("<script") == 2
    assert "&lt;/script&gt;&lt;script&gt;" in page
    assert unpacked(page)[1]["source"] == HOSTILE
    assert data_of(page)["classes"][0][1] == HOSTILE
    assert "expected &lt;b&gt;, found &lt;/b&gt;" in page


def test_the_page_says_from_which_confidence_detections_are_in_it(tmp_path: Path) -> None:
    items = [item(1, "a.jpg", counted(0, 1, 0.9))]
    write_gallery(tmp_path / "index.html", summary(items), items, {}, thresholds=f"from 0.5 for {HOSTILE}")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<p class="thresholds">Detections count from 0.5 for &lt;/script&gt;' in page
    assert 'class="thresholds"' not in page_of(items, summary(items), {})


def test_a_name_like_our_own_mark_moves_nothing() -> None:
    failures = (Failure(source=gallery._PLACE, reason=gallery._PLACE),)
    named = item(0, gallery._PLACE)
    page = page_of([named], summary([named], failures), {}, model_name=gallery._PLACE)
    assert unpacked(page)[0]["source"] == gallery._PLACE


def test_the_page_loads_nothing_of_its_own_and_styles_nothing_inline() -> None:
    page = page_of(ITEMS, SUMMARY, {})
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert not re.findall(r"""<[^>]*\sstyle=""", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "unsafe-inline" not in page


def test_rows_give_back_what_was_put_in() -> None:
    links = {
        ITEMS[0].annotated or "": "https://s3.example/run/annotated/p-0.jpg?a=1&s=12",
        ITEMS[1].annotated or "": "https://s3.example/run/annotated/p-1.jpg?a=1&s=34",
        ITEMS[2].annotated or "": "javascript:alert(1)",
        ITEMS[0].sheet: "https://s3.example/run/x",
    }
    page = page_of(ITEMS, SUMMARY, links)
    rows = unpacked(page)
    assert [row["source"] for row in rows] == [each.source for each in ITEMS]
    assert [row["annotated"] for row in rows] == [each.annotated or "" for each in ITEMS]
    assert [row["link"] for row in rows] == [*[links[each.annotated or ""] for each in ITEMS[:2]], "", ""]
    assert [row["classes"] for row in rows] == [
        [[0, "", "", 95, 3]],
        [[1, "", "", 40, 1], [0, "", "", 30, 2]],
        [],
        [[1, "", "", 80, 9]],
    ]
    assert data_of(page)["sheets"] == [[ITEMS[0].sheet, "https://s3.example/run/x"], [ITEMS[3].sheet, ""]]


def test_names_beyond_ascii_are_not_cut_where_scripts_count_otherwise() -> None:
    named = [item(0, "😀/a\udcff.jpg"), item(1, "😀/ab.jpg"), item(2, "é.jpg")]
    page = page_of(named, summary(named), {})
    assert page.encode("utf-8")
    assert [row["source"] for row in unpacked(page)] == [each.source for each in named]
    assert [row["shared"] for row in unpacked(page)] == [0, 0, 0]


def test_totals_classes_histogram_and_files_are_there() -> None:
    links = {"predictions.parquet": "https://s3.example/p?a=1&b=2", "coco.json": "javascript:alert(1)"}
    page = page_of(ITEMS, SUMMARY, links, model_name="cells")
    assert "version 7" in page
    assert "version 8" in page
    assert [(each[0], each[3:]) for each in data_of(page)["classes"]] == [(1, [80, 9, 40, 1]), (0, [95, 3, 30, 2])]
    assert "0.90 to 0.95: 15" in page
    assert 'href="https://s3.example/p?a=1&amp;b=2" data-path="predictions.parquet"' in page
    assert 'href="./coco.json"' in page
    assert "pictures.parquet</b>" not in page
    assert "pictures.parquet</b>" in page_of(ITEMS, SUMMARY, {})


def test_a_run_without_anything_still_gives_a_page() -> None:
    page = page_of([], replace(summary([]), versions=(), histogram=()), {})
    assert "Nothing was found." in page
    assert 'id="failures"' not in page


def test_of_very_many_the_first_are_shown_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MAX_ITEMS", 2)
    monkeypatch.setattr(gallery, "MAX_FAILURES", 3)
    failures = tuple(Failure(source=f"x{number}", reason="y") for number in range(5))
    page = page_of(iter(ITEMS), summary(ITEMS, failures), {})
    found = data_of(page)
    assert (len(found["rows"]), found["total"], len(found["sheets"])) == (2, 4, 1)
    assert [each[3:] for each in found["classes"]] == [[80, 9, 40, 1], [95, 3, 30, 2]]
    assert "These are the first 3 of 5" in page


@pytest.mark.slow
def test_ten_thousand_items_with_links_make_a_small_page_in_little_memory(tmp_path: Path) -> None:
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + "c" * 160 + "&X-Amz-Signature="
    names = [f"annotated/img_{number:06d}-{number:016x}.jpg" for number in range(10_000)]
    names += [f"thumbnails/{number:06d}-0.jpg" for number in range(157)]
    links = {
        name: f"https://storage.example:9000/predictions/{'r' * 36}/{name}?{query}{hash(name):064x}" for name in names
    }
    assert 360 < len(links[names[0]]) < 420

    def items() -> Iterable[GalleryItem]:
        for number, name in enumerate(names[:10_000]):
            boxes = "".join(f"{number:04d}{row}/+X" for row in range(3))
            classes = tuple(replace(counted(each, 3, 0.8765), boxes=boxes) for each in range(number % 5))
            sheet = f"thumbnails/{number // 64:06d}-0.jpg"
            yield replace(item(number, f"photos.zip/a/img_{number:06d}.jpg", *classes), sheet=sheet, annotated=name)

    tracemalloc.start()
    write_gallery(tmp_path / "index.html", SUMMARY, items(), links)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "index.html").stat().st_size < 2_500_000
    assert most < 5_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
