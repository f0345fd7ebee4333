"""The pages that a run has left in the object store, where the front page shows them."""

from collections.abc import Mapping

from tasks.catalogue.entries import PageEntry
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.tracking.registered_versions import RegisteredVersion
from tasks.tracking.version_pages import pages_of

PAGES: Mapping[str, str] = {
    "evaluation.html": "Evaluation",
    "label-errors.html": "Labels that look wrong",
    "labelling.html": "Labels of a model",
    "label-errors.zip": "The archive for review",
    "monitoring.html": "Monitoring",
    "refusal.html": "Why it was refused",
    "report.html": "Report",
    "review.html": "What people changed",
    "selection.html": "Images worth labelling",
}
# Whose runs leave one; those of register-model do if its version is refused.
FLOWS = frozenset(
    {
        *("evaluate-model", "find-label-errors", "import-dataset", "label-images", "monitor-model"),
        *("review-images", "run-inference", "select-images", "train-model", "validate-dataset"),
    }
)

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)
_PREDICTIONS = ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE)


def list_pages(run: str) -> dict[str, str]:
    """Return the pages of a flow run: their paths on the front page, by their titles.

    Raises:
        StorageError: The object store cannot be reached.
    """
    pages = {title: page_path(run, name) for name, title in PAGES.items() if _RUNS.exists(f"{run}/{name}")}
    return pages | ({"Gallery": f"/predictions/{run}"} if _PREDICTIONS.exists(f"{run}/index.html") else {})


def version_pages(version: RegisteredVersion) -> tuple[PageEntry, ...]:
    """Return the pages that a version's tags name; nobody is asked whether they are there still."""
    return tuple(
        PageEntry(
            title=PAGES[page.name],
            version=version.name,
            archives=tuple(page.archives),
            split=page.split,
            path=page_path(page.run, page.name),
        )
        for page in pages_of(version.tags)
        if page.name in PAGES
    )


def page_path(run: str, name: str) -> str:
    """Return where the front page shows a page of a flow run."""
    return f"/files/{Bucket.RUNS}/{run}/{name}"
