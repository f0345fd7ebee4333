"""All metrics as Prometheus reads them, each source asked side by side and not more often than it pays.

A source that is away makes its own metrics absent and `studio_source_up{source="..."}` 0, and holds up no other.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, Metric, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
CACHE_S = 10.0  # less than the interval of a scrape: two Prometheus cost as much as one
PATIENCE_S = 6.0  # of the 10 s that Prometheus waits
UP = "studio_source_up"
MOST_VALUES = 100  # of a label that people choose, such as the name of a model
OTHER = "other"
_LOG = logging.getLogger(__name__)


class Source(Protocol):
    """A service or a machine that has figures."""

    @property
    def name(self) -> str:
        """Name of it in label `source`."""

    def read(self) -> Iterable[Metric]:
        """Return its metrics now; whatever it raises means that it is away."""


class BoundedLabel:
    """Values of a label that come from outside: the first `MOST_VALUES` stay, all others are `other`."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the value as a label has it."""
        if value not in self._known and len(self._known) >= MOST_VALUES:
            return OTHER
        self._known.add(value)
        return value


class Exposition(Collector):
    """The metrics of all sources, at most `CACHE_S` old."""

    def __init__(self, sources: Sequence[Source]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self._sources = sources
        self._threads = ThreadPoolExecutor(max_workers=len(sources), thread_name_prefix="metrics")
        self._asked: dict[str, Future[list[Metric]]] = {}
        self._away: set[str] = set()
        self._lock = Lock()
        self._metrics: list[Metric] = []
        self._read_at = -CACHE_S

    def collect(self) -> list[Metric]:
        """Return the metrics; two callers at one time ask the sources once."""
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_S:
                self._metrics = self._read()
                self._read_at = time.monotonic()
            return self._metrics

    def to_text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self)

    def _read(self) -> list[Metric]:
        for source in self._sources:
            earlier = self._asked.get(source.name)
            if earlier is None or earlier.done():  # one that still waits is not asked again
                self._asked[source.name] = self._threads.submit(_read, source)
        wait(self._asked.values(), timeout=PATIENCE_S)
        up = GaugeMetricFamily(UP, "1 if this source of metrics answers.", labels=["source"])
        metrics: list[Metric] = [up]
        for source in self._sources:
            found = self._answer(source.name)
            up.add_metric([source.name], found is not None)
            metrics += found or []
        return metrics

    def _answer(self, source: str) -> list[Metric] | None:
        try:
            found = self._asked[source].result(timeout=0)
        except Exception as error:  # noqa: BLE001 - whatever a client raises; a TimeoutError if it still waits
            if source not in self._away:
                _LOG.warning("metrics of %s are missing: %s", source, error or f"no answer within {PATIENCE_S:g} s")
            self._away.add(source)
            return None
        self._away.discard(source)
        return found


def _read(source: Source) -> list[Metric]:
    return list(source.read())
