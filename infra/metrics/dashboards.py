"""Four dashboards, for Grafana as JSON and for the page Health of the studio: `python -m infra.metrics.dashboards`.

It writes `infra/metrics/dashboards/*.json`, which Grafana imports, or reads from a folder (provisioning).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.generated_files import write_stale

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "5m"  # over which changes are told; at least four scrapes
MICROSECONDS = "\N{MICRO SIGN}s"
WIDTH, HEIGHT = 12, 8  # of a panel; Grafana's page has 24 columns


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A graph: what it shows, and how a line is named, by the labels of its series (`{{model}}`).

    `unit` is Grafana's name of the unit. Panels with `summary` are shown on the page Health, too.
    """

    title: str
    queries: Mapping[str, str]  # expression by legend
    unit: str = "short"
    summary: bool = False
    stacked: bool = False
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """What people look at together; `name` is that of its file and its address."""

    name: str
    title: str
    panels: Sequence[Panel]


def _percentile(quantile: float, histogram: str, by: str, over: str = "1h") -> str:
    return f"histogram_quantile({quantile}, sum by (le, {by}) (rate({histogram}_bucket[{over}])))"


PIPELINES = Dashboard(
    name="pipelines",
    title="Pipelines",
    panels=(
        Panel(
            title="Runs that have ended, an hour",
            queries={"{{state}}": "sum by (state) (increase(studio_flow_runs_ended_total[1h]))"},
            summary=True,
            stacked=True,
        ),
        Panel(
            title="Failures, an hour",
            queries={"{{flow}}: {{kind}}": "sum by (flow, kind) (increase(studio_flow_run_failures_total[1h])) > 0"},
            stacked=True,
        ),
        Panel(title="Runs that go on", queries={"{{state}}": "sum by (state) (studio_flow_runs)"}, summary=True),
        Panel(
            title="Longest wait in a queue",
            queries={"{{queue}}": "studio_queue_oldest_wait_seconds"},
            unit="s",
            summary=True,
        ),
        Panel(title="Runs that wait", queries={"{{queue}}": "studio_queue_backlog"}, stacked=True),
        Panel(
            title="Wait for a worker, 95th percentile",
            queries={"{{queue}}": _percentile(0.95, "studio_flow_run_queue_wait_seconds", "queue")},
            unit="s",
        ),
        Panel(
            title="Duration of runs, median",
            queries={"{{flow}}": _percentile(0.5, "studio_flow_run_duration_seconds", "flow")},
            unit="s",
        ),
        Panel(
            title="Attempts after the first, an hour",
            queries={"{{flow}}": "sum by (flow) (increase(studio_flow_run_retries_total[1h])) > 0"},
            stacked=True,
        ),
        Panel(title="Workers", queries={"online": "studio_workers_online"}),
        Panel(title="Training: epoch", queries={"{{model}}": "studio_training_epoch"}),
        Panel(title="Training: loss", queries={"{{model}} {{split}} {{part}}": "studio_training_loss"}, unit="none"),
        Panel(
            title="Training: score",
            queries={"{{model}} {{score}}": "studio_training_score_ratio"},
            unit="percentunit",
            maximum=1,
        ),
    ),
)
SERVING = Dashboard(
    name="serving",
    title="Serving",
    panels=(
        Panel(
            title="Requests",
            queries={"{{model}}": f"sum by (model) (rate(nv_inference_request_success[{RATE}]))"},
            unit="reqps",
            summary=True,
        ),
        Panel(
            title="Requests that failed",
            queries={"{{model}}": f"sum by (model) (rate(nv_inference_request_failure[{RATE}]))"},
            unit="reqps",
            summary=True,
        ),
        Panel(
            title="Live predictions",
            queries={"{{outcome}}": f"sum by (outcome) (rate(studio_live_predictions_total[{RATE}]))"},
            unit="reqps",
        ),
        Panel(
            title="Latency, percentiles",
            queries={
                "{{model}} p{{quantile}}": "max by (model, quantile)"
                ' (nv_inference_request_summary_us{quantile=~"0.5|0.95|0.99"})'
            },
            unit=MICROSECONDS,
            summary=True,
        ),
        Panel(
            title="Latency, mean",
            queries={
                "{{model}}": f"sum by (model) (rate(nv_inference_request_duration_us[{RATE}]))"
                f" / sum by (model) (rate(nv_inference_request_success[{RATE}]))"
            },
            unit=MICROSECONDS,
        ),
        Panel(
            title="Images",
            queries={"{{model}}": f"sum by (model) (rate(nv_inference_count[{RATE}]))"},
            unit="reqps",
        ),
        Panel(
            title="Time in the queue of Triton, share",
            queries={
                "{{model}}": f"sum by (model) (rate(nv_inference_queue_duration_us[{RATE}]))"
                f" / sum by (model) (rate(nv_inference_request_duration_us[{RATE}]))"
            },
            unit="percentunit",
            maximum=1,
        ),
        Panel(title="Served version", queries={"{{model}}": "studio_served_version"}),
        Panel(title="Champion", queries={"{{model}}": "studio_champion_version"}),
        Panel(
            title="Age of the champion",
            queries={"{{model}}": "time() - studio_champion_since_timestamp_seconds"},
            unit="s",
        ),
        Panel(
            title="Score of the champion in its training",
            queries={"{{model}} {{score}}": "studio_champion_score_ratio"},
            unit="percentunit",
            maximum=1,
        ),
    ),
)
DATASETS = Dashboard(
    name="datasets",
    title="Datasets and inference",
    panels=(
        Panel(
            title="Checks of archives, an hour",
            queries={"{{verdict}}": "sum by (verdict) (increase(studio_archive_checks_total[1h]))"},
            summary=True,
            stacked=True,
        ),
        Panel(
            title="Images of inferences, an hour",
            queries={"{{model}}": "sum by (model) (increase(studio_inference_images_total[1h]))"},
            summary=True,
            stacked=True,
        ),
        Panel(
            title="Inputs that could not be read, an hour",
            queries={"{{model}}": "sum by (model) (increase(studio_inference_failed_inputs_total[1h]))"},
            stacked=True,
        ),
        Panel(
            title="Speed of the last inference, images a second",
            queries={"{{model}}": "studio_inference_images_per_second"},
        ),
        Panel(title="Models", queries={"registered": "studio_models"}),
    ),
)
MACHINES = Dashboard(
    name="machines",
    title="Machines",
    panels=(
        Panel(
            title="Processors that work",
            queries={"{{mode}}": f'sum by (mode) (rate(studio_machine_cpu_seconds_total{{mode!="idle"}}[{RATE}]))'},
            summary=True,
            stacked=True,
        ),
        Panel(
            title="Memory that is free, share",
            queries={"free": "studio_machine_memory_available_bytes / studio_machine_memory_bytes"},
            unit="percentunit",
            summary=True,
            maximum=1,
        ),
        Panel(
            title="Disk that is free, share",
            queries={"{{place}}": "studio_disk_free_bytes / studio_disk_size_bytes"},
            unit="percentunit",
            summary=True,
            maximum=1,
        ),
        Panel(title="Disk that is free", queries={"{{place}}": "studio_disk_free_bytes"}, unit="bytes"),
        Panel(title="GPU: busy", queries={"GPU {{gpu}}": "studio_gpu_busy_ratio"}, unit="percentunit", maximum=1),
        Panel(
            title="GPU: memory taken, share",
            queries={"GPU {{gpu}}": "studio_gpu_memory_used_bytes / studio_gpu_memory_bytes"},
            unit="percentunit",
            maximum=1,
        ),
        Panel(title="PostgreSQL: connections", queries={"{{database}}": "studio_postgres_connections"}, stacked=True),
        Panel(title="PostgreSQL: size", queries={"{{database}}": "studio_postgres_database_size_bytes"}, unit="bytes"),
        Panel(
            title="PostgreSQL: transactions a second",
            queries={"{{database}} {{end}}": f"rate(studio_postgres_transactions_total[{RATE}])"},
        ),
        Panel(
            title="PostgreSQL: blocks a second",
            queries={"{{database}} from {{place}}": f"rate(studio_postgres_blocks_total[{RATE}])"},
        ),
        Panel(title="Memory of services", queries={"{{job}}": "process_resident_memory_bytes"}, unit="bytes"),
        Panel(title="Sources that answer", queries={"{{source}}": "studio_source_up"}, maximum=1),
    ),
)
DASHBOARDS = (PIPELINES, SERVING, DATASETS, MACHINES)


def to_grafana(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it; its data source is chosen on the page."""
    variable = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": f"yolo-studio-{dashboard.name}",
        "title": f"YOLO Studio: {dashboard.title}",
        "tags": ["yolo-studio"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair for all panels
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [variable]},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "YOLO Studio",
                "tags": ["yolo-studio"],
                "asDropdown": False,
                "icon": "external link",
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": [_to_grafana(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def _to_grafana(panel: Panel, number: int) -> dict[str, Any]:
    custom = {"fillOpacity": 10, "showPoints": "never", "stacking": {"mode": "normal" if panel.stacked else "none"}}
    defaults = {"unit": panel.unit, "min": 0, "custom": custom}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for index, (legend, expression) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {"x": WIDTH * (number % 2), "y": HEIGHT * (number // 2), "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }


def files() -> dict[Path, str]:
    """Return what is in each file."""
    return {FOLDER / f"{each.name}.json": json.dumps(to_grafana(each), indent=1) + "\n" for each in DASHBOARDS}


def main() -> int:
    """Write the files, or with `--check` say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    is_check = parser.parse_args().check
    stale = write_stale(files(), check=is_check)
    for path in stale if is_check else ():
        print(f"{path} is out of date: run `python -m infra.metrics.dashboards`")
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main())
