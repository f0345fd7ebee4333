"""The decision about a new version as a page of markdown."""

from collections.abc import Sequence

from tasks.promotion.rules import ClassRow, Decision
from tasks.rendering.links import links_markdown
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text

SHOWN_CLASSES = 200
_MAX_NAME = 100


def promotion_markdown(decision: Decision) -> str:
    """Return the decision, its reasons, and both versions over all classes and each class, the largest drops first."""
    if decision.promoted:
        outcome = f"Promoted: version {decision.version} gets alias challenger, which deploy-model takes next."
    else:
        outcome = f"Refused: version {decision.version} gets no alias, and deploy-model passes it over."
    reasons = bullet_list(map(wrap_text, decision.reasons))
    champion = "champion" if decision.champion is None else f"champion {decision.champion}"
    header = ("images", "class", f"version {decision.version}", champion, "difference")
    means = [
        (mean.data, f"all compared ({mean.classes})", *_values(mean.challenger, mean.champion))
        for mean in decision.means
    ]
    rows = sorted(decision.rows, key=_largest_drop_first)
    classes = [
        (row.data, row.name[:_MAX_NAME], *(_values(row.challenger, row.champion) if _has_value(row) else _LOST))
        for row in rows[:SHOWN_CLASSES]
    ]
    more = f"And {len(rows) - SHOWN_CLASSES} more." if len(rows) > SHOWN_CLASSES else ""
    parts = [f"**{outcome}**", reasons]
    if decision.falls:
        parts += ["What fell most against the champion:", bullet_list(map(wrap_text, decision.falls))]
        parts.append(links_markdown(decision.links))
    if means or classes:
        parts += [f"By {escape_markdown(decision.metric)}:", table(header, [*means, *classes]), more]
    return "\n\n".join(filter(None, parts))


_LOST = ("not known", "known", "")


def _has_value(row: ClassRow) -> bool:
    return row.challenger is not None or row.champion is not None


def _largest_drop_first(row: ClassRow) -> tuple[bool, bool, float]:
    """Lost classes, then by the difference, then new ones."""
    return _has_value(row), row.difference is None, row.difference or 0.0


def _values(challenger: float | None, champion: float | None) -> Sequence[str]:
    difference = "" if challenger is None or champion is None else f"{challenger - champion:+.4f}"
    return *("-" if value is None else f"{value:.4f}" for value in (challenger, champion)), difference
