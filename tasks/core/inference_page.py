"""A finished inference as a page of markdown, as one sentence, and as JSON for programs."""

import json

from tasks.core.markdown import plain, table
from tasks.core.served import ServedModel
from tasks.core.summary import InferenceSummary

SHOWN_FAILURES = 20


def inference_sentence(summary: InferenceSummary) -> str:
    """Totals on one line."""
    done = f"{summary.images} images and {summary.frames} video frames, {summary.detections} detections"
    return f"{done}, {summary.images_per_second:.1f} images/s, {summary.failed_inputs} inputs failed"


def inference_markdown(summary: InferenceSummary, model: ServedModel, gallery: str, place: str) -> str:
    """Totals, detections a class, the first failures, and where everything is."""
    parts = [
        f"# {plain(model.name)} version {model.version}",
        f"{inference_sentence(summary)}. [Open the gallery]({gallery}). Files: `{place}`.",
    ]
    if summary.classes:
        parts.append(table(("class", "detections"), list(summary.classes.items())))
    if summary.failures:
        rows = [(failure.source, failure.reason) for failure in summary.failures[:SHOWN_FAILURES]]
        parts += [f"## Failures ({len(summary.failures)}, all in failures.jsonl)", table(("input", "reason"), rows)]
    return "\n\n".join(parts)


def summary_json(summary: InferenceSummary, model: ServedModel, gallery: str) -> str:
    """Totals for a program: what the gallery's header says."""
    return json.dumps(
        {
            "model_name": model.name,
            "model_version": model.version,
            "inputs": summary.inputs,
            "failed_inputs": summary.failed_inputs,
            "images": summary.images,
            "frames": summary.frames,
            "detections": summary.detections,
            "classes": summary.classes,
            "seconds": summary.seconds,
            "images_per_second": summary.images_per_second,
            "gallery": gallery,
        },
        indent=2,
    )
