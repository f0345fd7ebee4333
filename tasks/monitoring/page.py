"""What a monitoring found: as a page with pictures, as Markdown, as figures and in a sentence."""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from tasks.media.annotate import annotate_image
from tasks.media.errors import MediaError
from tasks.media.images import encode_jpeg, read_image, resize_to_fit
from tasks.monitoring.comparable import confidence_text
from tasks.monitoring.drift import DriftTest
from tasks.monitoring.judgement import Judgement, UnusualImage
from tasks.monitoring.score_estimate import COVERAGE
from tasks.monitoring.window import Window
from tasks.parameters import LEAST_MONITORED
from tasks.rendering.html import DOCUMENT, PICTURES, jpeg_data_uri, render_page
from tasks.rendering.markdown import bullet_list, escape_markdown, table

DRIFTED, MAY_HAVE_FALLEN, TOO_FEW = "Drifted", "May have fallen", "Too few images"
_SHOWN = 12
_NAMED = 6  # classes below the bars; of more the first and the last
_SIDE = 360  # pixels
_QUALITY = 80


def monitoring_sentence(title: str, judgement: Judgement) -> str:
    """Return what was found, as one sentence."""
    images = f"{title} on {judgement.images:,} image{'s' if judgement.images != 1 else ''}"
    images += f", {confidence_text(*judgement.least)}"
    if judgement.is_empty:
        return f"{images}: {_why_empty(judgement)}"
    traits, untested = ", ".join(judgement.drifted_traits), ", ".join(judgement.untested_traits)
    told = f"{traits} drifted" if traits else f"{'other ' if untested else ''}traits as on the validation images"
    missing = f"too few images to compare {untested}" if untested else ""
    return f"{images}: {'; '.join(filter(None, (told, missing, judgement.estimate_text)))}"


def monitoring_heading(judgement: Judgement) -> str:
    """Return what was found, in a word or a few."""
    return told_state(judgement) or ("No drift in what was compared" if judgement.untested_traits else "No drift")


def told_state(judgement: Judgement) -> str | None:
    """Return the name of the state in which a monitoring ends that has something to tell; None if it has not."""
    if judgement.is_empty:
        return TOO_FEW
    return DRIFTED if judgement.drifted else MAY_HAVE_FALLEN if judgement.may_have_fallen else None


def _why_empty(judgement: Judgement) -> str:
    if judgement.validated >= judgement.min_images:
        return f"too few to compare, {judgement.min_images} are needed"
    return too_few_validated(judgement.validated, judgement.min_images)


def too_few_validated(images: int, min_images: int) -> str:
    """Return why nothing can be told of a version with so few validation images, and what to do."""
    few = f"nothing can be told, as it has {images} validation images, and {min_images} are needed"
    if images < LEAST_MONITORED:
        return f"{few}. Train it with more images in val."
    return f"{few}. Train it with more images in val, or set monitoring.min_images to {images}."


def monitoring_facts(judgement: Judgement) -> dict[str, Any]:
    """Return all figures as plain values."""
    estimate = judgement.estimate
    return {
        "images": judgement.images,
        "validation_images": judgement.validated,
        "from_confidence": judgement.least,
        "drifted": judgement.drifted,
        "reasons": judgement.reasons,
        "estimate": estimate
        and {
            "metric": judgement.metric,
            **vars(estimate),
            "interval": COVERAGE,
            "fall": estimate.fall,
            "has_fallen": judgement.has_fallen,
        },
        "tests": [vars(test) for test in judgement.tests],
    }


def monitoring_metrics(judgement: Judgement) -> dict[str, float]:
    """Return what MLflow draws over time: the estimated score, and of each trait how far it is off."""
    estimate = judgement.estimate
    scores = {f"estimated_{judgement.metric}{end}": value for end, value in _ends(judgement)} if estimate else {}
    drifts = {f"{test.measure} of {test.trait}": test.effect for test in judgement.tests if test.effect is not None}
    return {"images": float(judgement.images), "drifted": float(len(judgement.drifted)), **scores, **drifts}


def _ends(judgement: Judgement) -> list[tuple[str, float]]:
    estimate = judgement.estimate
    return [("", estimate.score), ("_low", estimate.low), ("_high", estimate.high)] if estimate else []


def monitoring_markdown(judgement: Judgement, window: Window) -> str:
    """Return the estimate, a row for each trait, and what was left out."""
    rows = [_row(test, judgement.min_images) for test in judgement.tests]
    parts = [
        f"**{judgement.estimate_text}.**" if judgement.estimate else "",
        escape_markdown(monitoring_sentence("This version", judgement)) if judgement.is_empty else "",
        bullet_list(map(escape_markdown, judgement.reasons)),
        origin_text(judgement, window),
        "" if judgement.is_empty else f"Compared {confidence_text(*judgement.least)}.",
        table(("trait", "images", "difference", "q", ""), rows),
        bullet_list(map(escape_markdown, window.remarks)),
    ]
    return "\n\n".join(filter(None, parts))


