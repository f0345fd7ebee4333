"""The page that shows the detections of a run: one file, which loads nothing but images."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from os.path import commonprefix
from pathlib import Path
from typing import Any

from tasks.files import write_atomically
from tasks.inference.results.chunk_reader import ITEMS
from tasks.inference.results.contact_sheet import CELL_HEIGHT, CELL_WIDTH, COLUMNS
from tasks.inference.results.overlay import BOX, fit_to_room
from tasks.inference.results.summary import GalleryItem, InferenceSummary
from tasks.media.annotate import LIMBS
from tasks.rendering.html import render_page
from tasks.rendering.palette import css_colour
from tasks.vision.detections import class_name

MAX_ITEMS = 20_000
MAX_FAILURES = 200
ROOM = 9_600_000  # characters of a page for boxes and outlines: 60 boxes each of 20,000 items
MAX_BYTES_PER_ITEM = 20_000  # of them
DATA_FILES = {
    "predictions.parquet": "a row a detection",
    "pictures.parquet": "a row a picture",
    "coco.json": "detections as COCO",
    "failures.jsonl": "what could not be used",
}

_PLACE = "@@items@@"
_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def write_gallery(
    path: Path,
    summary: InferenceSummary,
    items: Iterable[GalleryItem],
    links: Mapping[str, str],
    *,
    model_name: str = "",
    thresholds: str = "",
) -> None:
    """Write `index.html` for a run: complete under its name or not at all, one item in memory at a time.

    The first `MAX_ITEMS` are in it, and the page says so if there are more. `links` maps a path relative to the run's
    folder (`annotated/x.jpg`, `coco.json`) to an absolute http(s) URL. If the page was opened by such a link itself, it
    uses the links, everywhere else the relative paths; if one fails, the other. `thresholds` says from which confidence
    on detections are in it. All names are escaped, and the page's
    own policy lets no script run but the one in it.
    """
    before, after = _frame(summary, links, model_name, thresholds)
    rows = _Rows(links, summary)
    with write_atomically(path) as unfinished, unfinished.open("w", encoding="utf-8") as page:
        page.write(before + '{"rows":[')
        total = 0
        for item in items:
            rows.count(item)
            if total < MAX_ITEMS:
                page.write((",\n" if total else "") + _json(rows.row(item)))
            total += 1
        page.write("]," + _json({"total": total, **rows.tables()})[1:] + after)


def read_gallery_items(folder: Path) -> Iterator[GalleryItem]:
    """Yield the items of a run whose parts were merged into `folder`."""
    with (folder / ITEMS).open("rb") as lines:
        yield from map(GalleryItem.from_line, lines)


def linked_files(folder: Path) -> Iterator[str]:
    """Yield the paths, in the run's folder, that the page of a run links to."""
    yield from DATA_FILES
    for item in islice(read_gallery_items(folder), MAX_ITEMS):
        yield from item.files


def _frame(summary: InferenceSummary, links: Mapping[str, str], model_name: str, thresholds: str) -> tuple[str, str]:
    """Return the page before and after its data."""
    page = render_page(
        "gallery",
        summary=summary,
        model_name=model_name,
        thresholds=thresholds,
        tallest=max(max(summary.histogram, default=0), 1),
        files=[(name, text, _link(name, links)) for name, text in DATA_FILES.items() if not links or name in links],
        failures=summary.failures[:MAX_FAILURES],
        place=_PLACE,
    )
    # A name may hold the placeholder, but no name comes after the data.
    before, after = page.rsplit(_PLACE, 1)
    return before, after


class _Rows:
    """Items as the script of the page reads them: flat, and without the beginning that texts share.

    A row is: source, frames (0 for an image), number of the sheet, cell, width, height, path and link of the annotated
    file, then a list for each class. A text takes two values: the number of characters that it shares with the same
    text of the row before, and the rest. A link has a line break in place of the path. The list of a class is: id,
    boxes and shapes (texts of `overlay`), and step and count of each step of confidence, the highest first, if the
    boxes do not say it; empty values at its end are left out.
    """

    def __init__(self, links: Mapping[str, str], summary: InferenceSummary) -> None:
        self._links = links
        self._names = summary.class_names
        self._sheets: dict[str, int] = {}
        self._counts = defaultdict[int, Counter[int]](Counter)
        self._before = {"source": "", "annotated": "", "link": ""}
        self._left = min(max(summary.images + summary.videos, 1), MAX_ITEMS)
        self._room = ROOM
        self._cut = 0

    def count(self, item: GalleryItem) -> None:
        """Count the detections of an item, with a row or without."""
        for each in item.classes:
            for step, count in each.steps:
                self._counts[each.class_id][step] += count

    def tables(self) -> dict[str, Any]:
        """Return the tables that the rows refer to, and the counts of all items."""
        classes = sorted(self._counts.items(), key=lambda each: -each[1].total())
        return {
            "sheets": [[path, _link(path, self._links)] for path in self._sheets],
            "classes": [
                [
                    number,
                    class_name(self._names, number),
                    css_colour(number),
                    *chain.from_iterable(sorted(counts.items(), reverse=True)),
                ]
                for number, counts in classes
            ],
            "cell": [COLUMNS, CELL_WIDTH, CELL_HEIGHT],
            "limbs": LIMBS,
            "cut": self._cut,
        }

    def row(self, item: GalleryItem) -> list[str | int | list[str | int]]:
        sheet = self._sheets.setdefault(item.sheet, len(self._sheets))
        path = item.annotated or ""
        link = _link(path, self._links)
        return [
            *self._short("source", item.source),
            item.frames if item.kind == "video" else 0,
            sheet,
            item.cell,
            item.width,
            item.height,
            *self._short("annotated", path),
            *self._short("link", link.replace(path, "\n", 1) if path else ""),
            *self._classes(item),
        ]

    def _classes(self, item: GalleryItem) -> Iterator[list[str | int]]:
        """Yield the lists of the classes; an item may take an equal share of the room that is left."""
        all_boxes = [each.boxes for each in item.classes]
        room = min(self._room // max(self._left, 1), MAX_BYTES_PER_ITEM)
        boxes, shapes = fit_to_room(room, all_boxes, [each.shapes for each in item.classes])
        drawn = sum(map(len, boxes))
        missing = BOX * sum(each.count for each in item.classes) > drawn > 0 and item.kind == "image"
        self._cut += missing or drawn < sum(map(len, all_boxes))
        self._room -= drawn + sum(len(shape) for texts in shapes for shape in texts)
        self._left -= 1
        for each, text, outlines in zip(item.classes, boxes, shapes, strict=True):
            # If all boxes of a class are drawn, the page counts them by their own steps.
            steps = [] if len(text) == BOX * each.count else list(chain.from_iterable(each.steps))
            drawing = [text, "".join(outlines)] if outlines or steps else [text]
            yield [each.class_id, *drawing, *steps]

    def _short(self, column: str, text: str) -> tuple[int, str]:
        if not text:
            return 0, ""
        shared = len(commonprefix([self._before[column], text]))  # noqa: RUF071 - by characters
        self._before[column] = text
        # Beyond ASCII, Python and JavaScript count characters differently.
        return (shared, text[shared:]) if text[:shared].isascii() else (0, text)


def _link(path: str, links: Mapping[str, str]) -> str:
    link = links.get(path, "")
    return link if link.startswith(("https://", "http://")) else ""


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")).translate(_SAFE)
