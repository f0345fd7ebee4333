"""The page that people open to see what was found: one file, nothing loaded but the pictures."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tasks.core.detections import class_name
from tasks.core.pages import css_colour, render_page
from tasks.core.served import ServedModel
from tasks.core.summary import GalleryItem, InferenceSummary


def render_gallery(summary: InferenceSummary, model: ServedModel, links: Mapping[str, str]) -> str:
    """Return `index.html` for a run.

    `links` maps a path relative to the run's folder (`annotated/x.jpg`) to an absolute http(s) URL, presigned for
    instance. Where a link is missing or has expired the page takes the relative path, so a downloaded folder works. All
    names are escaped, and the page's own policy lets no script run but the one in it.
    """
    return render_page(
        "gallery",
        model=model,
        summary=summary,
        classes=_classes(summary, model),
        tallest=max(max(summary.histogram, default=0), 1),
        data=[_card(item, links) for item in summary.items],
    )


def _classes(summary: InferenceSummary, model: ServedModel) -> list[dict[str, Any]]:
    counts: Counter[int] = Counter()
    for item in summary.items:
        counts.update({tally.class_id: tally.count for tally in item.classes})
    highest = max(counts.values(), default=1)
    return [
        {
            "id": number,
            "name": class_name(model.class_names, number),
            "count": count,
            "percent": round(100 * count / highest, 1),
            "colour": css_colour(number),
        }
        for number, count in counts.most_common()
    ]


def _card(item: GalleryItem, links: Mapping[str, str]) -> dict[str, Any]:
    return {
        "source": item.source,
        "kind": item.kind,
        "thumbnail": _places(item.thumbnail, links),
        "annotated": _places(item.annotated, links),
        "width": item.width,
        "height": item.height,
        "frames": item.frames,
        "classes": [[tally.class_id, tally.count, round(tally.confidence, 4)] for tally in item.classes],
    }


def _places(path: str | None, links: Mapping[str, str]) -> list[str]:
    """Return the link, where there is a usable one, and the relative path."""
    if path is None:
        return []
    link = links.get(path, "")
    return [link, path] if link.startswith(("https://", "http://")) else [path]
