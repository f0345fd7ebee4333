"""What a report says in numbers, under the names of MLflow's columns."""

from tasks.core.codes import Code
from tasks.core.findings import Report, Severity

_PLURALS = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.INFO: "notes"}


def report_figures(report: Report) -> dict[str, float]:
    """Return the counts of a report: findings by severity and by code, images, labels and classes.

    Every code has a figure, 0 included, so that datasets can be sorted by it and a fault that was mended shows as 0.
    """
    splits = report.statistics.splits
    figures = {
        "images": sum(split.images for split in splits.values()),
        "labelled": sum(split.labelled for split in splits.values()),
        "labels": sum(sum(split.instances.values()) for split in splits.values()),
        "classes": len(report.statistics.class_names),
    }
    figures |= {plural: report.severities[severity] for severity, plural in _PLURALS.items()}
    figures |= {f"images/{name}": split.images for name, split in splits.items()}
    figures |= {f"findings/{code}": report.counts.get(code, 0) for code in Code}
    return {name: float(value) for name, value in figures.items()}