def origin_text(judgement: Judgement, window: Window) -> str:
    """Return how many images are from where; nothing if there is no live log."""
    if window.live is None:
        return ""
    batch = judgement.images - window.live
    return f"Images of runs of inference: {batch:,}; of live requests: {window.live:,}."


def monitoring_page(title: str, judgement: Judgement, window: Window, class_names: Sequence[str]) -> str:
    """Return the page: the estimate, each trait beside that of the validation, and the most unusual images."""
    return render_page(
        "monitoring",
        DOCUMENT,
        PICTURES,
        title=title,
        heading=monitoring_heading(judgement),
        empty=judgement.is_empty and monitoring_sentence(title, judgement),
        totals=_totals(judgement, window),
        estimate=judgement.estimate and f"{judgement.estimate_text}.",
        compared=confidence_text(*judgement.least),
        fallen=judgement.has_fallen,
        remarks=window.remarks,
        traits=[_trait(test, judgement.min_images, class_names) for test in judgement.tests],
        exhibits=[*islice(_exhibits(judgement, window, class_names), _SHOWN)],
        unseen=_why_unseen(judgement, window),
    )


def _why_unseen(judgement: Judgement, window: Window) -> str:
    """Return why the page shows no unusual image, if it shows none."""
    if not window.looked_at:
        return "No image was looked at."
    if not judgement.unusual:
        return "None of the images that were looked at is far from those of the validation."
    kept = " STUDIO_LIVE_LOG_PICTURES=true keeps those of live requests." if window.live else ""
    return f"There are no pictures of the most unusual images.{kept}"


def _totals(judgement: Judgement, window: Window) -> list[tuple[str, str]]:
    live = [] if window.live is None else [("of live requests", f"{window.live:,}")]
    return [("images", f"{judgement.images:,}"), *live, ("runs", f"{window.runs:,}")]


def _row(test: DriftTest, min_images: int) -> tuple[object, ...]:
    if test.effect is None or test.q_value is None:
        return test.trait, _too_few(test, min_images), "", "", ""
    told = "drifted" if test.drifted else ""
    return test.trait, f"{test.window:,}", f"{test.measure} {_effect(test)}", f"{test.q_value:.2g}", told


def _too_few(test: DriftTest, min_images: int) -> str:
    if test.window >= min_images and test.reference >= min_images:
        return "nothing to compare"
    if test.window < min_images:
        return f"too few: {test.window:,} of {min_images}"
    return f"too few validation images: {test.reference:,} of {min_images}"


def _effect(test: DriftTest) -> str:
    interval = "" if test.low is None or test.high is None else f" ({test.low:.2f} to {test.high:.2f})"
    return f"{test.effect or 0:.2f}{interval}"


def _trait(test: DriftTest, min_images: int, class_names: Sequence[str]) -> dict[str, Any]:
    tested = test.q_value is not None
    names = [*class_names] if test.trait == "classes" else _name_tenths(test.edges)
    named = test.trait == "classes" and len(names) <= _NAMED
    return {
        "name": test.trait,
        "drifted": test.drifted,
        "words": f"{test.measure} {_effect(test)}, q {test.q_value:.2g}" if tested else _too_few(test, min_images),
        "bars": [
            {"name": name, "expected": round(100 * expected, 1), "found": round(100 * found, 1)}
            for name, (expected, found) in zip(names, test.shares, strict=False)
        ],
        "scale": names if named else [*dict.fromkeys(names[:1] + names[-1:])],
    }


def _name_tenths(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    between = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:.3g}", *between, f"from {edges[-1]:.3g} on"]


def _exhibits(judgement: Judgement, window: Window, class_names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield those of which there is a picture."""
    for each in judgement.unusual:
        path = window.looked_at[each.image].path
        exhibit = path and _exhibit(each, path, window, class_names)
        if exhibit:
            yield exhibit


def _exhibit(unusual: UnusualImage, path: Path, window: Window, class_names: Sequence[str]) -> dict[str, str] | None:
    """None if the image cannot be drawn: it was looked at in grey."""
    try:
        image = resize_to_fit(read_image(path), _SIDE)
    except MediaError:
        return None
    found = window.found[unusual.image].rescale(image.shape[1], image.shape[0])
    low, high = unusual.usual
    return {
        "picture": jpeg_data_uri(encode_jpeg(annotate_image(image, found, class_names), _QUALITY)),
        "name": found.source,
        "words": f"{unusual.trait} {unusual.value:.3g}, {low:.3g} to {high:.3g} on the validation images",
    }
