"""The counts of a report, under the names of MLflow's columns."""

from tasks.dataset.findings import Report
from tasks.finding_codes import Code


def report_metrics(report: Report) -> dict[str, float]:
    """Return the counts of a report: findings by severity and by code, images, labels and classes.

    Every code has a figure, 0 included, so that datasets can be sorted by it and a fault that was mended shows as 0.
    """
    statistics = report.statistics
    figures = statistics.totals | {"classes": len(statistics.class_names)}
    figures |= {severity.plural: count for severity, count in report.severities.items()}
    figures |= {f"images/{name}": split.images for name, split in statistics.splits.items()}
    figures |= {f"findings/{code}": report.counts.get(code, 0) for code in Code}
    return {name: float(value) for name, value in figures.items()}
