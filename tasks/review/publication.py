"""What a round leaves for people: its page with pictures, and the same as markdown in Prefect."""

from collections.abc import Sequence
from pathlib import Path

from tasks.orchestration import artifacts
from tasks.orchestration.step import retried
from tasks.rendering.links import links_markdown
from tasks.review.answers import Answers
from tasks.review.change_pictures import draw_changes
from tasks.review.comparison import ChangedImage
from tasks.review.page import review_page
from tasks.review.report import ReviewReport, nothing_markdown, review_markdown
from tasks.review.rounds import Round
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket

PAGE = "review.html"


def publish_report(report: ReviewReport, archive: Path, most_changed: Sequence[ChangedImage]) -> None:
    """Write the page to bucket `runs`, with pictures of images of the archive, and show artifact `review-report`.

    Raises:
        StorageError: The object store refuses, or does not answer.
    """
    names = [*dict.fromkeys([*report.review.class_names, *report.summary.class_names])]
    page = review_page(report, draw_changes(archive, most_changed, names))
    address = retried(storage_steps.write_text)(page, Bucket.RUNS, f"{report.run}/{PAGE}")
    links = links_markdown({"What was changed, with pictures": address})
    artifacts.show_markdown("review-report", f"{links}\n\n{review_markdown(report)}")


def publish_nothing(archive: str, run: str, review: Round, answers: Answers) -> None:
    """Show artifact `review-report` about the round of a flow run that has ended without an archive."""
    artifacts.show_markdown("review-report", nothing_markdown(archive, run, review, answers))
