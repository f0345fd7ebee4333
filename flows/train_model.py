"""Several archives in, one registered model version out."""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from tasks.errors import StudioError
from tasks.export.steps import export_onnx
from tasks.files import sha256_of
from tasks.merge import steps as merge_steps
from tasks.merge.fingerprint import plan_digest
from tasks.merge.report import plan_facts, plan_markdown
from tasks.orchestration import artifacts, current_run, flow_runs, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.orchestration.step import retried
from tasks.parameters import (
    Archive,
    Archives,
    BaseModelName,
    MergePolicy,
    ModelName,
    PromotionPolicy,
    TrainingParams,
    ValidationPolicy,
)
from tasks.promotion.rules import GOLD, VALIDATION, Decision, EvaluatedVersion, decide, decision_tags
from tasks.rendering.links import links_markdown
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.tracking import links as pages
from tasks.tracking import live_metrics, registry, runs
from tasks.tracking.lineage import PLAN_ARTIFACT, lineage_tags
from tasks.tracking.payloads import run_parameters, version_description
from tasks.training import steps as training_steps
from tasks.training.checkpoint_store import CheckpointStore
from tasks.training.checkpoints import fingerprint
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import EvaluationTarget
from tasks.training.progress import EpochProgress
from tasks.training.report.html import training_page
from tasks.training.report.markdown import training_markdown
from tasks.validation import steps as validation_steps


@flow
@outcome.fail_flow_with_message
def train_model(
    model_name: ModelName,
    archives: Archives,
    base_model: BaseModelName = "yolo11n.pt",
    training: TrainingParams = TrainingParams(),
    merge: MergePolicy = MergePolicy(),
    promotion: PromotionPolicy = PromotionPolicy(),
) -> State:
    """Validate and merge the archives, train from `base_model`, and register the result.

    The new version becomes `challenger` when it reaches what `promotion` asks for. A run that was killed goes on after
    its last finished epoch when it is retried.
    """
    runs.close_orphaned_runs(flow_runs.flow_run_is_final)
    with scratch_folder("train") as folder:
        start = _base_model(base_model, folder / "base")
        sources = [_validate_archive(archive, folder) for archive in archives]
        gold = _validate_archive(promotion.gold, folder) if promotion.gold else None
        current_run.log_step("merging %d archives", len(sources))
        plan = merge_steps.plan_archives(sources, merge, gold)
        artifacts.show_markdown("merge-plan", plan_markdown(plan))
        merge_steps.require_mergeable(plan, merge)
        dataset = merge_steps.write_merge(sources, plan, folder / "dataset", gold)
        registry.require_task(model_name, dataset.task)

        planned = plan_digest(plan)
        mark = fingerprint(planned, base_model, training)
        checkpoints = CheckpointStore(current_run.flow_run_id(), mark)
        carried_on = checkpoints.exist()
        if training.rehearse and not carried_on:
            _run_smoke_test(dataset, start, training, folder)

        digests = {source.name: source.digest for source in sources}
        base = sha256_of(Path(start)) if Path(start).is_file() else None
        tags = lineage_tags(digests, dataset.class_names, base_model, base, current_run.flow_run_id(), planned)
        parameters = run_parameters(model_name, training.model_dump(), base_model, digests)
        run_id, tags = runs.open_run(current_run.flow_run_name(), mark, tags, parameters, carried_on)
        pages.describe_run(run_id, pages.page_links(current_run.flow_run_id()))
        with runs.closing_run(run_id):
            runs.log_inputs(run_id, digests, planned)
            runs.log_json(run_id, plan_facts(plan), PLAN_ARTIFACT)
            runs.log_json(run_id, {"merge": merge.model_dump(), "promotion": promotion.model_dump()}, "policies.json")
            job = training_steps.training_job(dataset.data, dataset.task, start, training, folder / "training")
            epochs, owner, told = live_metrics.EpochLogger(run_id), flow_runs.OwnershipGuard(), list[EpochResult]()
            progress = EpochProgress("training-progress")
            listeners: list[training_steps.EpochListener] = [progress, epochs, told.append, owner.stop_if_suspended]
            current_run.log_step("training %d epochs on %d images", training.epochs, dataset.images["train"])
            with live_metrics.system_metrics(run_id):
                model = training_steps.train(job, checkpoints, listeners, owner)
            epochs.flush()
            storage_steps.upload_weights(model.weights, current_run.flow_run_id())
            runs.log_training(run_id, model)
            runs.log_artifact(run_id, merge_steps.write_sample(dataset, folder))
            owner()
            registered = _register_version(model_name, run_id, model, training.imgsz, tags)
            decision = _decide_promotion(registered, model, dataset, training, promotion)
            runs.log_decision(run_id, decision)
            report = _report(registered, model, told, decision)
            runs.log_page(run_id, report, "report.html")

    registry.tag_version(model_name, registered.version, decision_tags(decision))
    if decision.promoted:
        registry.set_alias(model_name, registry.CHALLENGER, registered.version)
    page = training_markdown(model_name, registered.version, model, dataset.images, decision, training.batch)
    artifacts.show_markdown("training-report", f"{links_markdown(_publish_report(registered, report))}\n\n{page}")
    return outcome.completed(f"{model_name} {decision.sentence}")


