"""What Prefect's runs say to the source of MLflow: it asks there only while something changes."""

from collections.abc import Iterable
from threading import Lock

from tasks.orchestration.run_figures import RunFigures

INFERRING = frozenset({"run-inference", "label-images", "review-images"})


class Activity:
    """Trainings, by flow run with model and start in seconds since 1970, and since when inferences may have ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._trainings: dict[str, tuple[str, float]] = {}
        self._inferred_since: float | None = None

    def note_trainings(self, runs: Iterable[RunFigures]) -> None:
        """Have these trainings looked at once more."""
        with self._lock:
            self._trainings |= {run.id: (run.model, run.started) for run in runs if run.started is not None}

    def note_inferences(self, runs: Iterable[RunFigures]) -> None:
        """Have inferences looked at that were begun since the oldest of these runs was."""
        starts = [run.started for run in runs if run.flow in INFERRING and run.started is not None]
        with self._lock:
            starts += [self._inferred_since] if self._inferred_since is not None else []
            self._inferred_since = min(starts, default=None)

    def trainings(self) -> dict[str, tuple[str, float]]:
        """Return the trainings to look at."""
        with self._lock:
            return dict(self._trainings)

    def inferred_since(self) -> float | None:
        """Return since when inferences are to be looked at; None: none are."""
        with self._lock:
            return self._inferred_since

    def forget(self, trainings: Iterable[str], inferred_since: float | None) -> None:
        """Take out what was looked at, unless it was noted anew."""
        with self._lock:
            for run in trainings:
                self._trainings.pop(run, None)
            if self._inferred_since == inferred_since:
                self._inferred_since = None
