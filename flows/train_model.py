"""Several archives in, one registered model version out."""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import merging, reporting, storage, tracking, validation
from tasks import training as trainer
from tasks.core.buckets import Bucket
from tasks.core.lineage import lineage_tags
from tasks.core.merge.page import plan_facts, plan_markdown
from tasks.core.parameters import (
    Archives,
    BaseModelName,
    MergePolicy,
    ModelName,
    PromotionPolicy,
    TrainingParams,
    ValidationPolicy,
)
from tasks.core.promotion import decide
from tasks.core.scratch import scratch_folder
from tasks.core.training_page import training_markdown


@flow
@reporting.fails_with_reason
def train_model(
    model_name: ModelName,
    archives: Archives,
    base_model: BaseModelName = "yolo11n.pt",
    training: TrainingParams = TrainingParams(),
    merge: MergePolicy = MergePolicy(),
    promotion: PromotionPolicy = PromotionPolicy(),
) -> State:
    """Validate and merge the archives, train from `base_model`, and register the result.

    The new version becomes `challenger` when it reaches what `promotion` asks for.
    """
    with scratch_folder("train") as folder:
        sources, digests = [], {}
        for archive in archives:
            path, digests[archive] = storage.fetch_archive(archive, folder)
            checked = validation.check_archive(path, archive, digests[archive], ValidationPolicy())
            page = f"{reporting.flow_run_id()}/datasets/{digests[archive]}.html"
            validation.require_valid(checked.report, storage.write_text(checked.page, Bucket.RUNS, page))
            sources.append(merging.valid_archive(archive, path, checked.report, checked.traits))
        start = trainer.prepare_base_model(base_model, storage.fetch_base_model(base_model, folder), folder)
        plan = merging.plan_archives(sources, merge)
        reporting.show_markdown("merge-plan", plan_markdown(plan))
        merging.require_mergeable(plan, merge)
        dataset = merging.write_merge(sources, plan, folder / "dataset")

        tags = lineage_tags(digests, dataset.class_names, base_model, reporting.flow_run_id())
        run_id = tracking.start_run(
            reporting.flow_run_name(),
            tags | {"model_name": model_name},
            training.model_dump() | {"base_model": base_model},
        )
        with tracking.closing_run(run_id):
            tracking.log_facts(run_id, plan_facts(plan), "merge-plan.json")
            listeners: list[trainer.EpochListener] = [
                reporting.EpochProgress("training-progress"),
                tracking.EpochLogger(run_id),
            ]
            model = trainer.train_detector(dataset.data, start, training, folder, listeners)
            storage.keep_weights(Path(model.weights), reporting.flow_run_id())
            tracking.log_training(run_id, model)
            version = tracking.register_version(model_name, run_id, model, training.imgsz, tags)

    decision = decide(model.metrics, promotion)
    if decision.promoted:
        tracking.set_alias(model_name, tracking.CHALLENGER, version)
    reporting.show_markdown("training-report", training_markdown(model_name, version, model, dataset.images, decision))
    return reporting.completed(f"{model_name} version {version}: {decision.reason}")
