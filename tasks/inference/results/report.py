"""A finished inference as a page of markdown, as one sentence, and as JSON for programs."""

import json
from dataclasses import dataclass, fields
from typing import Self

from tasks.inference.results.summary import ERROR, InferenceSummary
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text

MAX_FAILURES = 20


def inference_sentence(summary: InferenceSummary) -> str:
    """Totals on one line."""
    done = f"{summary.images} images and {summary.frames} video frames, {summary.detections} detections"
    return f"{done}, {summary.images_per_second:.1f} images/s, {summary.failed_inputs} inputs failed"


def inference_markdown(summary: InferenceSummary, model_name: str, gallery: str, place: str, links: str = "") -> str:
    """Totals, links to other pages, detections a class, the first failures, and where everything is."""
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
        failures = summary.failures[:MAX_FAILURES]
        told = [
            f"**{wrap_text(each.source)}** ({escape_markdown(each.severity)}): {wrap_text(each.reason)}"
            for each in failures
        ]
        title = f"## Failures and warnings ({summary.failure_count}, all in failures.jsonl)"
        parts += [title, bullet_list(told)]
    return "\n\n".join(parts)


@dataclass(frozen=True)
class StoredSummary:
    """What decides how a run ends, and the link to its gallery."""

    sentence: str
    failed_inputs: int
    failure_share: float
    gallery: str
    first_failure: str

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `summary_json` wrote."""
        said = json.loads(text)
        return cls(**{each.name: said[each.name] for each in fields(cls)})


def summary_json(summary: InferenceSummary, model_name: str, gallery: str) -> str:
    """Totals for a program: what the gallery's header says.

    `model_version` is the newest version that answered, `model_versions` are all of them.
    """
    return json.dumps(
        {
            "sentence": inference_sentence(summary),
            "model_name": model_name,
            "model_version": max(summary.versions, default=None),
            "model_versions": summary.versions,
            "class_names": summary.class_names,
            "inputs": summary.inputs,
            "failed_inputs": summary.failed_inputs,
            "failure_share": summary.failure_share,
            "failures": summary.failure_count,
            "first_failure": next(
                (f"{each.source}: {each.reason}" for each in summary.failures if each.severity == ERROR), ""
            ),
            "images": summary.images,
            "videos": summary.videos,
            "frames": summary.frames,
            "detections": summary.detections,
            "classes": summary.classes,
            "seconds": summary.seconds,
            "images_per_second": summary.images_per_second,
            "gallery": gallery,
        },
        indent=2,
    )


def versions_text(summary: InferenceSummary) -> str:
    """The versions that answered, as a person says them."""
    *others, last = summary.versions or ("none",)
    if not others:
        return f"version {last}"
    return f"versions {', '.join(map(str, others))} and {last}"
