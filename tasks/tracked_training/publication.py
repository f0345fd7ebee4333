"""What a training leaves for people: tags and alias of the version, its report, and its events."""

from collections.abc import Mapping
from math import isfinite

from tasks.merge.steps import MergedDataset
from tasks.orchestration import artifacts, events
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried
from tasks.parameters import TrainingParams
from tasks.promotion.rules import Decision, decision_tags
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracking import registered_models, registry
from tasks.tracking.links import describe_run, page_links
from tasks.training.events import TrainedModel, metric_name
from tasks.training.report.markdown import training_markdown


def apply_decision(version: registry.ModelVersion, decision: Decision) -> None:
    """Tag the version with the decision; one that is promoted becomes `challenger`.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    registry.tag_version(version.name, version.version, decision_tags(decision))
    if decision.promoted:
        registry.set_alias(version.name, registered_models.CHALLENGER, version.version)


def publish_report(
    report: str,
    version: registry.ModelVersion,
    model: TrainedModel,
    dataset: MergedDataset,
    decision: Decision,
    training: TrainingParams,
) -> str:
    """Upload the page of the training, link it in MLflow, and show artifact `training-report`.

    Returns:
        The address of the page.

    Raises:
        StorageError: The object store cannot be reached.
    """
    run = flow_run_id()
    page = retried(storage_steps.write_text)(report, Bucket.RUNS, f"{run}/report.html")
    links = {"Curves and worst pictures": page}
    describe_run(version.run_id, links | decision.links | page_links(run, None, version.name, version.version))
    links |= page_links("", version.run_id, version.name, version.version)
    text = training_markdown(version.name, version.version, model, dataset.images, decision, training)
    artifacts.show_markdown("training-report", f"{links_markdown(links)}\n\n{text}")
    return page


def announce_version(
    version: registry.ModelVersion, model: TrainedModel, digests: Mapping[str, str], decision: Decision, page: str
) -> None:
    """Emit `model.trained`, and `model.promoted` or `model.refused`, once for the version.

    Args:
        version: The new version.
        model: What was trained.
        digests: The SHA-256 (hex) of each archive by name.
        decision: Whether the version is promoted, and why.
        page: The address of the report.
    """
    announce_registration(events.MODEL_TRAINED, version, model, digests, {"report": page})
    announce_decision(version, decision, digests, page)


def announce_registration(
    kind: str,
    version: registry.ModelVersion,
    model: TrainedModel,
    digests: Mapping[str, str],
    facts: Mapping[str, str],
) -> None:
    """Emit an event of this kind, once for the version; `facts` are what its payload has of its own."""
    metrics = {metric_name(name): score for name, score in model.scores.metrics.items() if isfinite(score)}
    measured = {"archives": list(digests), "digests": list(digests.values()), "metrics": metrics}
    events.emit(
        kind,
        events.version(version.name, version.version),
        payload={"model": version.name, "version": version.version, **measured, **facts},
        key=f"{version.name}/{version.version}",
        related=_related(version, digests),
    )


def announce_decision(
    version: registry.ModelVersion, decision: Decision, digests: Mapping[str, str], page: str = ""
) -> None:
    """Emit `model.promoted` or `model.refused`, once for the version; arguments are those of `announce_version`."""
    resource = events.version(version.name, version.version)
    payload = {"model": version.name, "version": version.version, "report": page, "reason": decision.sentence}
    kind = events.MODEL_PROMOTED if decision.promoted else events.MODEL_REFUSED
    refused = {} if decision.promoted else {"refused_by": "comparison", "falls_page": decision.falls_page}
    key = f"{version.name}/{version.version}"
    events.emit(kind, resource, payload=payload | refused, key=key, related=_related(version, digests))


def _related(version: registry.ModelVersion, digests: Mapping[str, str]) -> list[events.Resource]:
    return [events.model(version.name), *(events.dataset(digest, name) for name, digest in digests.items())]
