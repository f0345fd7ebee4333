"""What a monitoring leaves: its page and figures, a point on the curves of the version, and an event if it drifted."""

import json

from tasks.monitoring import page
from tasks.monitoring.judgement import Judgement
from tasks.monitoring.window import Window
from tasks.orchestration import artifacts, events
from tasks.orchestration.current_run import flow_run_id, now
from tasks.orchestration.step import retried
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracking import monitoring_runs
from tasks.tracking.links import page_links
from tasks.tracking.registry import ModelVersion
from tasks.tracking.version_pages import VersionPage, keep_page

PAGE = "monitoring.html"


def publish(version: ModelVersion, judgement: Judgement, window: Window) -> None:
    """Write page and figures to bucket `runs`, log the metrics, show artifact `monitoring`, and tell a new drift.

    Raises:
        StudioError: MLflow or the object store cannot be reached.
    """
    run = flow_run_id()
    title = f"{version.name} version {version.version}"
    facts = {
        "model": version.name,
        "version": version.version,
        "flow_run_id": run,
        "runs": window.runs,
        "live": window.live,
    }
    figures = json.dumps(facts | page.monitoring_facts(judgement) | {"remarks": window.remarks}, indent=2)
    html = page.monitoring_page(title, judgement, window, version.class_names)
    write = retried(storage_steps.write_text)
    report = write(html, Bucket.RUNS, f"{run}/{PAGE}")
    links = {"Monitoring": report, "All figures as JSON": write(figures, Bucket.RUNS, f"{run}/monitoring.json")}
    time_ms = round(1000 * now().timestamp())
    tracked = monitoring_runs.log_monitoring(version, run, page.monitoring_metrics(judgement), time_ms)
    links |= page_links("", tracked, version.name, version.version)
    artifacts.show_markdown("monitoring", f"{links_markdown(links)}\n\n{page.monitoring_markdown(judgement, window)}")
    keep_page(version, VersionPage(name=PAGE, run=run, archives={}, split=""))
    _tell(version, judgement, report, run)


def _tell(version: ModelVersion, judgement: Judgement, report: str, run: str) -> None:
    """Emit `model.drifted`, but not for what the last monitoring has told already."""
    if set(judgement.drifted) - set(monitoring_runs.read_drifted(version)):
        events.emit(
            events.MODEL_DRIFTED,
            events.version(version.name, version.version),
            payload={
                "model": version.name,
                "version": version.version,
                "drifted": list(judgement.drifted),
                "reasons": list(judgement.reasons),
                "images": judgement.images,
                "report": report,
            },
            key=run,
            related=[events.model(version.name)],
        )
    monitoring_runs.keep_drifted(version, judgement.drifted)