def _base_model(base_model: BaseModelName, folder: Path) -> str:
    """What Ultralytics begins from: weights of the registry or of bucket base-models, or a name that it knows."""
    current_run.log_step("looking for base model %s", base_model)
    folder.mkdir()
    weights = retried(registry.fetch_registered_base_model)(base_model, folder)
    weights = weights or retried(storage_steps.fetch_base_model)(base_model, folder)
    return training_steps.resolve_base_model(base_model, weights, folder)


def _validate_archive(archive: Archive, folder: Path) -> merge_steps.ValidArchive:
    """An archive that was found valid; one that is not ends the run, with the address of its report."""
    current_run.log_step("checking %s", archive)
    path, digest = retried(storage_steps.fetch_archive)(archive, folder)
    checked = validation_steps.check_archive(path, archive, digest, ValidationPolicy())
    page = f"{current_run.flow_run_id()}/datasets/{digest}.html"
    validation_steps.require_valid(checked.report, storage_steps.write_text(checked.page, Bucket.RUNS, page))
    return merge_steps.valid_archive(archive, path, checked.report, checked.traits)


def _run_smoke_test(dataset: merge_steps.MergedDataset, start: str, training: TrainingParams, folder: Path) -> None:
    """Go through the whole chain on a few small images: what would fail after hours fails now."""
    current_run.log_step("rehearsing: load, train, evaluate and export on a few small images")
    few = merge_steps.write_smoke_test_subset(dataset, folder / "few")
    job = training_steps.training_job(few, dataset.task, start, training, folder / "rehearsal")
    weights = training_steps.run_smoke_test(job, training).weights
    export_onnx(weights, folder / "rehearsal" / "export", training_steps.SMOKE_TEST_IMAGE_SIZE)


def _register_version(
    model_name: str, run_id: str, model: TrainedModel, image_size: int, tags: dict[str, str]
) -> registry.ModelVersion:
    """The best weights as the next version of the model, with links to what made it."""
    current_run.log_step("registering %s", model_name)
    links = links_markdown(pages.page_links(current_run.flow_run_id(), run_id))
    described = version_description(model, image_size, tags, links)
    version = registry.register_version(model_name, run_id, model, image_size, tags, described)
    return registry.ModelVersion(
        name=model_name,
        version=version,
        run_id=run_id,
        task=model.task,
        image_size=image_size,
        class_names=model.class_names,
    )


def _decide_promotion(
    challenger: registry.ModelVersion,
    model: TrainedModel,
    dataset: merge_steps.MergedDataset,
    training: TrainingParams,
    promotion: PromotionPolicy,
) -> Decision:
    """Whether the new version is promoted: measured against the champion on the same images, where there is one."""
    champion = registry.find_champion(challenger.name)
    if champion is None and dataset.gold is None:
        alone = EvaluatedVersion(
            version=challenger.version,
            task=model.task,
            class_names=model.class_names,
            scores={VALIDATION: model.scores},
        )
        return decide(alone, None, promotion)
    rival_name = f"champion, version {champion.version}" if champion else "gold archive"
    current_run.log_step("comparing version %d with the %s", challenger.version, rival_name)
    folder, training = model.folder.parent, training.model_copy(update={"batch": model.batch})
    measured = _evaluate_version(challenger, model.weights, dataset, training, folder / "challenger")
    rival = _evaluate_version(champion, None, dataset, training, folder / "champion") if champion else None
    return decide(measured, rival, promotion)


def _evaluate_version(
    version: registry.ModelVersion,
    weights: Path | None,
    dataset: merge_steps.MergedDataset,
    training: TrainingParams,
    folder: Path,
) -> EvaluatedVersion:
    """A version with its scores on the validation split and on the gold archive; without, where they cannot be had."""
    data = {VALIDATION: dataset.data} | ({GOLD: dataset.gold} if dataset.gold else {})
    known = (dataset.task, dataset.class_names)
    scores = {}
    try:
        found = weights or retried(registry.fetch_weights)(version, folder / "weights")
        views = [
            merge_steps.write_relabelled_split(data[name], *known, version.class_names, folder / name) for name in data
        ]
        subjects = [EvaluationTarget(weights=found, data=view, image_size=version.image_size) for view in views]
        scores = dict(zip(data, training_steps.evaluate(subjects, dataset.task, training, folder), strict=True))
    except StudioError as error:  # the version is registered; without scores it is not promoted
        get_run_logger().warning("version %d could not be measured: %s", version.version, error)
    return EvaluatedVersion(version=version.version, task=version.task, class_names=version.class_names, scores=scores)


def _report(version: registry.ModelVersion, model: TrainedModel, epochs: list[EpochResult], decision: Decision) -> str:
    """The page of the training: its curves, and the pictures in which the version does worst."""
    links = pages.page_links(current_run.flow_run_id(), version.run_id, version.name, version.version)
    return training_page(f"{version.name} version {version.version}", model, epochs, decision, links)


def _publish_report(version: registry.ModelVersion, report: str) -> dict[str, str]:
    """The links to that page and to those of MLflow; the run in MLflow gets those to all pages but its own."""
    run = current_run.flow_run_id()
    page = retried(storage_steps.write_text)(report, Bucket.RUNS, f"{run}/report.html")
    links = {"Curves and worst pictures": page}
    pages.describe_run(version.run_id, links | pages.page_links(run, None, version.name, version.version))
    return links | pages.page_links("", version.run_id, version.name, version.version)
