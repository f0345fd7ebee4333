"""What Prometheus has kept, and which alerts fire."""

import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from infra.metrics.dashboards import Panel
from infra.stack_settings import USER
from tasks.errors import StudioError

DAY_S = 86_400
POINTS = 96  # of a line
LEAST_STEP_S = 15.0  # between two scrapes nothing is known
TIMEOUT_S = 5.0
_OLDEST = "prometheus_tsdb_lowest_timestamp_seconds"
_LABEL = re.compile(r"\{\{(\w+)\}\}")


class PrometheusError(StudioError):
    """Prometheus does not answer, or not as expected."""

    transient = True


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values of one thing, oldest first: seconds since 1970, and a number."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class FiringAlert:
    """An alert that fires; `summary` says what to do."""

    name: str
    severity: str
    summary: str


class PrometheusClient:
    """The Prometheus at an address, with the password of user `studio`."""

    def __init__(self, address: str, password: str) -> None:
        self._address, self._password = address, password

    @classmethod
    def of_environment(cls) -> Self | None:
        """Return the Prometheus that the environment names; None if it names none."""
        address = os.environ.get("PROMETHEUS_URL")
        return cls(address, os.environ.get("PROMETHEUS_PASSWORD", "")) if address else None

    def began(self) -> float:
        """Return from when on it has figures of the last day, in seconds since 1970.

        Raises:
            PrometheusError: It does not answer.
        """
        day_ago = time.time() - DAY_S
        with self._open() as client:
            oldest = _ask(client, "/api/v1/query", {"query": _OLDEST})["result"]
        return max([day_ago, *(float(series["value"][1]) for series in oldest)])

    def read(self, panels: Iterable[Panel], began: float) -> list[tuple[Panel, list[Line]]]:
        """Return the lines of each panel from `began` on; a series without a value has none.

        Raises:
            PrometheusError: It does not answer.
        """
        now = time.time()
        span = {"start": began, "end": now, "step": max(LEAST_STEP_S, (now - began) / POINTS)}
        with self._open() as client:
            return [
                (panel, [line for item in panel.queries.items() for line in _lines(client, *item, span)])
                for panel in panels
            ]

    def firing(self) -> list[FiringAlert]:
        """Return the alerts that fire, critical ones first.

        Raises:
            PrometheusError: It does not answer.
        """
        with self._open() as client:
            alerts = _ask(client, "/api/v1/alerts", {})["alerts"]
        found = [
            FiringAlert(
                name=each["labels"]["alertname"],
                severity=each["labels"].get("severity", "warning"),
                summary=each["annotations"].get("summary", ""),
            )
            for each in alerts
            if each["state"] == "firing"
        ]
        return sorted(found, key=lambda alert: (alert.severity, alert.name, alert.summary))

    def _open(self) -> httpx.Client:
        return httpx.Client(base_url=self._address, auth=(USER, self._password), timeout=TIMEOUT_S, trust_env=False)


def _lines(client: httpx.Client, legend: str, expression: str, span: dict[str, float]) -> list[Line]:
    answer = _ask(client, "/api/v1/query_range", {"query": expression, **span})
    lines = []
    for series in answer["result"]:
        labels = series["metric"]
        points = [(moment, float(value)) for moment, value in series["values"]]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            lines.append(Line(name=_name(legend, labels), points=points))
    return lines


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return _LABEL.sub(lambda found: labels.get(found[1], ""), legend)


def _ask(client: httpx.Client, path: str, form: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    try:
        answer = client.request("POST" if form else "GET", path, data=form or None)
        return answer.raise_for_status().json()["data"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise PrometheusError(
            f"Expected Prometheus at {client.base_url} to answer, found {error!r}. `studio status` says more."
        ) from error
