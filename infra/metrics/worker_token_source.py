"""Until when workers elsewhere get in."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from infra.metrics.exposition import BoundedLabel

if TYPE_CHECKING:
    from infra.accounts.database import Database


WARNED = timedelta(days=14)  # before the end; as in rules.yml


class WorkerTokenSource:
    """The tokens of workers elsewhere, in the database of accounts."""

    name = "accounts"

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._label = BoundedLabel()

    def read(self) -> Iterable[Metric]:
        """Return when the token of each ends.

        Raises:
            DatabaseAwayError: The database does not answer.
        """
        from infra.accounts.tokens import worker_token_ends

        text = "When the token of a worker elsewhere ends, or has ended."
        ends = GaugeMetricFamily("studio_worker_token_end_timestamp_seconds", text, labels=["machine"])
        for machine, end in worker_token_ends(self._database).items():
            ends.add_metric([self._label(machine)], end.timestamp())
        return [ends]
