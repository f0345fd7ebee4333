"""All metrics at once: a source that is away, slow or wrong takes no other with it."""

import threading
import time
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.metrics import exposition
from infra.metrics.exposition import MOST_VALUES, OTHER, BoundedLabel, Exposition
from tasks.errors import StudioError


class Figures:
    """A source with one figure: how often it was read; `before` may fail or wait."""

    def __init__(self, name: str, before: Callable[[], object] = lambda: None) -> None:
        self.name, self.read_times, self._before = name, 0, before

    def read(self) -> Iterable[Metric]:
        self.read_times += 1
        self._before()
        yield GaugeMetricFamily(f"{self.name}_reads", "Reads.", value=self.read_times)


def away() -> None:
    raise StudioError("nobody is there")


def lines(text: bytes) -> set[str]:
    return {line for line in text.decode().splitlines() if not line.startswith("#")}


def test_a_source_that_is_away_has_no_metrics_and_says_so() -> None:
    found = lines(Exposition([Figures("a"), Figures("b", away)]).to_text())
    assert found == {"a_reads 1.0", 'studio_source_up{source="a"} 1.0', 'studio_source_up{source="b"} 0.0'}


def test_a_source_that_does_not_answer_holds_up_no_other_and_is_not_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exposition, "PATIENCE_S", 0.2)
    monkeypatch.setattr(exposition, "CACHE_S", 0.0)
    answer = threading.Event()
    slow = Figures("slow", answer.wait)
    metrics = Exposition([Figures("a"), slow])
    began = time.monotonic()
    for reads in (1, 2):
        assert {f"a_reads {reads}.0", 'studio_source_up{source="slow"} 0.0'} <= lines(metrics.to_text())
    assert time.monotonic() - began < 5
    assert slow.read_times == 1
    answer.set()
    time.sleep(0.1)
    assert {"slow_reads 2.0", 'studio_source_up{source="slow"} 1.0'} <= lines(metrics.to_text())


def test_two_scrapes_in_a_row_ask_once() -> None:
    source = Figures("a")
    metrics = Exposition([source])
    assert metrics.to_text() == metrics.to_text()
    assert source.read_times == 1


def test_names_from_outside_are_a_bounded_number_of_series() -> None:
    label = BoundedLabel()
    first = [label(f"model-{number}") for number in range(MOST_VALUES)]
    assert first == [f"model-{number}" for number in range(MOST_VALUES)]
    assert (label("one more"), label("model-0")) == (OTHER, "model-0")


def test_a_hostile_name_is_one_label() -> None:
    class Hostile(Figures):
        def read(self) -> Iterable[Metric]:
            family = GaugeMetricFamily("a", "A.", labels=["model"])
            family.add_metric(['x"} 1\nfaked 7\\'], 1)
            yield family

    assert 'a{model="x\\"} 1\\nfaked 7\\\\"} 1.0' in lines(Exposition([Hostile("a")]).to_text())
