"""The thresholds that live predictions take with `confidence` auto: those that a version has when it is deployed."""

from collections.abc import Mapping

from tasks.errors import StudioError
from tasks.orchestration.artifacts import show_markdown
from tasks.orchestration.current_run import run_logger
from tasks.parameters import DEFAULT_CONFIDENCE
from tasks.rendering.markdown import escape_markdown, table
from tasks.tracking.evaluation_runs import KeptThresholds, find_thresholds


def read_live_thresholds(model_name: str, version: int) -> Mapping[str, float] | None:
    """Return the thresholds that are kept with a version, by class name, and show them as artifact `thresholds`.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    return _show(model_name, version, find_thresholds(model_name, version))


def read_live_thresholds_once(model_name: str, version: int) -> Mapping[str, float] | None:
    """Return the same, or None if they cannot be read at once: a roll-back waits for no thresholds."""
    try:
        kept = find_thresholds.fn(model_name, version)
    except StudioError as error:
        run_logger().warning("live predictions get no thresholds and refuse confidence auto: %s", error)
        return None
    return _show(model_name, version, kept)


def _show(model_name: str, version: int, kept: KeptThresholds | None) -> Mapping[str, float] | None:
    show_markdown("thresholds", thresholds_markdown(f"{model_name} version {version}", kept))
    return kept.by_class if kept else None


def thresholds_markdown(title: str, kept: KeptThresholds | None) -> str:
    """Return the thresholds of a version that is deployed, and where they come from."""
    if kept is None:
        return (
            f"No thresholds are kept with {title}, so its live predictions refuse `confidence` auto. "
            "Run evaluate-model on it, then deploy it again."
        )
    source = escape_markdown(f"split {kept.split} of {', '.join(kept.archives)} by flow run {kept.flow_run_id}")
    rows = [(name, f"{value:.3f}") for name, value in kept.by_class.items()]
    return (
        f"With `confidence` auto, live predictions of {title} take these thresholds, computed on {source}, and "
        f"{DEFAULT_CONFIDENCE} for other classes. Those of a later evaluation reach them when the version is deployed "
        f"again.\n\n{table(('class', 'threshold'), rows)}"
    )
