"""What a model has labelled: as a page with pictures, as markdown for the run, and as one sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.errors import safe_repr
from tasks.inference.results.summary import ERROR
from tasks.labelling.labelled_archive import BACKGROUND, LABELLED, NOTHING_FOUND, UNCERTAIN, Labelling
from tasks.labelling.likeness import describe_shift
from tasks.labelling.plan import LabellingPlan
from tasks.labelling.thresholds import ClassExpectation, Expectation
from tasks.rendering.html import DOCUMENT, PICTURES, render_page
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text

_MARKDOWN_CLASSES = 30
_MARKDOWN_FAILURES = 20
_PAGE_CLASSES = 200
_PAGE_FAILURES = 100
_NAMED_CLASSES = 5
_LOOKED_AT = (LABELLED, BACKGROUND, UNCERTAIN, NOTHING_FOUND)
_UNARCHIVED = {BACKGROUND: "background, of which alone nothing can be learnt"}  # where there is no archive
_NAME = 60  # characters of a class name in a sentence


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
        images, archived = self.labelling.images, self.labelling.archived
        uncertain, empty, total = images[UNCERTAIN], images[NOTHING_FOUND], images.total()
        if archived:
            made = f"{archived:,} of {total:,} images with {self.labelling.taken.total():,} labels, by {self.title}"
            others = f"{uncertain:,} uncertain, {empty:,} in which nothing was found"
            left_out = f"{total - archived - uncertain - empty:,} left out"
            return f"{self.archive}: {made}; {others}, {left_out}{self.shift and f'. {self.shift}'}"
        kinds = ", ".join(f"{count:,} {_UNARCHIVED.get(kind, kind)}" for kind, count in self.kinds())
        failure = next((each.reason for each in self.labelling.failures if each.severity == ERROR), "")
        told = f"so there is no {self.archive}; {kinds}{failure and f' ({failure})'}"
        if not uncertain:
            return f"{self.title} has nothing to label in {total:,} images, {told}"
        untaken = f" ({'; '.join(f'of {each}' for each in self.untaken)})" if self.untaken else ""
        return f"{self.title} is sure of none of {uncertain:,} images in which it finds something{untaken}, {told}"

    @property
    def shift(self) -> str:
        """That the images are unlike those of validation, if labels were taken in such; else empty."""
        found = self.labelling.confidences if self.labelling.archived else ()
        return describe_shift(self.plan.confidences, found)

    @property
    def expectation(self) -> str:
        """What validation says of the labels."""
        expected, source = self.plan.expected, self.plan.validation
        images = f"{source.images:,} validation images ({', '.join(source.archives)}, split {source.split})"
        return f"On {images} the same thresholds {_describe_outcome(expected)}."

    @property
    def measured(self) -> str:
        """What was measured on the archive to compare with; empty if there is none."""
        measured = self.plan.measured
        if measured is None:
            return ""
        return f"On {self.compare}, which is labelled ({measured.images:,} images), they {_describe_outcome(measured)}."

    @property
    def untaken(self) -> list[str]:
        """Of which classes no label is taken, and why: `'cat' no label is taken: ...`, to be put behind "of"."""
        classes: dict[str, list[str]] = {}
        for name, threshold in zip(self.class_names, self.plan.thresholds, strict=True):
            if threshold.high is None:
                classes.setdefault(threshold.doubt, []).append(safe_repr(name, _NAME))
        return [f"{_some(names)} no label is taken: {doubt}" for doubt, names in classes.items()]

    @property
    def ways_out(self) -> list[str]:
        """What makes the version label more, or leave fewer images uncertain; empty if nothing stands in the way."""
        if not any(self.labelling.images[kind] for kind in _LOOKED_AT):
            return ["None of the images is one that the version may label: name others."]
        more = "evaluate the version on more labelled images with evaluate-model, or lower"
        told = []
        if self.untaken:
            reasons = " ".join(f"Of {each}." for each in self.untaken)
            told.append(f"{reasons} To have more taken, {more} labelling.precision.")
        if self.plan.validation.task != "classify" and not any(each.drops for each in self.plan.thresholds):
            told.append(
                "Nothing is dropped, however unsure: validation bears out labelling.recall at no confidence. It has "
                "too few labels, or too many of them are missed, or those that are missed lie together in few images. "
                f"To leave fewer images uncertain, {more} labelling.recall."
            )
        if not told and not self.labelling.archived and self.labelling.images[UNCERTAIN]:
            told.append(
                "In each uncertain image something lies between the two thresholds of its class. A lower "
                "labelling.precision or labelling.recall brings them closer."
            )
        if told and self.labelling.asks:
            told.append("People can label the listed images: select-images and review-images take them.")
        return told

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
                f"{threshold.low:.3f}" if threshold.drops else "never",
                _share(expected.precision),
                _share(expected.recall),
                f"{threshold.labels:,}",
            )


HEADER = ("class", "taken", "uncertain", "dropped", "from", "below", "precision", "recall", "labels")


def labelling_page(report: LabellingReport) -> str:
    """Return the page: the counts, the thresholds and what is expected of them, and pictures of what was labelled."""
    labelling, expected = report.labelling, report.plan.expected.overall
    shares = ((f"right, of {expected.taken:,} in validation", expected.precision), ("objects found", expected.recall))
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
            *((name, _share(share)) for name, share in shares if labelling.archived and share is not None),
        ],
        sentences=list(filter(None, [report.shift, *report.ways_out, report.expectation, report.measured])),
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
    """Return the counts, the thresholds and what is expected of them.

    `run` is the flow run, which lists images for review.
    """
    failures = report.labelling.failures
    lines = [f"**{wrap_text(each.source)}**: {wrap_text(each.reason)}" for each in failures[:_MARKDOWN_FAILURES]]
    parts = [
        f"{escape_markdown(report.sentence.rstrip('.'))}.",
        *map(escape_markdown, report.ways_out),
        escape_markdown(report.expectation),
        escape_markdown(report.measured),
        f"The listed images are the input `run:{run}` of other flows." if report.labelling.asks else "",
        table(("images", "count"), report.kinds()),
        table(HEADER, [*report.class_rows()][:_MARKDOWN_CLASSES]),
        f"## Failures and warnings ({len(failures):,})\n\n{bullet_list(lines)}" if failures else "",
    ]
    return "\n\n".join(filter(None, parts))


def _describe_outcome(expected: Expectation) -> str:
    """Say what thresholds do on labelled images: `take 8 labels, ...`."""
    overall = expected.overall
    if not overall.taken:
        return f"take no label, and leave {_share(1 - expected.share)} of the images uncertain"
    found = "" if overall.recall is None else f", and find {_share(overall.recall)} of the objects,"
    images = f"the {_share(expected.share)} of the images that are not uncertain"
    return f"take {overall.taken:,} labels, of which {_share(overall.precision)} are right{found} in {images}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_CLASSES:,} more" if len(names) > _NAMED_CLASSES else ""
    return f"{', '.join(names[:_NAMED_CLASSES])}{more}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
