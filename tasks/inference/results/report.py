"""The report of a run of inference: as a page of Markdown, as one sentence, and as JSON for programs."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from tasks.inference.results.summary import ERROR, InferenceSummary
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text

MAX_FAILURES = 20
MAX_RUNS = 5

_SUMMARY_FIELDS = (
    *("class_names", "inputs", "failed_inputs", "failure_share", "images", "videos", "frames"),
    *("detections", "classes", "seconds", "images_per_second", "left_out"),
)


def inference_sentence(summary: InferenceSummary) -> str:
    """Return the totals on one line."""
    done = f"{summary.images} images and {summary.frames} video frames, {summary.detections} detections"
    sentence = f"{done}, {summary.images_per_second:.1f} images/s, {summary.failed_inputs} inputs failed"
    return f"{sentence}; {left_out_text(summary.left_out)}" if summary.left_out else sentence


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Return how many inputs were left out, and which flow runs have done them: the five that did most."""
    runs = Counter(left_out).most_common(MAX_RUNS)
    others = len(left_out) - len(runs)
    named = ", ".join(f"{run} ({count})" for run, count in runs) + (f" and {others} more" if others else "")
    return f"{sum(left_out.values())} inputs left out, done by run {named}"


def inference_markdown(summary: InferenceSummary, model_name: str, gallery: str, place: str, links: str = "") -> str:
    """Return the totals, links to other pages, detections by class, the first failures, and the place of all files."""
    parts = [
        f"# {escape_markdown(model_name)} {versions_text(summary)}",
        f"{inference_sentence(summary)}. [Open the gallery]({gallery}). Files: `{place}`.",
        *([links] if links else []),
    ]
    if len(summary.versions) > 1:
        parts.append("Another version was deployed during the run; column model_version says which one answered.")
    if summary.classes:
        parts.append(table(("class", "detections"), list(summary.classes.items())))
    if summary.failures:
        lines = [
            f"**{wrap_text(each.source)}** ({escape_markdown(each.severity)}): {wrap_text(each.reason)}"
            for each in summary.failures[:MAX_FAILURES]
        ]
        title = f"## Failures and warnings ({summary.failure_count}, all in failures.jsonl)"
        parts += [title, bullet_list(lines)]
    return "\n\n".join(parts)


@dataclass(frozen=True, kw_only=True)
class StoredSummary:
    """The values of `summary.json` that decide how a run ends and that its event says, with the link to its gallery.

    `model_version` is None if no version answered.
    """

    sentence: str
    model_name: str
    model_version: int | None
    inputs: int
    detections: int
    model_versions: list[int]
    failed_inputs: int
    failure_share: float
    gallery: str
    first_failure: str

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a text of `summary_json`."""
        values = json.loads(text)
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def summary_json(summary: InferenceSummary, model_name: str, gallery: str, inference: Mapping[str, object]) -> str:
    """Return the totals for programs, with the parameters of the run.

    `model_version` is the newest of the `model_versions` that answered.
    """
    errors = (f"{each.source}: {each.reason}" for each in summary.failures if each.severity == ERROR)
    values = {
        "sentence": inference_sentence(summary),
        "model_name": model_name,
        "model_version": max(summary.versions, default=None),
        "model_versions": summary.versions,
        "inference": inference,
        **{name: getattr(summary, name) for name in _SUMMARY_FIELDS},
        "failures": summary.failure_count,
        "first_failure": next(errors, ""),
        "gallery": gallery,
    }
    return json.dumps(values, indent=2)


def versions_text(summary: InferenceSummary) -> str:
    """Return the versions that answered, such as `versions 1, 2 and 4`."""
    *others, last = summary.versions or ("none",)
    if not others:
        return f"version {last}"
    return f"versions {', '.join(map(str, others))} and {last}"
