"""What people did in a round of review, for people."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from tasks.importing.changes import list_changes
from tasks.importing.importer import ImportSummary
from tasks.inference.image_lists import run_input
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text
from tasks.review.answers import Answers
from tasks.review.asked_images import REVIEWED
from tasks.review.changes import Change, ReviewTotals
from tasks.review.rounds import Round, ToolName
from tasks.review.tools import tool_of

_SHOWN_CLASSES = 100
_SHOWN_LOSSES = 20
_OF_LOOPS = f"-{REVIEWED}"


def waiting_markdown(review: Round, page: str, deadline: datetime) -> str:
    """Return what a person is asked to do, where, and until when."""
    model = f"{escape_markdown(review.model_name)} version {review.model_version} (run {review.predictions_run})"
    wait = f"**[{len(review.images):,} images wait for a person]({page})**, with the suggestions of {model}."
    end = (
        f"This run goes on within a minute after the last one, and at {deadline:%Y-%m-%d %H:%M} UTC with what was "
        "submitted by then."
    )
    parts = [wait, f"{tool_of(review.tool).advice} {end}", _limits(review.limits), _left_out(review.left_out)]
    return "\n\n".join(filter(None, parts))


def review_sentence(archive: str, totals: ReviewTotals, answers: Answers) -> str:
    """Return what was made, how much of it a person had to draw, and how many images are not in it."""
    images = f"{totals.images:,} image{'s' if totals.images != 1 else ''}"
    drawn = f"{totals.drawn:,} of {totals.labels:,} objects drawn by hand"
    others = {"skipped": answers.skipped, "set aside": answers.set_aside, "without an answer": answers.still_open}
    return ", ".join([f"{archive}: {images}", drawn, *(f"{count:,} {how}" for how, count in others.items() if count)])


def nothing_sentence(archive: str, answers: Answers) -> str:
    """Return why there is no archive of this key."""
    return f"{archive}: nothing to keep, as {answers.skipped:,} images were skipped and {answers.set_aside:,} set aside"


def nothing_markdown(archive: str, run: str, review: Round, answers: Answers) -> str:
    """Return the page of the round of a flow run that has ended without an archive."""
    sentence = f"{wrap_text(nothing_sentence(archive, answers))}."
    drawing = [_unlisted(review, answers), _drawing(drawing_command(archive, run, review, answers))]
    return "\n\n".join(filter(None, [sentence, *drawing, _limits(review.limits), _left_out(review.left_out)]))


def drawing_command(archive: str, run: str, review: Round, answers: Answers) -> str:
    """Return the command that starts a round in which people can draw what was missing; empty if no image is listed.

    It has the parameters of this one, but for the tool. Its archive has a name by which later loops of the model find
    it, if they find this one.
    """
    if not review.media_of(answers.set_aside_entries):
        return ""
    end = _OF_LOOPS if archive.endswith(_OF_LOOPS) else archive[-len(".zip") :]
    new = f"{archive.removesuffix(end)}-drawn{end}"
    kept = [f"review.{name}={json.dumps(value)}" for name, value in review.parameters.items()]
    options = [part for setting in (f"review.tool={ToolName.LABEL_STUDIO}", *kept) for part in ("--set", setting)]
    return shlex.join(["studio", "review", review.model_name, run_input(run), new, *options])


@dataclass(frozen=True, eq=False, kw_only=True)
class ReviewReport:
    """The round of flow run `run`, which has become the archive of this key.

    `check` is the verdict on the archive, `check_page` its address.
    """

    archive: str
    run: str
    review: Round
    answers: Answers
    totals: ReviewTotals
    summary: ImportSummary
    check: str
    check_page: str

    @property
    def model(self) -> str:
        """The version that suggested."""
        return f"{self.review.model_name} version {self.review.model_version}"

    @property
    def classes(self) -> list[tuple[str, Counter[Change]]]:
        """The classes with how often each change was made to their objects, the most frequent first."""
        return sorted(self.totals.by_class.items(), key=lambda entry: -entry[1].total())

    @property
    def details(self) -> list[str]:
        """Sentences on images, moves and time."""
        totals = self.totals
        lines = [f"Of {totals.untouched:,} of {totals.images:,} images nothing was changed."]
        if totals.moved_overlaps:
            overlap = median(totals.moved_overlaps)
            lines.append(f"A moved object overlaps its suggestion by {overlap:.0%} (IoU, median).")
        if totals.seconds:
            lines.append(
                f"An image was open for {median(totals.seconds):.0f} s (median), all of them for "
                f"{sum(totals.seconds) / 60:.0f} minutes."
            )
        return lines

    @property
    def unanswered(self) -> str:
        """How many images are not in the archive; empty if all are."""
        answers = self.answers
        if not (answers.skipped or answers.set_aside or answers.still_open):
            return ""
        counted = (
            f"Not in the archive: {answers.skipped:,} skipped images, {answers.set_aside:,} that were set aside, as an "
            f"object is missing, and {answers.still_open:,} that nobody has submitted."
        )
        return " ".join(filter(None, [counted, _unlisted(self.review, answers)]))

    @property
    def drawing_command(self) -> str:
        """The command that starts a round in which people can draw what was missing; empty if nothing was."""
        return drawing_command(self.archive, self.run, self.review, self.answers)

    @property
    def losses(self) -> list[str]:
        """What is in the archive otherwise than drawn."""
        return [*list_changes(self.summary.changes, _SHOWN_LOSSES), *self.summary.notes]


def review_markdown(report: ReviewReport) -> str:
    """Return the page of a round as markdown."""
    totals = report.totals
    check = f"**[Open the report of the check: pictures, charts, every code]({report.check_page})**"
    sections = [
        f"{wrap_text(review_sentence(report.archive, totals, report.answers))}.",
        f"{wrap_text(report.check)} {check}",
        table(("", "objects", "drawn by hand"), _work(totals)),
        bullet_list(report.details),
        table(("class", *Change), _classes(report)),
        report.unanswered,
        _drawing(report.drawing_command),
        _limits(report.review.limits),
        _left_out(report.review.left_out),
        _losses(report.losses),
    ]
    return "\n\n".join(filter(None, sections))


def _work(totals: ReviewTotals) -> list[tuple[str, str, str]]:
    return [
        ("with the suggestions", f"{totals.labels:,}", f"{totals.drawn:,}{_share(totals.drawn, totals.labels)}"),
        ("all by hand", f"{totals.labels:,}", f"{totals.labels:,}"),
    ]


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.0%})" if whole else ""


def _classes(report: ReviewReport) -> list[tuple[str, ...]]:
    rows = [(name, *(f"{counts[change]:,}" for change in Change)) for name, counts in report.classes[:_SHOWN_CLASSES]]
    return [*rows, ("all", *(f"{report.totals.changes[change]:,}" for change in Change))]


def _unlisted(review: Round, answers: Answers) -> str:
    """Return how many of the images that were set aside no later round finds; empty if it finds them all."""
    unlisted = answers.set_aside - len(review.media_of(answers.set_aside_entries))
    if not unlisted:
        return ""
    return (
        f"{unlisted:,} of those that were set aside are not listed, as an earlier release has opened this round: name "
        "them yourself to draw in them."
    )


def _drawing(command: str) -> str:
    return f"To draw what is missing in those that were set aside:\n\n```sh\n{command}\n```" if command else ""


def _limits(limits: Sequence[str]) -> str:
    return bullet_list(map(wrap_text, limits)) if limits else ""


def _left_out(left_out: Mapping[str, int]) -> str:
    if not left_out:
        return ""
    return f"## Not asked about\n\n{bullet_list(f'**{count:,}** {reason}' for reason, count in left_out.items())}"


def _losses(losses: Sequence[str]) -> str:
    return f"## In the archive otherwise than drawn\n\n{bullet_list(map(wrap_text, losses))}" if losses else ""
