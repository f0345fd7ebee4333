"""What people did in a round of review, as a page with pictures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from tasks.rendering.html import DOCUMENT, PICTURES, render_page
from tasks.review.change_pictures import ChangePicture
from tasks.review.changes import Change, count_drawn, count_labels
from tasks.review.report import ReviewReport

_SHOWN_CLASSES = 100


def review_page(report: ReviewReport, pictures: Sequence[ChangePicture]) -> str:
    """Return the page: what was drawn beside all by hand, the changes of each class, and the most changed images."""
    totals = report.totals
    longest = max((counts.total() for _, counts in report.classes), default=1)
    shown = report.classes[:_SHOWN_CLASSES]
    return render_page(
        "review",
        DOCUMENT,
        PICTURES,
        archive=report.archive,
        model=report.model,
        totals=[
            ("images", f"{totals.images:,}"),
            ("objects", f"{totals.labels:,}"),
            ("drawn by hand", f"{totals.drawn:,}"),
            ("seconds an image (median)", f"{median(totals.seconds):.0f}" if totals.seconds else "unknown"),
        ],
        work=[
            ("with the suggestions", totals.drawn, 100 * totals.drawn / max(totals.labels, 1)),
            ("all by hand", totals.labels, 100 if totals.labels else 0),
        ],
        kinds=[*Change],
        classes=[
            (
                name,
                [*_bar(counts, longest)],
                [counts[kind] for kind in Change],
                f"{count_drawn(counts):,} of {count_labels(counts):,}",
            )
            for name, counts in shown
        ],
        more_classes=len(report.classes) - len(shown),
        sentences=[*report.details, *filter(None, [report.unanswered])],
        drawing_command=report.drawing_command,
        limits=report.review.limits,
        left_out=report.review.left_out,
        losses=report.losses,
        check=report.check,
        exhibits=pictures,
    )


def _bar(counts: Counter[Change], longest: int) -> Iterator[tuple[Change, float, float]]:
    """Yield each change of a class with its place and its length in a bar; that of the most frequent class has 100."""
    place = 0.0
    for kind in Change:
        length = 100 * counts[kind] / longest
        if length:
            yield kind, round(place, 2), round(length, 2)
        place += length
