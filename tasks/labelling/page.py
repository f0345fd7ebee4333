"""What a model has labelled: as a page with pictures, as markdown for the run, and as one sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.labelling.labelled_archive import LABELLED, UNCERTAIN, Labelling
from tasks.labelling.plan import LabellingPlan
from tasks.labelling.thresholds import ClassExpectation
from tasks.rendering.html import DOCUMENT, PICTURES, render_page
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text

_MARKDOWN_CLASSES = 30
_MARKDOWN_FAILURES = 20
_PAGE_CLASSES = 200
_PAGE_FAILURES = 100


@dataclass(frozen=True, kw_only=True)
class LabellingReport:
    """What a version has labelled into an archive, given by its key, and by what; `compare` is `labelling.compare`."""

    archive: str
    model_name: str
    class_names: Sequence[str]
    plan: LabellingPlan
    labelling: Labelling
    compare: str | None

    @property
    def title(self) -> str:
        """The version."""
        return f"{self.model_name} version {self.plan.version}"

    @property
    def sentence(self) -> str:
        """What was labelled, and what was not."""
        images, taken = self.labelling.images, self.labelling.taken.total()
        archived, total = self.labelling.archived, images.total()
        made = f"{self.archive}: {archived:,} of {total:,} images with {taken:,} labels, by {self.title}"
        if not archived:
            made = f"{self.title} is sure of none of {total:,} images, so there is no {self.archive}"
        return f"{made}; {images[UNCERTAIN]:,} uncertain, {total - archived - images[UNCERTAIN]:,} left out"

    @property
    def promise(self) -> str:
        """What validation says of the labels."""
        expected, source = self.plan.expected, self.plan.validation
        return (
            f"On {source.images:,} validation images ({', '.join(source.archives)}, split {source.split}) the same "
            f"thresholds take {_share(expected.overall.precision)} right labels and find "
            f"{_share(expected.overall.recall)} of the objects, in the {_share(expected.share)} of the images that are "
            "not uncertain."
        )

    @property
    def measured(self) -> str:
        """What was measured on the archive to compare with; empty if there is none."""
        measured = self.plan.measured
        if measured is None:
            return ""
        return (
            f"On {self.compare}, which is labelled: {_share(measured.overall.precision)} right labels, "
            f"{_share(measured.overall.recall)} of the objects found, in {_share(measured.share)} of "
            f"{measured.images:,} images."
        )

    def kinds(self) -> list[tuple[str, int]]:
        """Return what became of the images, the labelled ones first."""
        return [(kind, count) for kind, count in self.labelling.images.most_common() if count]

    def class_rows(self) -> Iterator[tuple[str, ...]]:
        """Yield a row for each class under `HEADER`."""
        labelling, nothing = self.labelling, ClassExpectation(taken=0, precision=None, recall=None)
        for number, (name, threshold) in enumerate(zip(self.class_names, self.plan.thresholds, strict=True)):
            expected = self.plan.expected.by_class.get(number, nothing)
            yield (
                name,
                *(f"{each[name]:,}" for each in (labelling.taken, labelling.unsure, labelling.dropped)),
                "never" if threshold.high is None else f"{threshold.high:.3f}",
                f"{threshold.low:.3f}",
                _share(expected.precision),
                _share(expected.recall),
                f"{threshold.labels:,}",
            )


HEADER = ("class", "taken", "uncertain", "dropped", "from", "below", "precision", "recall", "labels")


def labelling_page(report: LabellingReport) -> str:
    """Return the page: the counts, the thresholds and what they promise, and pictures of what was labelled."""
    labelling, expected = report.labelling, report.plan.expected.overall
    return render_page(
        "labelling",
        DOCUMENT,
        PICTURES,
        title=report.title,
        archive=report.archive,
        totals=[
            ("images labelled", f"{labelling.archived:,}"),
            ("uncertain", f"{labelling.images[UNCERTAIN]:,}"),
            ("labels", f"{labelling.taken.total():,}"),
            ("of them right, expected", _share(expected.precision)),
            ("objects found, expected", _share(expected.recall)),
        ],
        sentences=list(filter(None, [report.promise, report.measured])),
        kinds=report.kinds(),
        header=HEADER,
        classes=[*report.class_rows()][:_PAGE_CLASSES],
        more_classes=max(0, len(report.class_names) - _PAGE_CLASSES),
        exhibits=[
            ("Labelled", labelling.exhibits[LABELLED]),
            ("Uncertain, for a person to look at", labelling.exhibits[UNCERTAIN]),
        ],
        failures=labelling.failures[:_PAGE_FAILURES],
        more_failures=max(0, len(labelling.failures) - _PAGE_FAILURES),
    )


def labelling_markdown(report: LabellingReport, run: str) -> str:
    """Return the counts, the thresholds and what they promise; `run` is the flow run, which lists uncertain images."""
    uncertain, failures = report.labelling.images[UNCERTAIN], report.labelling.failures
    lines = [f"**{wrap_text(each.source)}**: {wrap_text(each.reason)}" for each in failures[:_MARKDOWN_FAILURES]]
    parts = [
        f"{escape_markdown(report.sentence)}.",
        escape_markdown(report.promise),
        escape_markdown(report.measured),
        f"The uncertain images are the input `run:{run}` of other flows." if uncertain else "",
        table(("images", "count"), report.kinds()),
        table(HEADER, [*report.class_rows()][:_MARKDOWN_CLASSES]),
        f"## Failures and warnings ({len(failures):,})\n\n{bullet_list(lines)}" if failures else "",
    ]
    return "\n\n".join(filter(None, parts))


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
