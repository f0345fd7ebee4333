"""A comparison as a page of HTML, and as markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from tasks.rendering.html import DOCUMENT, JUDGEMENT, render_page
from tasks.rendering.markdown import bullet_list, escape_markdown, table, wrap_text
from tasks.serving.parity.precisions import PrecisionChoice, PrecisionTrial
from tasks.serving.parity.rules import ClassParity, ParityReport
from tasks.serving.parity.visuals import ComparisonImage

SHOWN_CLASSES = 200
_MAX_NAME = 100
_MAX_REASON = 300
_CHART = 420, 200  # pixels of the frame of the picture
_HEADROOM = 1.15
_LEAST_SPAN = 0.02  # of agreement, so that a difference of nothing looks like it


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """A precision in the picture of speed against agreement; x and y in pixels from the upper left of its frame."""

    x: float
    y: float
    name: str
    label: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The picture of speed against agreement: its points, the height of the required agreement, and the scales."""

    width: int
    height: int
    points: tuple[FrontierPoint, ...]
    required_y: float
    required: str
    least: str
    most_rate: str


def parity_page(
    parity: ParityReport, exhibits: Sequence[ComparisonImage], title: str, choice: PrecisionChoice | None = None
) -> str:
    """Return the comparison as one file of HTML; `exhibits` are those of `draw_worst`, `title` names the version.

    `choice` are the precisions that were tried.
    """
    return render_page(
        "parity",
        DOCUMENT,
        JUDGEMENT,
        title=title,
        verdict="passed" if parity.passed else "failed",
        sentence=_sentence(parity),
        reasons=parity.reasons,
        totals=_totals(parity),
        limits=_limits(parity),
        classes=[(row, _metrics(row)) for row in _worst_first(parity)[:SHOWN_CLASSES]],
        more_classes=max(len(parity.classes) - SHOWN_CLASSES, 0),
        metric=parity.metric,
        precisions=_precisions(choice) if choice else [],
        precision_columns=_precision_columns(parity),
        frontier=draw_frontier(choice) if choice and len(choice.trials) > 1 else None,
        exhibits=exhibits,
        more_images=max(len(parity.worst) - len(exhibits), 0),
        agreeing=sum(image.unmatched == 0 for image in parity.images),
        images=len(parity.images),
    )


def parity_markdown(parity: ParityReport, title: str, links: str = "", choice: PrecisionChoice | None = None) -> str:
    """Return the verdict, links, the reasons and figures, and the classes with the fewest partners first."""
    classes = [(row.name[:_MAX_NAME], row.compared, row.matched, *_metrics(row)) for row in _worst_first(parity)]
    parts = [
        f"# {escape_markdown(title)}: {'as its weights' if parity.passed else 'not as its weights'}",
        links,
        _sentence(parity),
        bullet_list(map(wrap_text, parity.reasons)),
        table(("", "found", "limit"), _limits(parity)),
        "## Precisions" if choice else "",
        table(_precision_columns(parity)[:-1], [row[:-1] for row in _precisions(choice)]) if choice else "",
        bullet_list(wrap_text(f"{row[0]}: {row[-1]}") for row in _precisions(choice)) if choice else "",
        "## Classes",
        table(("class", "compared", "with a partner", f"{parity.metric} PyTorch", "Triton"), classes[:SHOWN_CLASSES]),
        f"And {len(classes) - SHOWN_CLASSES} more." if len(classes) > SHOWN_CLASSES else "",
    ]
    return "\n\n".join(filter(None, parts))


def _precision_columns(parity: ParityReport) -> tuple[str, ...]:
    return "precision", "images/s", "agreement", f"{parity.metric} lost", "seconds", ""


def _precisions(choice: PrecisionChoice) -> list[tuple[str, ...]]:
    """A row a precision: its name, speed, agreement, lost mAP, the seconds it cost, and why it serves or not."""
    return [
        (
            trial.precision,
            f"{trial.rate:.1f}" if trial.rates else "-",
            f"{trial.parity.agreement:.1%}" if trial.parity else "-",
            f"{trial.parity.map_drop:+.4f}" if trial.parity else "-",
            f"{trial.seconds:.1f}" if trial.rates else "-",
            shorten(choice.reason(trial), _MAX_REASON, placeholder=" ..."),
        )
        for trial in choice.trials
    ]


