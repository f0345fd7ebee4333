"""What people did in a round of review, for people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median

from tasks.importing.changes import list_changes
from tasks.importing.importer import ImportSummary
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text
from tasks.review.answers import Answers
from tasks.review.changes import Change, ReviewTotals
from tasks.review.rounds import Round

_SHOWN_CLASSES = 100
_SHOWN_LOSSES = 20


def waiting_markdown(review: Round, page: str, deadline: datetime) -> str:
    """Return what a person is asked to do, where, and until when."""
    model = f"{escape_markdown(review.model_name)} version {review.model_version} (run {review.predictions_run})"
    wait = f"**[{len(review.images):,} images wait for a person]({page})**, with the suggestions of {model}."
    advice = (
        "Correct each image and submit it, also where nothing is to be changed, or skip it. This run goes on within a "
    )
    end = f"minute after the last one, and at {deadline:%Y-%m-%d %H:%M} UTC with those that were submitted by then."
    parts = [wait, advice + end, _limits(review.limits), _left_out(review.left_out)]
    return "\n\n".join(filter(None, parts))


def review_sentence(archive: str, totals: ReviewTotals) -> str:
    """Return what was made, and how much of it a person had to draw."""
    return f"{archive}: {totals.images:,} images, {totals.drawn:,} of {totals.labels:,} objects drawn by hand"


def review_markdown(  # noqa: PLR0913, PLR0917 - all that the page is about
    archive: str, review: Round, answers: Answers, totals: ReviewTotals, summary: ImportSummary, check: str, page: str
) -> str:
    """Return the page of a round; `check` is the verdict on the archive, `page` the address of the report of it."""
    sections = [
        f"{wrap_text(review_sentence(archive, totals))}.",
        f"{wrap_text(check)} **[Open the report of the check: pictures, charts, every code]({page})**",
        table(("", "objects", "drawn by hand"), _work(totals)),
        _details(totals),
        table(("class", *Change), _classes(totals)),
        _unanswered(answers),
        _limits(review.limits),
        _left_out(review.left_out),
        _losses(summary),
    ]
    return "\n\n".join(filter(None, sections))


def _unanswered(answers: Answers) -> str:
    if not answers.skipped and not answers.still_open:
        return ""
    return (
        f"Not in the archive: {answers.skipped:,} skipped images, and {answers.still_open:,} that nobody has submitted."
    )


def _work(totals: ReviewTotals) -> list[tuple[str, str, str]]:
    return [
        ("with the suggestions", f"{totals.labels:,}", f"{totals.drawn:,}{_share(totals.drawn, totals.labels)}"),
        ("all by hand", f"{totals.labels:,}", f"{totals.labels:,}"),
    ]


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.0%})" if whole else ""


def _details(totals: ReviewTotals) -> str:
    lines = [f"Of {totals.untouched:,} of {totals.images:,} images nothing was changed."]
    if totals.moved_overlaps:
        lines.append(f"A moved object overlaps its suggestion by {median(totals.moved_overlaps):.0%} (IoU, median).")
    if totals.seconds:
        lines.append(
            f"An image was open for {median(totals.seconds):.0f} s (median), all of them for "
            f"{sum(totals.seconds) / 60:.0f} minutes."
        )
    return bullet_list(lines)


def _classes(totals: ReviewTotals) -> list[tuple[str, ...]]:
    ordered = sorted(totals.by_class.items(), key=lambda entry: -sum(entry[1].values()))
    rows = [(name, *(f"{counts[change]:,}" for change in Change)) for name, counts in ordered[:_SHOWN_CLASSES]]
    return [*rows, ("all", *(f"{totals.changes[change]:,}" for change in Change))]


def _limits(limits: Sequence[str]) -> str:
    return bullet_list(map(wrap_text, limits)) if limits else ""


def _left_out(left_out: Mapping[str, int]) -> str:
    if not left_out:
        return ""
    return f"## Not asked about\n\n{bullet_list(f'**{count:,}** {reason}' for reason, count in left_out.items())}"


def _losses(summary: ImportSummary) -> str:
    lines = [*list_changes(summary.changes, _SHOWN_LOSSES), *summary.notes]
    return f"## In the archive otherwise than drawn\n\n{bullet_list(map(wrap_text, lines))}" if lines else ""
