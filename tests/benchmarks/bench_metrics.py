"""What a scrape of `/metrics` costs in processor time, with the 50,000 ended runs of 90 days and without.

`python -m pytest -s tests/benchmarks/bench_metrics.py`: it starts a stack of its own. SQL writes the runs.
Of each process the time is that of `SCRAPES` scrapes, less what it takes in as long a time without them.
"""

import time
from contextlib import closing

import psutil
import psycopg2
import pytest

from infra import supervisord
from infra.front_page import metrics
from infra.metrics.live_source import LiveSource
from infra.stack_settings import StackSettings
from tests.benchmarks.results import Measure, record

pytestmark = pytest.mark.timeout(1200)
ENDED = 50_000
DUE = 500
SCRAPES = 20
EVERY_S = 0.5
GOAL_MS = 100.0
SERVICES = ("prefect", "mlflow", "postgres", "triton", "object-store")
_FILL = """
INSERT INTO flow_run (name, state_type, state_name, state_timestamp, run_count, flow_id, parameters,
    expected_start_time, start_time, end_time, total_run_time)
SELECT 'bench-' || n, kind, kind, ended, 1, flow.id, '{"model_name": "shapes"}',
    ended - interval '2 minutes', ended - interval '1 minute', ended, interval '1 minute'
FROM generate_series(1, %s) n, LATERAL (SELECT now() - interval '1 hour' - n * interval '150 seconds' AS ended,
    (ARRAY['COMPLETED', 'COMPLETED', 'COMPLETED', 'FAILED'])[1 + n %% 4]::state_type AS kind) AS made,
    LATERAL (SELECT id FROM flow ORDER BY id OFFSET n %% (SELECT count(*) FROM flow) LIMIT 1) AS flow
"""
_WAIT = """
INSERT INTO flow_run (name, state_type, state_name, state_timestamp, flow_id, expected_start_time,
    next_scheduled_start_time)
SELECT 'bench-due-' || n, 'SCHEDULED', 'Late', now(), (SELECT id FROM flow LIMIT 1), now() - n * interval '1 second',
    now() - n * interval '1 second' FROM generate_series(1, %s) n
"""


def execute(settings: StackSettings, statement: str, *values: object) -> None:
    with closing(psycopg2.connect(settings.database_url + "/prefect")) as connection, connection:
        connection.cursor().execute(statement, values)


def processor_s(settings: StackSettings) -> dict[str, float]:
    """Seconds of processor time so far of each service, with its children, and of this process."""
    with supervisord.connect(settings) as supervisor:
        roots = {entry["name"]: entry["pid"] for entry in supervisor.getAllProcessInfo() if entry["name"] in SERVICES}
    spent = {"page": sum(psutil.Process().cpu_times()[:2])}
    for name, pid in roots.items():
        root = psutil.Process(pid)
        spent[name] = sum(sum(each.cpu_times()[:2]) for each in [root, *root.children(recursive=True)])
    return spent


def scrape_ms(settings: StackSettings) -> dict[str, float]:
    """Milliseconds of processor time that one scrape takes, by process."""
    exposition = metrics.exposition(LiveSource())
    exposition._read()  # imports and connections
    moments = [processor_s(settings)]
    for work in (lambda: None, exposition._read):
        began = time.monotonic()
        for number in range(SCRAPES):
            work()
            time.sleep(max(0.0, began + (number + 1) * EVERY_S - time.monotonic()))
        moments.append(processor_s(settings))
    before, idle, busy = moments
    return {name: 1000 * (busy[name] - 2 * idle[name] + before[name]) / SCRAPES for name in before}


def told(title: str, spent: dict[str, float]) -> None:
    parts = ", ".join(f"{name} {value:.0f}" for name, value in spent.items())
    print(parts)
    ours = [sum(spent.values())]
    record(Measure(name=f"a scrape, {title}", unit="ms of processor time", better="less", ours=ours))


def test_a_scrape_costs_the_same_whatever_has_ended(stack: StackSettings) -> None:
    told("no runs", scrape_ms(stack))
    execute(stack, _FILL, ENDED)
    execute(stack, "ANALYZE flow_run")
    spent = scrape_ms(stack)
    told(f"{ENDED:,} ended runs", spent)
    execute(stack, _WAIT, DUE)
    told(f"and {DUE} that wait", scrape_ms(stack))
    execute(stack, "DELETE FROM flow_run WHERE name LIKE %s", "bench-%")
    assert sum(spent.values()) < GOAL_MS
