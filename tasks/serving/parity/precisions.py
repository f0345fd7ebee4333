"""Which precision serves: of those that answer as the weights do, the quickest."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.serving.parity.rules import ParityReport
from tasks.vision.detections import Detections

EXACT = "f32"
# How much quicker a less exact precision has to be than a more exact one.
MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class PrecisionTrial:
    """How a version did in one precision.

    `rates` are the images a second of Triton in each round; the rounds of all trials of a version went in turns.
    `left_out` says why there was nothing to measure; without it there are `parity` and `rates`. `seconds` is what the
    trial cost beside the others, `digest` the SHA-256 (hex) of its graph.
    """

    precision: str
    digest: str = ""
    left_out: str = ""
    parity: ParityReport | None = None
    rates: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Images a second: the median of the rounds."""
        return statistics.median(self.rates) if self.rates else 0.0

    @property
    def passed(self) -> bool:
        """Whether it may serve."""
        return self.parity is not None and self.parity.passed

    def speedup(self, other: "PrecisionTrial") -> float:
        """How many times as quick as `other` it was: the median of the rounds, each beside that of the other."""
        return statistics.median(own / its for own, its in zip(self.rates, other.rates, strict=True))


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """The precisions that were tried, the most exact first, and the one that serves.

    If the most exact does not answer as the weights do, it is the one that is judged: the graph is at fault.
    """

    trials: tuple[PrecisionTrial, ...]

    @property
    def chosen(self) -> PrecisionTrial:
        """The quickest that passed; a less exact one only if it is quicker by `MARGIN`."""
        best = self.trials[0]
        for trial in self.trials[1:]:
            if best.passed and trial.passed and trial.speedup(best) >= 1 + MARGIN:
                best = trial
        return best

    @property
    def judged(self) -> ParityReport:
        """The comparison of the chosen one, by which the version passes or is refused."""
        parity = self.chosen.parity
        if parity is None:
            raise ValueError("expected the most exact precision to be compared, found that it was left out")
        return parity

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of each precision, by name; none if one alone was tried."""
        measured = [(each, each.parity) for each in self.trials if each.parity] if len(self.trials) > 1 else []
        return {
            f"precision/{trial.precision}/{name}": value
            for trial, parity in measured
            for name, value in {
                "images_per_s": trial.rate,
                "agreement": parity.agreement,
                "drop": parity.map_drop,
            }.items()
        }

    def reason(self, trial: PrecisionTrial) -> str:
        """Return why a trial serves, or why not, in a sentence."""
        chosen = self.chosen
        if trial.left_out:
            return f"Left out: {trial.left_out}"
        if not trial.passed:
            return "Refused: it does not answer as the weights do."
        if len(self.trials) == 1:
            return "Serves: no other was to be tried."
        if trial is chosen:
            others = [each for each in self.trials if each.passed and each is not trial]
            return "Serves: the quickest that answers as the weights do." if others else "Serves: no other passed."
        ratio = chosen.speedup(trial)
        if ratio >= 1:
            return f"Passed: {chosen.precision} is {ratio:.2f} times as quick."
        return (
            f"Passed: {1 / ratio:.2f} times as quick as {chosen.precision}; less exact, it has to be {1 + MARGIN:.2f} "
            "times as quick."
        )


def answers_alike(one: Sequence[Detections], other: Sequence[Detections]) -> bool:
    """Return whether two sides answered with the same numbers to the last bit.

    Two precisions never do: then a server runs both in one.
    """
    return all(
        np.array_equal(a.xyxy, b.xyxy)
        and np.array_equal(a.confidence, b.confidence)
        and (a.class_scores is None or b.class_scores is None or np.array_equal(a.class_scores, b.class_scores))
        for a, b in zip(one, other, strict=True)
    )