def draw_frontier(choice: PrecisionChoice) -> Frontier:
    """Return the precisions that were measured as points: to the right is quicker, up is nearer to the weights."""
    width, height = _CHART
    measured = [(trial, trial.parity) for trial in choice.trials if trial.parity]
    required = choice.judged.required_agreement
    least = min(*(parity.agreement for _, parity in measured), required, 1 - _LEAST_SPAN)
    least = max(least - (1 - least) * (_HEADROOM - 1), 0)
    most_rate = _HEADROOM * max(trial.rate for trial, _ in measured)

    def height_of(agreement: float) -> float:
        return height * (1 - agreement) / (1 - least)

    return Frontier(
        width=width,
        height=height,
        points=tuple(
            FrontierPoint(
                x=width * trial.rate / most_rate,
                y=height_of(parity.agreement),
                name=trial.precision,
                label=f"{trial.precision}: {trial.rate:.1f} images/s, {parity.agreement:.1%} agree, "
                f"{parity.metric} lost {parity.map_drop:+.4f}",
                kind=_kind(choice, trial),
            )
            for trial, parity in measured
        ),
        required_y=height_of(required),
        required=f"{required:.0%}",
        least=f"{least:.1%}",
        most_rate=f"{most_rate:.0f}",
    )


def _kind(choice: PrecisionChoice, trial: PrecisionTrial) -> str:
    if not trial.passed:
        return "refused"
    return "chosen" if trial is choice.chosen else "passed"


def _sentence(parity: ParityReport) -> str:
    if not parity.compared:
        return "Neither the weights nor the served model find anything in these images, so there is nothing to compare."
    verb = "finds" if parity.passed else "does not find"
    sentence = f"The served model {verb} what its weights find in {len(parity.images)} validation images."
    limit = f"{parity.policy.min_confidence:g}"
    weak = f" Too few of these reach a score of {limit}, so weaker ones are compared too."
    return sentence + weak if parity.weak else sentence


def _totals(parity: ParityReport) -> list[tuple[str, str, bool]]:
    """The name of a figure, its value, and whether it breaks the policy."""
    figures = [("agreement", f"{parity.agreement:.1%}", parity.agreement < parity.required_agreement)]
    if parity.reference is not None:
        lost = parity.map_drop > parity.policy.max_map_drop
        figures.append((f"{parity.metric} lost", f"{parity.map_drop:+.4f}", lost))
    counts = {"detections compared": parity.compared, "images": len(parity.images)}
    return [*figures, *((name, f"{count:,}", False) for name, count in counts.items())]


def _limits(parity: ParityReport) -> list[tuple[str, str, str]]:
    """The name of a figure, its value, and its limit."""
    policy = parity.policy
    matched = f"{parity.matched:,} of {parity.compared:,}"
    rows = [
        ("detections with a partner", matched, f"at least {parity.required_agreement:.1%}"),
        ("compared from a score of", f"{parity.confidence:.3f}", f"{policy.min_confidence:g} if there are enough"),
        ("largest difference of scores", f"{parity.score_difference:.4f}", f"{policy.max_score_difference:g}"),
        ("least overlap of partners", f"{parity.overlap:.3f}", f"{policy.min_iou:g}"),
    ]
    if parity.reference is not None and parity.served is not None:
        rows.append((f"{parity.metric} of the weights", f"{parity.reference:.4f}", ""))
        limit = f"at most {policy.max_map_drop:g} lower"
        rows.append((f"{parity.metric} of the served model", f"{parity.served:.4f}", limit))
    return rows


def _worst_first(parity: ParityReport) -> list[ClassParity]:
    return sorted(parity.classes, key=lambda row: row.matched - row.compared)


def _metrics(row: ClassParity) -> tuple[str, str]:
    one, other = ("-" if value is None else f"{value:.4f}" for value in (row.reference, row.served))
    return one, other
