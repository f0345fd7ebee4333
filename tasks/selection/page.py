"""A selection as a page: what is chosen and why, a map of what it was chosen from, and what was left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.rendering.html import DOCUMENT, PICTURES, render_page
from tasks.rendering.markdown import escape_markdown, table, wrap_text
from tasks.rendering.palette import css_colour
from tasks.selection.choice import Choice, ChosenImage
from tasks.selection.pool import count_expected
from tasks.selection.session import LookedAt, NothingToChooseError
from tasks.vision.geometry import Floats

SHOWN = 120  # images with a picture
_MAP = 560, 380  # pixels
_MARGIN = 12
_POINTS = 3000  # of the pool, on the map
_LEFT_OUT = 60  # lines
_MARKDOWN_ROWS = 30
_UNKNOWN = "Not all images that the version has learnt are known, so some of them may be among these."


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection:
    """A choice among images that a version, such as `shapes version 3`, has looked at, by flow run `run`."""

    title: str
    run: str
    looked_at: LookedAt
    choice: Choice

    @property
    def remarks(self) -> list[str]:
        """What could not be done as it was asked, and what is not known, as sentences."""
        unknown = [] if self.looked_at.knows_learnt else [_UNKNOWN]
        return [*self.choice.remarks, *unknown]

    @property
    def boxes(self) -> float:
        """How many objects are expected in what is chosen."""
        return sum(self.looked_at.pool.images[each.image].expected_boxes for each in self.choice.chosen)

    def name(self, image: int) -> str:
        """Return the name of an image."""
        return self.looked_at.pool.images[image].source.name


def selection_page(selection: Selection, pictures: Mapping[int, str]) -> str:
    """Return the page; `pictures` are data URIs of chosen images, by their numbers."""
    looked_at, choice = selection.looked_at, selection.choice
    strategies = Counter(each.strategy for each in choice.chosen)
    colours = {name: css_colour(number) for number, name in enumerate(strategies)}
    return render_page(
        "selection",
        DOCUMENT,
        PICTURES,
        title=selection.title,
        run=selection.run,
        totals=[
            ("images chosen", f"{len(choice.chosen):,}"),
            ("boxes expected in them", f"{selection.boxes:,.0f}"),
            ("images to choose from", f"{len(looked_at.pool.images):,}"),
        ],
        remarks=selection.remarks,
        strategies=[(name, count, colours[name]) for name, count in strategies.items()],
        classes=_class_rows(selection),
        map={"width": _MAP[0], "height": _MAP[1], "points": _map_points(selection, colours)},
        exhibits=[_exhibit(selection, each, pictures, colours) for each in choice.chosen[:SHOWN]],
        count=len(choice.chosen),
        left_out=_left_out(looked_at, choice),
        failures=[(each.source, each.reason) for each in looked_at.failures[:_LEFT_OUT]],
        failure_count=len(looked_at.failures),
        duplicates=[
            (selection.name(later), selection.name(first))
            for later, first in list(choice.duplicates.items())[:_LEFT_OUT]
        ],
    )


def selection_markdown(selection: Selection) -> str:
    """Return what is chosen by which strategy, the first images with their reasons, and how to go on."""
    choice = selection.choice
    strategies = Counter(each.strategy for each in choice.chosen)
    rows = [(selection.name(each.image), each.strategy, each.reason) for each in choice.chosen[:_MARKDOWN_ROWS]]
    left_out = ", ".join(f"{count:,} {what}" for what, count in _left_out(selection.looked_at, choice))
    parts = [
        *map(escape_markdown, selection.remarks),
        table(("strategy", "images"), list(strategies.items())) if rows else "",
        table(("image", "strategy", "why"), rows) if rows else "No image was chosen.",
        f"Left out: {escape_markdown(left_out)}." if left_out else "",
        f"The next flow takes these images by the input `run:{selection.run}`." if rows else "",
    ]
    return "\n\n".join(filter(None, parts))


def nothing_markdown(nothing: NothingToChooseError) -> str:
    """Return why there was nothing to choose from, and the first images that could not be read with their reasons."""
    failures = [(each.source, each.reason) for each in nothing.failures[:_MARKDOWN_ROWS]]
    rows = table(("image", "why"), failures) if failures else ""
    return "\n\n".join(filter(None, [wrap_text(str(nothing)), rows]))


def selection_sentence(selection: Selection) -> str:
    """Return what was chosen, as one sentence."""
    choice, looked_at = selection.choice, selection.looked_at
    left_out = ", ".join(f"{count:,} {what}" for what, count in _left_out(looked_at, choice))
    chosen = (
        f"{len(choice.chosen):,} of {len(looked_at.pool.images):,} images chosen for {selection.title}, about "
        f"{selection.boxes:,.0f} boxes{f'; left out: {left_out}' if left_out else ''}."
    )
    return " ".join([chosen, *selection.remarks])


def selection_facts(selection: Selection) -> dict[str, Any]:
    """Return what was chosen and left out, as plain values."""
    choice, looked_at = selection.choice, selection.looked_at
    return {
        "model": selection.title,
        "flow_run_id": selection.run,
        "images": len(looked_at.pool.images),
        "expected_boxes": round(selection.boxes, 1),
        "chosen": [
            {"image": selection.name(each.image), "strategy": each.strategy, "score": each.score, "reason": each.reason}
            for each in choice.chosen
        ],
        "left_out": dict(_left_out(looked_at, choice)),
        "near_duplicates": {selection.name(later): selection.name(first) for later, first in choice.duplicates.items()},
        "failures": {each.source: each.reason for each in looked_at.failures},
        "remarks": selection.remarks,
    }


def _left_out(looked_at: LookedAt, choice: Choice) -> list[tuple[str, int]]:
    duplicates = len(choice.duplicates)
    return [*([("near duplicates of others", duplicates)] if duplicates else []), *looked_at.left_out]


def _class_rows(selection: Selection) -> list[tuple[str, str, str, str]]:
    """Each class: the objects expected in what is chosen, in what there is to choose from, and in what was learnt."""
    pool = selection.looked_at.pool
    count = len(pool.class_names)
    chosen = count_expected([pool.images[each.image].found for each in selection.choice.chosen], count)
    there = count_expected([each.found for each in pool.images], count)
    learnt = pool.learnt.class_counts if pool.learnt else np.full(count, np.nan)
    return [
        (name, f"{own:,.0f}", f"{every:,.0f}", "unknown" if np.isnan(known) else f"{known:,.0f}")
        for name, own, every, known in zip(pool.class_names, chosen, there, learnt, strict=True)
    ]


def _exhibit(
    selection: Selection, each: ChosenImage, pictures: Mapping[int, str], colours: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": selection.name(each.image),
        "strategy": each.strategy,
        "colour": colours[each.strategy],
        "reason": each.reason,
        "picture": pictures.get(each.image),
    }


def _map_points(selection: Selection, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """What was learnt, what there is to choose from, and above them what is chosen, as circles on the map."""
    pool, chosen = selection.looked_at.pool, selection.choice.chosen
    step = -(-len(pool.images) // _POINTS)
    groups = [pool.embeddings[::step], pool.embeddings[[each.image for each in chosen]]]
    if pool.learnt:
        groups.insert(0, pool.learnt.embeddings)
    kinds = [*(["learnt"] if pool.learnt else []), "unchosen", "chosen"]
    places = _project(groups)
    own = iter(chosen)
    points = []
    for kind, group in zip(kinds, places, strict=True):
        for x, y in group.tolist():
            point = {"kind": kind, "x": round(x, 1), "y": round(y, 1), "colour": None, "title": None}
            if kind == "chosen":
                each = next(own)
                point |= {"colour": colours[each.strategy], "title": f"{selection.name(each.image)}: {each.reason}"}
            points.append(point)
    return points


def _project(groups: Sequence[Floats]) -> list[Floats]:
    """Place vectors [n, D] on the map, [n, 2] pixels, by the two directions in which they differ most."""
    every = np.concatenate(groups).astype(np.float64)
    every -= every.mean(axis=0)
    _, directions = np.linalg.eigh(every.T @ every)
    largest = directions[:, :-3:-1] if directions.shape[1] > 1 else np.repeat(directions, 2, axis=1)
    largest = largest * np.sign(largest[np.abs(largest).argmax(axis=0), [0, 1]])  # either sign would do
    places = every @ largest
    low, span = places.min(axis=0), np.maximum(np.ptp(places, axis=0), 1e-9)
    places = _MARGIN + (places - low) / span * (np.array(_MAP) - 2 * _MARGIN)
    return np.split(places.astype(np.float32), np.cumsum([len(group) for group in groups])[:-1])
