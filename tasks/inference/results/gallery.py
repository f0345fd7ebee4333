"""The page that people open to see what was found: one file, nothing loaded but the pictures."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from tasks.files import write_atomically
from tasks.inference.results.chunk_reader import ITEMS
from tasks.inference.results.contact_sheet import CELL_HEIGHT, CELL_WIDTH, COLUMNS
from tasks.inference.results.overlay import BOX, fit_to_room
from tasks.inference.results.summary import GalleryItem, InferenceSummary
from tasks.media.annotate import LIMBS
from tasks.rendering.html import css_colour, render_page
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


def render_gallery(
    summary: InferenceSummary, items: Iterable[GalleryItem], links: Mapping[str, str], *, model_name: str = ""
) -> str:
    """Return `index.html` for a run as text; `write_gallery` says more."""
    page = io.StringIO()
    _write(page, _frame(summary, links, model_name), _Rows(links, summary), items)
    return page.getvalue()


def write_gallery(
    path: Path,
    summary: InferenceSummary,
    items: Iterable[GalleryItem],
    links: Mapping[str, str],
    *,
    model_name: str = "",
) -> None:
    """Write `index.html` for a run: complete under its name or not at all, one item in memory at a time.

    The first `SHOWN_ITEMS` are in it, and the page says so where there are more. `links` maps a path relative to the
    run's folder (`annotated/x.jpg`, `coco.json`) to an absolute http(s) URL, presigned for instance. Where a link is
    missing or has expired the page takes the relative path, so a downloaded folder works. All names are escaped, and
    the page's own policy lets no script run but the one in it.
    """
    with write_atomically(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        _write(file, _frame(summary, links, model_name), _Rows(links, summary), items)


def count_gallery_items(folder: Path) -> Iterator[GalleryItem]:
    """Read, one by one, the items of a run whose parts were merged into `folder`."""
    with (folder / ITEMS).open("rb") as lines:
        yield from map(GalleryItem.from_line, lines)


def linked_files(folder: Path) -> Iterator[str]:
    """Yield the paths, in the run's folder, that the page of the parts merged into `folder` leads to."""
    yield from DATA_FILES
    for item in islice(count_gallery_items(folder), MAX_ITEMS):
        yield from item.files


def _frame(summary: InferenceSummary, links: Mapping[str, str], model_name: str) -> tuple[str, str]:
    page = render_page(
        "gallery",
        summary=summary,
        model_name=model_name,
        tallest=max(max(summary.histogram, default=0), 1),
        files=[(name, told, _link(name, links)) for name, told in DATA_FILES.items() if not links or name in links],
        failures=summary.failures[:MAX_FAILURES],
        place=_PLACE,
    )
    # A name may hold the mark, but none comes after the data.
    before, after = page.rsplit(_PLACE, 1)
    return before, after


def _write(page: TextIO, frame: tuple[str, str], rows: "_Rows", items: Iterable[GalleryItem]) -> None:
    page.write(frame[0] + '{"rows":[')
    total = 0
    for item in items:
        rows.count(item)
        if total < MAX_ITEMS:
            page.write((",\n" if total else "") + _json(rows.row(item)))
        total += 1
    page.write("]," + _json({"total": total, **rows.tables()})[1:] + frame[1])


class _Rows:
    """Items as the script of the page reads them: flat, and without what a text shares with the one before.

    A row is: source, frames (0 for an image), number of the sheet, cell, width, height, path and link of the annotated
    file, then a list a class. A text takes two places: how many characters it shares with the text in the same place
    before it, and the rest. A link has a line break where the path stands. The list of a class is: id, boxes and shapes
    (texts of `overlay`), and step and count of each step of confidence, the highest first, where the boxes do not say
    it; what is empty at its end is left out.
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
        """Count the detections of an item that has a row or not."""
        for tally in item.classes:
            counts = self._counts[tally.class_id]
            for step, count in tally.counts:
                counts[step] += count

    def tables(self) -> dict[str, Any]:
        """Return what the rows refer to, and what is true of all items: those without a row, too."""
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
        """Return the next row."""
        sheet = self._sheets.setdefault(item.sheet, len(self._sheets))
        path = item.annotated or ""
        link = _link(path, self._links)
        return [
            *self._short("source", item.source),
            item.frames if item.kind == "video" else 0,
            *(sheet, item.cell, item.width, item.height),
            *self._short("annotated", path),
            *self._short("link", link.replace(path, "\n", 1) if path else ""),
            *self._classes(item),
        ]

    def _classes(self, item: GalleryItem) -> Iterator[list[str | int]]:
        """What was found, in the room that is left: each item may have what all that are still to come may have."""
        boxes, shapes = [tally.boxes for tally in item.classes], [tally.shapes for tally in item.classes]
        found = sum(map(len, boxes))
        boxes, shapes = fit_to_room(min(self._room // max(self._left, 1), MAX_BYTES_PER_ITEM), boxes, shapes)
        drawn = sum(map(len, boxes))
        missing = BOX * sum(tally.count for tally in item.classes) > drawn > 0 and item.kind == "image"
        self._cut += missing or drawn < found
        self._room -= drawn + sum(len(shape) for texts in shapes for shape in texts)
        self._left -= 1
        for tally, text, outlines in zip(item.classes, boxes, shapes, strict=True):
            # All boxes of the class are those that were counted, in a poster too.
            steps = [] if len(text) == BOX * tally.count else list(chain.from_iterable(tally.counts))
            drawing = [text, "".join(outlines)] if outlines or steps else [text]
            yield [tally.class_id, *drawing, *steps]

    def _short(self, what: str, text: str) -> tuple[int, str]:
        if not text:
            return 0, ""
        shared = _shared(self._before[what], text)
        self._before[what] = text
        # Beyond ASCII, Python and JavaScript count characters differently.
        return (shared, text[shared:]) if text[:shared].isascii() else (0, text)


def _shared(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _link(path: str, links: Mapping[str, str]) -> str:
    link = links.get(path, "")
    return link if link.startswith(("https://", "http://")) else ""


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")).translate(_SAFE)
