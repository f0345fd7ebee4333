"""Metrics of the live predictions that the front page passes on.

Triton counts an answer of a Python model that says an error as a success, so errors of the models themselves are in no
metric of its own.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Metric

OUTCOMES = {2: "answered", 4: "refused", 5: "failed"}  # by the first digit of the status
_OTHER = "failed"


class LiveSource:
    """How live predictions have ended since the page was started: a refusal is the client's fault, a failure ours."""

    name = "live"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._predictions = Counter(
            "studio_live_predictions", "Live predictions by how they ended.", ["outcome"], registry=self._registry
        )
        for outcome in OUTCOMES.values():
            self._predictions.labels(outcome)

    def count(self, status: int) -> None:
        """Count an answer with this status of HTTP."""
        self._predictions.labels(OUTCOMES.get(status // 100, _OTHER)).inc()

    def read(self) -> Iterable[Metric]:
        """Return the metrics of the live predictions."""
        return self._registry.collect()
