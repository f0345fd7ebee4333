"""A validation report as one page of HTML that needs nothing else: findings, pictures, classes, charts, samples."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tasks.dataset.findings import Finding, Report, Verdict
from tasks.dataset.image_stats import ImageStats
from tasks.dataset.layout import Dataset
from tasks.rendering.html import DOCUMENT, render_page
from tasks.rendering.palette import css_colour
from tasks.validation.label_table import LabelTable
from tasks.validation.report.charts import CELLS, heat_maps, histograms
from tasks.validation.report.groups import (
    Group,
    count_classes,
    count_origins,
    format_location,
    group_findings,
    sanitize_text,
)
from tasks.validation.report.images import FindingExample, ReportImage, ReportImages

OPEN_FINDINGS = 3
SHOWN_FINDINGS = 50
MAX_ROWS = 1000
SHOWN_CLASSES = 500
_SHOWN_TALLIES = 5
# Characters.
_TALLY = 26
_NAME = 60
_PLACE = 120
_MESSAGE = 300

_SENTENCES = {
    Verdict.VALID: "Nothing keeps this archive from being trained on.",
    Verdict.VALID_WITH_WARNINGS: "It can be trained on; look at the warnings before you do.",
    Verdict.INVALID: "It cannot be trained on until the errors are mended.",
}


def render_report(
    report: Report,
    dataset: Dataset,
    labels: LabelTable,
    images: Mapping[str, ImageStats],
    read: Callable[[str], bytes],
    imgsz: int = 640,
) -> str:
    """Return the report as HTML of a few megabytes at most, whatever the archive holds.

    `images` has those that decode, `imgsz` is the training size in pixels. `read` returns the bytes of an entry; if it
    raises ArchiveError or KeyError a grey tile says so. Nothing from the archive is markup, and no script runs.
    """
    groups = group_findings(report)
    pictures = ReportImages(dataset=dataset, task=report.statistics.task, read=read)
    return render_page(
        "report",
        DOCUMENT,
        title=sanitize_text(report.archive, _PLACE),
        digest=sanitize_text(report.digest, 64),
        task=report.statistics.task,
        verdict=report.verdict,
        sentence=_SENTENCES[report.verdict],
        tallies=[(severity, severity.plural, count) for severity, count in report.severities.items()],
        totals=[*report.statistics.totals.items(), ("classes", len(count_classes(report)))],
        groups=[_group(group, min(SHOWN_FINDINGS, MAX_ROWS // len(groups))) for group in groups],
        exhibits=[(group, [_exhibit(each) for each in exhibits]) for group, exhibits in pictures.exhibits(groups)],
        splits=_splits(report),
        origins=count_origins(report),
        classes=_classes(report),
        more_classes=max(len(count_classes(report)) - SHOWN_CLASSES, 0),
        cells=CELLS,
        heat_maps=heat_maps(labels),
        histograms=histograms(dataset, labels, images, imgsz),
        samples={split: [_picture(each) for each in chosen] for split, chosen in pictures.samples().items()},
    )


def _group(group: Group, most: int) -> dict[str, Any]:
    rows = [_finding(finding) for finding in group.findings[:most]]
    return {
        "code": group.code,
        "severity": group.severity,
        "count": group.count,
        "meaning": group.code.meaning,
        "open": rows[:OPEN_FINDINGS],
        "folded": rows[OPEN_FINDINGS:],
        "more": group.count - len(rows),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "place": sanitize_text(format_location(finding), _PLACE),
        "line": finding.line,
        "message": sanitize_text(finding.message, _MESSAGE),
    }


def _splits(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "images": split.images,
            "labelled": split.labelled,
            "labels": split.labels,
            "per_image": split.labels / max(split.images, 1),
        }
        for name, split in report.statistics.splits.items()
    ]


def _classes(report: Report) -> list[dict[str, Any]]:
    """Return a row a class, the most frequent first, with the count of each split and its share of the longest bar."""
    splits = report.statistics.splits.values()
    longest = [max(split.instances.values(), default=1) for split in splits]
    ranked = sorted(enumerate(count_classes(report)), key=lambda row: -row[1][1])
    return [
        {
            "id": number,
            "name": sanitize_text(name, _NAME),
            "colour": css_colour(number),
            "total": total,
            "bars": [
                (split.instances.get(name, 0), round(100 * split.instances.get(name, 0) / most, 2))
                for split, most in zip(splits, longest, strict=True)
            ],
        }
        for number, (name, total) in ranked[:SHOWN_CLASSES]
    ]


def _exhibit(exhibit: FindingExample) -> dict[str, Any]:
    pictures = [_picture(picture) for picture in exhibit.pictures]
    return {"pictures": pictures, "finding": _finding(exhibit.finding), "more": exhibit.more}


def _picture(picture: ReportImage) -> dict[str, Any]:
    return {
        "picture": picture,
        "name": sanitize_text(picture.name, _PLACE),
        "base": sanitize_text(picture.name.rpartition("/")[2], _NAME),
        "tallies": [
            replace(tally, name=sanitize_text(tally.name, _TALLY)) for tally in picture.classes[:_SHOWN_TALLIES]
        ],
        "more": len(picture.classes[_SHOWN_TALLIES:]),
    }
