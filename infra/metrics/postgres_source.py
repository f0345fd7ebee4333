"""Metrics of PostgreSQL, asked as a user who may read its statistics and nothing else."""

from collections.abc import Iterable
from contextlib import closing

import psycopg2
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

TIMEOUT_S = 3
_STATISTICS = """
SELECT datname, numbackends, pg_database_size(datid), xact_commit, xact_rollback, blks_hit, blks_read, deadlocks,
    current_setting('max_connections')::int
FROM pg_stat_database WHERE datname IN ('prefect', 'mlflow')
"""


class PostgresSource:
    """The databases `prefect` and `mlflow` of the server at `url`."""

    name = "postgres"

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> Iterable[Metric]:
        """Return the metrics of PostgreSQL.

        Raises:
            psycopg2.Error: It does not answer.
        """
        limit = f"-c statement_timeout={TIMEOUT_S * 1000}"
        with (
            closing(psycopg2.connect(self._url, connect_timeout=TIMEOUT_S, options=limit)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(_STATISTICS)
            rows = cursor.fetchall()
        label = ["database"]
        connections = GaugeMetricFamily("studio_postgres_connections", "Open connections.", labels=label)
        size = GaugeMetricFamily("studio_postgres_database_size_bytes", "Size of a database.", labels=label)
        transactions = CounterMetricFamily(
            "studio_postgres_transactions", "Transactions by how they ended.", labels=["database", "end"]
        )
        blocks = CounterMetricFamily(
            "studio_postgres_blocks", "Blocks that were read, by where they were.", labels=["database", "place"]
        )
        deadlocks = CounterMetricFamily("studio_postgres_deadlocks", "Deadlocks.", labels=label)
        for name, open_now, size_bytes, committed, rolled_back, hit, read, locked, _ in rows:
            connections.add_metric([name], open_now)
            size.add_metric([name], size_bytes)
            transactions.add_metric([name, "commit"], committed)
            transactions.add_metric([name, "rollback"], rolled_back)
            blocks.add_metric([name, "memory"], hit)
            blocks.add_metric([name, "disk"], read)
            deadlocks.add_metric([name], locked)
        most = GaugeMetricFamily("studio_postgres_max_connections", "Connections that it takes.", value=rows[0][-1])
        return [connections, most, size, transactions, blocks, deadlocks]
